"""What is kept between sessions in Slicer's settings: the last choices, and how long runs took on this computer."""

import json
from statistics import median

import slicer

from .words import _

CHOICES = ("model", "modelFolder", "device", "threads", "refine", "atlases", "fusion", "similarity", "registerModel",
           "steps", "standardNames")  # fmt: skip
PREFIX = "CLMorph/"
TIMES_KEPT = 5


def remember(parameters) -> None:
    """Keep the choices of the window that do not belong to one patient."""
    settings = slicer.app.userSettings()
    for name in CHOICES:
        value = getattr(parameters, name)
        settings.setValue(PREFIX + name, json.dumps(getattr(value, "value", value)))


def recall(parameters) -> None:
    """Give new parameters the choices of the last session; what no longer fits is left as it is."""
    settings = slicer.app.userSettings()
    for name in CHOICES:
        text = settings.value(PREFIX + name)
        if text is None:
            continue
        try:
            kind = type(getattr(parameters, name))
            setattr(parameters, name, kind(json.loads(text)))
        except (ValueError, TypeError):
            continue


def time_key(task: str, model: str, device: str, refine: int, atlases: int) -> str:
    """What decides how long a run takes, beside the image."""
    return "|".join((task, model.replace("/", "_").replace("\\", "_"), device, str(refine), str(atlases)))


def add_time(key: str, seconds: float) -> None:
    """Keep how long a run took."""
    times = [*_times(key), round(seconds, 1)][-TIMES_KEPT:]
    slicer.app.userSettings().setValue(f"{PREFIX}times/{key}", json.dumps(times))


def time_told(key: str) -> str:
    """How long such a run takes on this computer, by the last ones; that there was none yet."""
    times = _times(key)
    if not times:
        return _("not run on this computer yet")
    seconds = median(times)
    if seconds < 90:
        return _("about {seconds:.0f} s on this computer, by earlier runs").format(seconds=seconds)
    return _("about {minutes:.0f} min on this computer, by earlier runs").format(minutes=seconds / 60)


def _times(key: str) -> list[float]:
    try:
        times = json.loads(slicer.app.userSettings().value(f"{PREFIX}times/{key}") or "[]")
        return [float(each) for each in times]
    except (ValueError, TypeError):
        return []
