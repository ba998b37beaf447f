"""What is kept between sessions in Slicer's settings: the last choices."""

import json

import slicer

from .models import shipped_models

CHOICES = ("model", "modelFolder", "device", "threads", "effort", "refine", "atlases", "fusion", "tissue", "similarity",
           "registerModel", "steps", "standardNames", "safeColors")  # fmt: skip
MODELS = ("model", "registerModel")
FOLDER = "folder:"  # the choice of a model that is not shipped
PREFIX = "CLMorph/"


def remember(parameters) -> None:
    """Keep the choices of the window that do not belong to one patient."""
    settings = slicer.app.userSettings()
    for name in CHOICES:
        value = getattr(parameters, name)
        settings.setValue(PREFIX + name, json.dumps(getattr(value, "value", value)))


def recall(parameters) -> None:
    """Give new parameters the choices of the last session; what no longer fits is left as it is."""
    settings, known = slicer.app.userSettings(), {"", FOLDER, *(card.name for card in shipped_models())}
    for name in CHOICES:
        text = settings.value(PREFIX + name)
        if text is None:
            continue
        try:
            kind = type(getattr(parameters, name))
            value = kind(json.loads(text))
            if name not in MODELS or value in known:
                setattr(parameters, name, value)
        except (ValueError, TypeError):
            continue
