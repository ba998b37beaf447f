"""Every setting of a training, in one frozen tree; read from TOML, written into the weights' header.

The defaults are the paper's settings where the paper states them; those of another network's paper, where
``network.name`` is another network. Files give what differs along the axes as [x, y, z], as their users know it;
here, as everywhere in the engine, it is (z, y, x): ``from_dict`` and ``to_dict`` are where one becomes the other.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ..errors import SettingError, did_you_mean
from ..io.files import read_toml, short
from ..networks import Capabilities, system

AlignmentKind = Literal["affine", "centres", "given"]


@dataclass(frozen=True)
class DataConfig:
    """How scans become volumes on the network's grid."""

    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)  # of the network's grid; 0: as the reference's
    margin_voxels: tuple[int, int, int] = (4, 4, 4)  # around the reference, where the field fades out
    # affine: every scan is aligned with the reference | centres: by centres and axes alone, for stacks of slices, scans
    # of one group among themselves not at all | given: they lie aligned already; a new scan is aligned affinely
    alignment: AlignmentKind = "affine"
    reference: str = ""  # image that scans are aligned with; empty: the first training subject's


@dataclass(frozen=True)
class LossConfig:
    """recon + smooth · regulariser + contrast · contrastive + …: equation 9 (α is ``smooth``, β is ``contrast``).

    The terms after the paper's are those of other systems; which network can have which, ``check_trainable`` knows.
    """

    similarity: Literal["mse", "ncc", "lncc"] = "mse"  # equation 7; correlation of whole images; of windows
    sigma: float = 0.1  # σ of equation 7, in units of the normalised intensity
    window_voxels: tuple[int, int, int] = (9, 9, 9)  # of the local cross-correlation
    regulariser: Literal["kl", "diffusion"] = "kl"  # equation 6, for probabilistic networks; or of the displacement
    smooth: float = 1.0  # α
    contrast: float = 0.01  # β; 0 turns the contrastive loss off
    contrastive: Literal["nt-xent", "byol"] = "nt-xent"  # nt-xent is equation 8
    # what it draws together: the two images of a pair, as the paper does, or two random views of each image
    contrasted: Literal["pair", "views"] = "pair"
    temperature: float = 0.5  # τ
    voxel_contrast: float = 0.0  # weight of the voxel-wise contrast of fixed and warped moving features
    voxel_temperature: float = 0.1  # its τ
    symmetric: bool = False  # similarity in both directions, with the inverse map
    coarse: float = 0.0  # weight of the similarity at the network's coarser levels
    folding: float = 0.0  # weight of max(0, −det J)
    penalty: float = 0.0  # weight of the network's own penalty, for instance of an affine stage that is no rotation


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of each training pair."""

    flip: Literal["x", "y", "z", "none"] = "y"  # axis that is mirrored in half of the pairs
    rotation_degrees: float = 10.0  # about each axis, at most, each image for itself
    crop: tuple[int, int, int] = (160, 192, 160)  # voxels; smaller grids stay whole
    # share of the images that the network sees under another contrast, bias, sharpness and noise; losses see the scans
    views: float = 0.0


@dataclass(frozen=True)
class TrainingConfig:
    """Optimisation. The learning rate is multiplied by ``decay_factor`` every ``decay_every`` steps.

    ``minutes`` ends the training early, after so much computing: processor time per thread on a CPU, which other
    programs do not shorten, wall time on a GPU. The schedule then follows the minutes.
    """

    steps: int = 800  # 200 epochs of 30 subjects in batches of 8
    minutes: float = 0.0  # 0: no limit
    batch_size: int = 8  # pairs of a step, of all processes together
    learning_rate: float = 3e-3  # of Adam
    schedule: Literal["step", "cosine"] = "step"  # the paper's; to zero at the last step
    decay_every: int = 80  # steps, of the schedule "step"
    decay_factor: float = 0.1  # of the learning rate, each time
    warm_up: int = 0  # steps in which the learning rate rises to what the schedule says, evenly
    # moving image of a pair: any, the reference, one of the same group (a patient's other scan), or half of each kind
    moving: Literal["random", "reference", "group", "mixed"] = "random"
    seed: int = 0  # of weights, pairs and augmentation
    checkpoint_every: int = 100  # steps
    validate_every: int = 100  # steps


@dataclass(frozen=True)
class RefinementConfig:
    """Instance optimization after the trained network, as ``InstanceOptimization``; not used in training.

    Lengths are in voxels of the images, for the window, or else of the field at each resolution.
    """

    # the finest field has every voxel of the images, not every second: for images of low noise
    every_voxel: bool = False
    # the change since the network's map | the whole map, of which then no more is kept than its coarsest resolution has
    smoothed: Literal["change", "map"] = "change"
    # when nothing improves any more | after few short steps, before noise is fitted: for noisy images
    ends: Literal["converged", "early"] = "converged"
    smooth_map_voxels: float = 0.0  # standard deviation of that smoothing; 0: by the images' noise
    smooth_step_voxels: float = 0.0  # and of that of each step, likewise
    window_voxels: int = 0  # of the local cross-correlation; 0: as in training, or by the images' noise
    smooth_map_mm: float = 0.0  # the same three in mm along the finest axis, at the finest resolution;
    smooth_step_mm: float = 0.0  # above 0 each is instead
    window_mm: float = 0.0  # of the one in voxels


@dataclass(frozen=True)
class NetworkConfig:
    """Which network; its own settings stand in the same table of the file."""

    name: str = "clmorph"
    settings: Any = None  # the dataclass beside the network

    def __post_init__(self) -> None:
        if self.settings is None:
            object.__setattr__(self, "settings", system(self.name).settings())

    @property
    def capabilities(self) -> Capabilities:
        """What the network can do with these settings."""
        return system(self.name).capabilities(self.settings)


@dataclass(frozen=True)
class Config:
    """All settings of a model."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    refinement: RefinementConfig = field(default_factory=RefinementConfig)


