"""The choices of the window: each value is the word of the engine or of the library, each label that of a person."""

import enum

from . import presets
from .words import _


class Task(enum.Enum):
    """What the window is used for; the order is that of its tabs."""

    SEGMENT = "segment"
    REGISTER = "register"


class Scope(enum.Enum):
    """What one press on Segment works on."""

    ONE = "one"
    FRAMES = "frames"
    SEVERAL = "several"

    def label(self) -> str:
        return {"one": _("This image"), "frames": _("All frames of its sequence"), "several": _("Several images")}[
            self.value
        ]


class Effort(enum.Enum):
    """How much time a segmentation may take; the value is the engine's word for it. The first is the default."""

    BALANCED = presets.BALANCED
    FAST = presets.FAST
    BEST = presets.BEST


class Tissue(enum.Enum):
    """Whether labels follow the image's own tissue; the value is the engine's word for it."""

    AUTOMATIC = presets.AUTOMATIC
    ON = presets.ON
    OFF = presets.OFF

    def label(self) -> str:
        return {"auto": _("Automatic"), "on": _("On"), "off": _("Off")}[self.value]


class BrainExtraction(enum.Enum):
    """Whether the brain is taken out of a head first; the value is the engine's word for it."""

    AUTOMATIC = presets.AUTOMATIC
    ALWAYS = presets.ON
    NEVER = presets.OFF

    def label(self) -> str:
        return {"auto": _("Automatic"), "on": _("Always"), "off": _("Never")}[self.value]


class FrameChoice(enum.Enum):
    """What is done with the frames of a sequence; the value is the word of Options."""

    AUTOMATIC = presets.AUTOMATIC
    FOLLOW = presets.FOLLOW
    EACH = presets.EACH

    def label(self) -> str:
        return {"auto": _("Automatic"), "follow": _("One is segmented, the others follow"),
                "each": _("Each by itself")}[self.value]  # fmt: skip


class Similarity(enum.Enum):
    """What a registration compares; the value is the engine's word for it."""

    LNCC = "lncc"
    MIND = "mind"

    def label(self) -> str:
        return {"lncc": _("Same contrast (local correlation)"), "mind": _("Different contrast (MIND)")}[self.value]


class Device(enum.Enum):
    """Where the engine computes; the value is the engine's word for it."""

    AUTOMATIC = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"

    def label(self) -> str:
        return {"auto": _("Automatic"), "cpu": _("CPU"), "cuda": _("NVIDIA graphics card (CUDA)"),
                "mps": _("Apple graphics processor (MPS)")}[self.value]  # fmt: skip


class Alignment(enum.Enum):
    """How the images are brought roughly onto each other."""

    AUTOMATIC = "automatic"
    TRANSFORM = "transform"
    NONE = "none"
    START = "start"

    def label(self) -> str:
        return {"automatic": _("Automatic (affine registration)"), "transform": _("A linear transform of the scene"),
                "none": _("None: they lie on each other already"),
                "start": _("Automatic, from a transform on")}[self.value]  # fmt: skip


class Fusion(enum.Enum):
    """How several atlases vote; the value is the engine's word for it."""

    SIMILARITY = "similarity"
    MAJORITY = "majority"
    STAPLE = "staple"

    def label(self) -> str:
        return {"similarity": _("By local similarity"), "majority": _("Majority"), "staple": _("STAPLE")}[self.value]


class Mode(enum.Enum):
    """How the deformation is drawn; the value is the word of CLMorphSlicerLib.display."""

    GRID = "grid"
    GLYPH = "glyph"
    CONTOUR = "contour"

    def label(self) -> str:
        return {"grid": _("Grid"), "glyph": _("Arrows"), "contour": _("Contours")}[self.value]
