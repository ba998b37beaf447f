"""The words of the window: translated, and used in place of the engine's names of parameters."""

import re

try:
    from slicer.i18n import tr as _
except ImportError:  # the MRML library alone, or a job that is started without Slicer

    def _(text: str) -> str:
        return text


def labels() -> dict[str, str]:
    """What the window calls a parameter of the engine; `name=value` where a value has words of its own."""
    return {
        "affine": _("Initial alignment"),
        "atlas": _("Atlas image"),
        "atlas_labels": _("Atlas labels"),
        "atlases": _("Atlases to use"),
        "brain_extraction": _("Brain extraction"),
        "brain_extraction=auto": _("Brain extraction: Automatic"),
        "brain_extraction=on": _("Brain extraction: Always"),
        "brain_extraction=off": _("Brain extraction: Never"),
        "effort": _("Speed"),
        "device": _("Compute on"),
        "device=auto": _("Compute on: Automatic"),
        "device=cpu": _("Compute on: CPU"),
        "fixed": _("Fixed image"),
        "frames": _("Frames"),
        "initial": _("Initial alignment"),
        "fusion": _("Fusion"),
        "image": _("Image to segment"),
        "label_names": _("Atlas labels"),
        "labels": _("Atlas labels"),
        "landmarks": _("Landmarks in fixed"),
        "mask": _("Leave out"),
        "model": _("Model"),
        "most_similar": _("Atlases to use"),
        "moving": _("Moving image"),
        "moving_labels": _("Labels to carry along"),
        "moving_mask": _("Leave out of moving"),
        "optimization": _("Refinement steps"),
        "refine": _("Refinement steps"),
        "similarity": _("Similarity"),
        "similarity=lncc": _("Similarity: Same contrast (local correlation)"),
        "similarity=mind": _("Similarity: Different contrast (MIND)"),
        "threads": _("Threads"),
        "tissue": _("Follow the scan's tissue"),
    }


def step_name(step: str) -> str:
    """The engine's word for what it is doing, in the person's language; one that is not known stays."""
    known = {
        "reading": _("reading"),
        "brain": _("brain extraction"),
        "affine": _("affine"),
        "network": _("network"),
        "refinement": _("refinement"),
        "labels": _("labels"),
        "fusion": _("fusion"),
        "quality": _("quality"),
        "report": _("report"),
        "writing": _("writing"),
    }
    frame = re.fullmatch(r"frame (\d+)", step)  # of a series, whose others follow one
    return _("frame {number}").format(number=frame.group(1)) if frame else known.get(step, step)


def in_window_words(text: str) -> str:
    """An engine's sentence with each `parameter` or `parameter=value` in backticks named as the window names it."""
    known = labels()

    def named(match: re.Match) -> str:
        given = match.group(1)
        name, equals, value = given.partition("=")
        if given in known:
            return f"“{known[given]}”"
        return f"“{known[name]}{': ' if equals else ''}{value}”" if name in known else given

    return re.sub(r"`([^`]+)`", named, text)


def engine_sentence(event: dict) -> str:
    """What the engine's error event tells, for the person at the window; empty where it tells nothing."""
    if not event.get("problem"):  # engines of version 0.1 give one message
        return str(event.get("message") or "")
    parts = [str(event["problem"]), str(event.get("remedy") or "")]
    return in_window_words("; ".join(part for part in parts if part))