ONE_FOR_ALL_AXES = ("data.margin_voxels", "loss.window_voxels", "network.force_window_voxels")  # or one for each
PER_AXIS = (  # x, y, z in files, (z, y, x) here
    "data.spacing_mm",
    "data.margin_voxels",
    "loss.window_voxels",
    "augment.crop",
    "network.capture_voxels",
    "network.force_window_voxels",
    "network.smoothing_voxels",
)
POSITIVE = (
    "loss.sigma",
    "loss.window_voxels",
    "loss.temperature",
    "loss.voxel_temperature",
    "training.steps",
    "training.batch_size",
    "training.learning_rate",
    "training.decay_every",
    "training.checkpoint_every",
    "training.decay_factor",
    "training.validate_every",
    "network.channels",
    "network.width",
    "network.decoder",
    "network.cascades",
    "network.embedding",
    "augment.crop",
    "network.blocks",
    "network.dilations",
    "network.capture_voxels",
    "network.iterations",
    "network.latent",
    "network.smoothing_voxels",
)
NOT_NEGATIVE = (
    "training.warm_up",
    "data.spacing_mm",
    "data.margin_voxels",
    "loss.smooth",
    "loss.contrast",
    "loss.voxel_contrast",
    "loss.coarse",
    "loss.folding",
    "loss.penalty",
    "augment.rotation_degrees",
    "training.seed",
    "training.minutes",
    "network.field_level",
    "network.flat_levels",
    "network.force_window_voxels",
    "refinement.smooth_map_voxels",
    "refinement.smooth_step_voxels",
    "refinement.window_voxels",
    "refinement.smooth_map_mm",
    "refinement.smooth_step_mm",
    "refinement.window_mm",
)
MAX_REFINEMENT = 50.0  # of a length of the refinement
MAX_SIZE = 1_000_000  # of a whole number, but for those of a network, and of steps, seeds and the like
MAX_WHOLE = {"network.": 10_000, "training.": 2**53}
MAX_NUMBERS = 64  # of a list
MAX_SHOWN = 80  # characters of what was given
TYPES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Settings of a training from a TOML file and ``section.key=value`` overrides; InputError for what does not fit."""
    tree = read_toml(Path(path), "a TOML file with settings")
    for override in overrides:
        _set(tree, override)
    with in_file(path) if not overrides else nullcontext():
        config = from_dict(tree)
        check_trainable(config)
    return config


@contextmanager
def in_file(path: str | Path) -> Iterator[None]:
    """A SettingError within says which file the setting stands in."""
    try:
        yield
    except SettingError as error:
        raise SettingError(f"{path}: {error.problem}", error.remedy) from None


def from_dict(tree: Mapping[str, Any]) -> Config:
    """The inverse of ``to_dict``; SettingError for an unknown setting, and for a value of another type or range."""
    sections = get_type_hints(Config)
    for name in tree:
        if name not in sections:
            raise SettingError(f"unknown section {name[:MAX_SHOWN]}{did_you_mean(name[:MAX_SHOWN], sections)}")
        if not isinstance(tree[name], Mapping):
            raise SettingError(f"{name} is {short(tree[name])}; expected a table [{name}] of settings")
    tree = {**tree, "data": _alignment_named(tree)}
    network = dict(tree.get("network", {}))
    name = _typed("network.name", network.pop("name", "clmorph"), str)
    chosen = system(name)
    return Config(
        NetworkConfig(name, read_section(chosen.settings, network, "network")),
        **{
            key: read_section(kind, {**chosen.paper.get(key, {}), **tree.get(key, {})}, key)
            for key, kind in sections.items()
            if key != "network"
        },
    )


def _alignment_named(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The section data with ``alignment`` for what files of version 0.1 say by ``affine`` and the kind of pairs."""
    data = dict(tree.get("data", {}))
    if "affine" not in data:
        return data
    affine = _typed("data.affine", data.pop("affine"), bool)
    if "alignment" in data:
        raise SettingError("data.affine is a former name of data.alignment, both are given", "omit data.affine")
    by_groups = tree.get("training", {}).get("moving") in ("group", "mixed")
    return data | {"alignment": "affine" if affine else "centres" if by_groups else "given"}


