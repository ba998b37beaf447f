"""CLMorphCore: registration-based segmentation of 3D medical images with networks trained without labels.

    from CLMorphCore import load_model, segment
    segment(sitk.ReadImage("t1.nii.gz"), load_model("brain")).labels

The public names stand in ``__all__``; each is loaded when it is first used: importing the package costs nothing.
Everything that can go wrong for a user is a ``CLMorphError``; the module ``errors`` draws their tree.

Conventions, everywhere in this package
---------------------------------------
fixed         the image to be segmented; its grid is the output grid (the paper's *unaligned* image)
moving        the atlas image that is warped onto ``fixed`` (the paper's *reference*)
transform     maps a point of fixed to the point of moving, LPS, mm: warped(p) = moving(T(p)), T = D ∘ A
displacement  tensor (B, 3, D, H, W) in voxels of the network grid, components (z, y, x):
              warped(x) = moving(x + u(x))
velocity      stationary velocity field, same layout: u = exp(v), its inverse is exp(−v)
sampling      voxel centres at integers (``align_corners=True``); trilinear; ``border`` when composing fields,
              ``zeros`` when warping images
axes          SimpleITK's and files' triples are (x, y, z), everything else of the engine is (z, y, x)

Two worlds and one bridge: SimpleITK images and transforms are in millimetres, torch tensors in voxels, and
``geometry`` is the only module that knows both.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .applying.images import apply
    from .applying.maps import Step, map_points
    from .bundles.atlas import Atlas, Structure, read_atlas, read_atlases, save_atlas
    from .bundles.config import Config, load_config
    from .bundles.model import Model, load_model
    from .bundles.template import build_atlas, build_each
    from .errors import Cancelled, CLMorphError, InputError
    from .evaluating.pairs import PairsEvaluation, evaluate_pairs
    from .evaluation import Evaluation, evaluate
    from .guidance.landmarks import Landmarks
    from .instance_optimization import InstanceOptimization
    from .io.images import read_image, read_labels
    from .io.manifest import Subject, read_manifest
    from .io.pairs import PairFiles, read_pairs
    from .io.points import read_landmarks
    from .io.series import ImageSeries, read_series
    from .matching import PreparedAtlas, prepare, prepare_image
    from .registration import Registration, register
    from .reports.report import Report
    from .segmentation import Segmentation, prepare_atlases, segment
    from .series.registration import SeriesRegistration, register_series
    from .series.segmentation import SeriesSegmentation, segment_series
    from .training.loop import train

__version__ = "0.1.0"

_MODULES = {
    "applying.images": ("apply",),
    "applying.maps": ("Step", "map_points"),
    "bundles.atlas": ("Atlas", "Structure", "read_atlas", "read_atlases", "save_atlas"),
    "bundles.config": ("Config", "load_config"),
    "bundles.model": ("Model", "load_model"),
    "bundles.template": ("build_atlas", "build_each"),
    "errors": ("CLMorphError", "Cancelled", "InputError"),
    "evaluating.pairs": ("PairsEvaluation", "evaluate_pairs"),
    "evaluation": ("Evaluation", "evaluate"),
    "guidance.landmarks": ("Landmarks",),
    "instance_optimization": ("InstanceOptimization",),
    "io.images": ("read_image", "read_labels"),
    "io.manifest": ("Subject", "read_manifest"),
    "io.pairs": ("PairFiles", "read_pairs"),
    "io.points": ("read_landmarks",),
    "io.series": ("ImageSeries", "read_series"),
    "matching": ("PreparedAtlas", "prepare", "prepare_image"),
    "registration": ("Registration", "register"),
    "reports.report": ("Report",),
    "segmentation": ("Segmentation", "prepare_atlases", "segment"),
    "series.registration": ("SeriesRegistration", "register_series"),
    "series.segmentation": ("SeriesSegmentation", "segment_series"),
    "training.loop": ("train",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Atlas",
    "CLMorphError",
    "Cancelled",
    "Config",
    "Evaluation",
    "ImageSeries",
    "InputError",
    "InstanceOptimization",
    "Landmarks",
    "Model",
    "PairFiles",
    "PairsEvaluation",
    "PreparedAtlas",
    "Registration",
    "Report",
    "Segmentation",
    "SeriesRegistration",
    "SeriesSegmentation",
    "Step",
    "Structure",
    "Subject",
    "__version__",
    "apply",
    "build_atlas",
    "build_each",
    "evaluate",
    "evaluate_pairs",
    "load_config",
    "load_model",
    "map_points",
    "prepare",
    "prepare_atlases",
    "prepare_image",
    "read_atlas",
    "read_atlases",
    "read_image",
    "read_labels",
    "read_landmarks",
    "read_manifest",
    "read_pairs",
    "read_series",
    "register",
    "register_series",
    "save_atlas",
    "segment",
    "segment_series",
    "train",
]


def __getattr__(name: str) -> Any:
    """A public name, imported from its module now (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