def to_dict(config: Config) -> dict[str, Any]:
    """Plain dictionaries of strings, numbers and lists, for TOML and JSON."""
    tree = {f.name: _filed(f.name, getattr(config, f.name)) for f in fields(config) if f.name != "network"}
    return {"network": {"name": config.network.name, **_filed("network", config.network.settings)}, **tree}


def _filed(section: str, settings: Any) -> dict[str, Any]:
    """A section as files have it."""
    tree = asdict(settings)
    return tree | {key: tree[key][::-1] for key in tree if f"{section}.{key}" in PER_AXIS}


def _set(tree: dict[str, Any], override: str) -> None:
    """Puts ``section.key=value`` into the tree; the value is TOML, or a bare string."""
    path, equals, text = override.partition("=")
    section, dot, key = path.strip().partition(".")
    if not equals or not dot:
        raise SettingError(
            f"`overrides={override[:MAX_SHOWN]}`: expected section.key=value, for instance training.steps=1000"
        )
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except (ValueError, OverflowError, RecursionError):  # text, or what no setting can be
        value = text
    table = tree.setdefault(section, {})
    if isinstance(table, dict):  # what else it may be, from_dict reports
        table[key] = value


def read_section(kind: type, values: Mapping[str, Any], section: str) -> Any:
    """A dataclass of settings from a table, each value checked for type and range."""
    assert is_dataclass(kind)
    types_of = get_type_hints(kind)
    checked = {}
    for key, value in values.items():
        name = f"{section}.{key}"
        if key not in types_of:
            raise SettingError(f"unknown setting {name[:MAX_SHOWN]}{did_you_mean(key[:MAX_SHOWN], types_of)}")
        checked[key] = _typed(name, value, types_of[key])
        if name in PER_AXIS:
            checked[key] = checked[key][::-1]
        if name in POSITIVE and min(value if isinstance(value, list | tuple) else [value]) <= 0:
            raise SettingError(f"{name} is {value}; expected a number above zero")
        if name in NOT_NEGATIVE and min(value if isinstance(value, list | tuple) else [value]) < 0:
            raise SettingError(f"{name} is {value}; expected zero or more")
        if section == "refinement" and isinstance(value, int | float) and value > MAX_REFINEMENT:
            unit = name.rpartition("_")[2]
            raise SettingError(f"{name} is {value}; expected at most {MAX_REFINEMENT:g} {unit}")
    return kind(**checked)


def _typed(name: str, value: Any, kind: Any) -> Any:
    """The value as the annotated type; whole numbers pass as floats, nothing else is converted."""
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise SettingError(f"{name} is {short(value)}; expected one of {', '.join(get_args(kind))}")
        return value
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        if name in ONE_FOR_ALL_AXES and isinstance(value, int):
            value = (value,) * 3
        if not isinstance(value, list | tuple) or not value or (kinds[-1] is not Ellipsis and len(value) != len(kinds)):
            count = "" if kinds[-1] is Ellipsis else f"{len(kinds)} "
            raise SettingError(f"{name} is {short(value)}; expected a list of {count}numbers")
        if len(value) > MAX_NUMBERS:
            raise SettingError(f"{name} has {len(value)} numbers; expected at most {MAX_NUMBERS}")
        return tuple(_typed(name, item, kinds[0]) for item in value)
    most = next((most for section, most in MAX_WHOLE.items() if name.startswith(section)), MAX_SIZE)
    if isinstance(value, int) and not isinstance(value, bool) and kind in (int, float) and abs(value) > most:
        raise SettingError(f"{name} is {short(value)}; expected at most {most}")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise SettingError(f"{name} is {short(value)}; expected {TYPES[kind]}")
    if kind is float and not math.isfinite(value):
        raise SettingError(f"{name} is {value}; expected a finite number")
    return value


def check_trainable(config: Config) -> None:
    """SettingError for settings that do not fit together, for instance a loss that the network has no output for.

    Of a training alone: a model that was trained with such settings, when they were accepted, is still used.
    """
    name, loss, network = config.network.name, config.loss, config.network.capabilities
    if any(n % 2 == 0 for n in loss.window_voxels):
        raise SettingError(
            f"loss.window_voxels is {list(loss.window_voxels[::-1])}; expected odd numbers, so that a window has a "
            "middle"
        )
    if loss.regulariser == "kl" and not network.posterior:
        raise SettingError(
            f"loss.regulariser kl needs a probabilistic network, {name} is not set so",
            f'use loss.regulariser = "diffusion"{_or_set(config, "probabilistic")}',
        )
    if loss.symmetric and not network.inverse:
        raise SettingError(
            f"loss.symmetric needs a network with an inverse, {name} is not set so",
            f"use loss.symmetric = false{_or_set(config, 'diffeomorphic')}",
        )
    if loss.coarse == 0 and network.coarse_stages:
        raise SettingError(
            f"loss.coarse is 0, the coarse levels of {name} learn from nothing else", "set loss.coarse = 1"
        )
    if loss.contrast > 0 and not network.projection:
        raise SettingError(
            f"loss.contrast is {loss.contrast:g}, {name} has no projection to contrast", "set loss.contrast = 0"
        )
    if loss.contrast > 0 and loss.contrasted == "views" and (config.augment.views == 0 or loss.contrastive == "byol"):
        raise SettingError(
            f"loss.contrasted views needs views and nt-xent, augment.views is {config.augment.views:g} and "
            f"loss.contrastive {loss.contrastive}",
            'set both, or loss.contrasted = "pair"',
        )
    of_pairs = loss.contrastive == "nt-xent" and loss.contrasted == "pair"
    if loss.contrast > 0 and of_pairs and config.training.batch_size < 2:
        raise SettingError(
            f"contrastive loss needs at least 2 pairs in a batch, training.batch_size is {config.training.batch_size}",
            "raise it or set loss.contrast = 0",
        )


def _or_set(config: Config, name: str) -> str:
    """' or network.NAME = true' where the network has that setting."""
    return f" or network.{name} = true" if name in get_type_hints(type(config.network.settings)) else ""
