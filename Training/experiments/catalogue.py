"""What the experiments compare: data sets, systems, variants of them; and the key that tells one run from another."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from CLMorphCore.errors import InputError, did_you_mean

Overrides = Mapping[str, Mapping[str, Any]]  # section → setting → value

# data sets


@dataclass(frozen=True)
class DataSet:
    """A data set of the comparison.

    markers      patterns of files below the data folder, one of which tells that it is there
    flat_levels  how many halvings spare the axis across the slices
    """

    title: str
    markers: tuple[str, ...]
    flat_levels: int = 0
    cardiac: bool = False


DATASETS: Mapping[str, DataSet] = {
    "lpba40": DataSet("LPBA40", ("LPBA40*", "*/S01.delineation.skullstripped.hdr", "S01/*.hdr")),
    "mindboggle101": DataSet("Mindboggle101", ("Mindboggle101",)),
    # slices are three times as far apart as voxels in the plane: halved in the plane alone
    "acdc": DataSet("ACDC", ("ACDC",), flat_levels=2, cardiac=True),
    "hippocampus": DataSet("Hippocampus", ("Task04_Hippocampus",)),
}


def check_names(kind: str, given: Sequence[str], known: Collection[str]) -> None:
    """InputError for a name of a ``kind``, a data set or a system, that is none of the known ones."""
    for name in given:
        if name not in known:
            raise InputError(f"unknown {kind} {name!r}{did_you_mean(name, known)}")


def title_of(dataset: str) -> str:
    """The name that people know a data set by."""
    return DATASETS[dataset].title if dataset in DATASETS else dataset


def covers(view: str, dataset: str) -> bool:
    """Whether a table or figure covers a data set.

    Table I covers all but the heart, IV the heart alone; figure 3 is figure 2 for Mindboggle101, as in the paper.
    """
    cardiac = dataset in DATASETS and DATASETS[dataset].cardiac
    return {
        "table1": not cardiac,
        "table4": cardiac,
        "figure2": dataset != "mindboggle101",
        "figure3": dataset == "mindboggle101",
    }.get(view, True)


# systems


@dataclass(frozen=True)
class Entry:
    """A system of the catalogue.

    trained        whether it has weights to train
    cardiac        whether the paper's table IV has it, or the row of the affine alignment
    learning_rate  one for all: budgets of minutes are too short for the papers' own, which are for days
    """

    title: str
    trained: bool = True
    cardiac: bool = False
    learning_rate: float = 1e-3


AFFINE = "affine"  # the system that does nothing after the initial alignment
OURS, PYRAMID, SUPERVISED = "clmorph", "clmorph-pyramid", "unet"
SYSTEMS: Mapping[str, Entry] = {  # in the order of the paper's tables; the engine knows them by the same names
    AFFINE: Entry("Affine only", trained=False, cardiac=True),
    "lddmm": Entry("LDDMM (UtilzReg)", trained=False),
    "syn": Entry("SyN", trained=False, cardiac=True),
    "voxelmorph": Entry("VoxelMorph", cardiac=True),
    "faim": Entry("FAIM"),
    # its velocities are sums over 28·5³ inputs, which steps of 1e-3 throw across the image: it keeps its own rate
    "lapirn": Entry("LapIRN", learning_rate=1e-4),
    "vtn": Entry("VTN"),
    "pdd-net": Entry("PDD-Net"),
    "lvm-s3": Entry("LVM-S3", cardiac=True),
    OURS: Entry("CLMorph", cardiac=True),
    "clmorph-byol": Entry("CLMorph (BYOL)"),
    PYRAMID: Entry("CLMorph-Pyramid"),
    SUPERVISED: Entry("U-Net (supervised)"),
}
UNSUPERVISED = tuple(system for system in SYSTEMS if system not in (AFFINE, SUPERVISED))

# variants

PAPER = "paper"  # the variant of a system as its paper has it


class Variant(NamedTuple):
    """A system with some of its settings changed, by name."""

    system: str
    name: str = PAPER


AS_PUBLISHED = tuple(Variant(system) for system in SYSTEMS)
WITHOUT_CONTRAST, WITH_CONTRAST = Variant(OURS, "recon+smooth"), Variant(OURS, "recon+smooth+contrast")

# Table III: terms of equation 9. Without L_smooth nothing holds the variance, so there is none: z is the mean.
_MEAN_ALONE = {"network": {"probabilistic": False}}
_NOT_SMOOTH = {"regulariser": "diffusion", "smooth": 0.0}
ABLATION: Mapping[Variant, Overrides] = {
    Variant(OURS, "recon"): {**_MEAN_ALONE, "loss": {**_NOT_SMOOTH, "contrast": 0.0}},
    WITHOUT_CONTRAST: {"loss": {"contrast": 0.0}},
    Variant(OURS, "recon+contrast"): {**_MEAN_ALONE, "loss": _NOT_SMOOTH},
    WITH_CONTRAST: {},
    Variant(OURS, "recon+byol"): {**_MEAN_ALONE, "loss": {**_NOT_SMOOTH, "contrastive": "byol"}},
    Variant(OURS, "recon+smooth+byol"): {},
}
TABLE3 = (Variant(SUPERVISED), *ABLATION)  # its rows
# Beyond the paper: what each contrast, similarity at the coarser levels, and steps that are learned add to the
# coarse-to-fine network.
PYRAMID_ABLATION: Mapping[Variant, Overrides] = {
    Variant(PYRAMID, "lncc"): {"loss": {"contrast": 0.0}},
    Variant(PYRAMID, "lncc+image"): {},
    Variant(PYRAMID, "lncc+voxel"): {"loss": {"contrast": 0.0, "voxel_contrast": 0.02}},
    Variant(PYRAMID, "lncc+image+voxel"): {"loss": {"voxel_contrast": 0.02}},
    Variant(PYRAMID, "lncc+coarse"): {"loss": {"contrast": 0.0, "coarse": 0.5}},
    Variant(PYRAMID, "lncc+passes"): {"loss": {"contrast": 0.0}, "network": {"passes": 3}},
    Variant(PYRAMID, "lncc+forces"): {"loss": {"contrast": 0.0}, "network": {"force_window_voxels": 5}},
    Variant(PYRAMID, "lncc+passes+forces"): {
        "loss": {"contrast": 0.0},
        "network": {"passes": 3, "force_window_voxels": 5},
    },
}
# Beyond the paper: its contrastive term told apart, with the paper's batch of eight. What it draws together: the two
# images of a pair, with the paper's weight and with one that its gradient can be felt by beside a reconstruction of
# about 20; two views of one image, beside a network that sees such views without contrast; voxels that a map joins.
# Half the widths, and a field of half the image's resolution: a core makes six times the steps.
_EIGHT = {"training": {"batch_size": 8}, "network": {"channels": [8, 16, 16, 32], "field_level": 1}}
_SEES_VIEWS = {"augment": {"views": 0.7}}
CONTRAST: Mapping[Variant, Overrides] = {
    Variant(OURS, "eight"): {**_EIGHT, "loss": {"contrast": 0.0}},
    Variant(OURS, "eight+pairs"): _EIGHT,
    Variant(OURS, "eight+pairs,beta=1"): {**_EIGHT, "loss": {"contrast": 1.0}},
    Variant(OURS, "eight+views"): {**_EIGHT, **_SEES_VIEWS, "loss": {"contrast": 0.0}},
    Variant(OURS, "eight+views+contrast,beta=1"): {
        **_EIGHT,
        **_SEES_VIEWS,
        "loss": {"contrast": 1.0, "contrasted": "views"},
    },
    Variant(OURS, "eight+voxels,weight=1"): {**_EIGHT, "loss": {"contrast": 0.0, "voxel_contrast": 1.0}},
}
_SAME_RUN = {  # all terms together are a system as it is: trained once for both tables
    WITH_CONTRAST: Variant(OURS),
    Variant(OURS, "recon+smooth+byol"): Variant("clmorph-byol"),
    Variant(PYRAMID, "lncc+image"): Variant(PYRAMID),
}
WEIGHTS = (0.001, 0.01, 0.1, 1.0, 10.0)  # of figure 8, for α and for β
WEIGHT_GRID: Mapping[tuple[float, float], Variant] = {
    (alpha, beta): Variant(OURS, f"alpha={alpha:g},beta={beta:g}") for alpha in WEIGHTS for beta in WEIGHTS
}


def trained_as(variant: Variant) -> Variant:
    """The variant whose run serves for this one: itself, or the system as published where that is the same."""
    return _SAME_RUN.get(variant, variant)


# runs

CPU, CUDA, STEPS = "cpu", "cuda", "steps"  # what a budget counts: minutes of one of these, or steps
CLOCKS: Mapping[str, str] = {CPU: "min of one core", CUDA: "min on a GPU", STEPS: "steps"}


class Budget(NamedTuple):
    """How long a run is trained: minutes of processor time per thread, or by the clock on a GPU. Ordered by minutes.

    Of the clock STEPS ``minutes`` are steps: these do not shrink where other work slows the machine down.
    """

    minutes: float
    clock: str = CPU

    def __str__(self) -> str:
        return f"{self.minutes:g} {CLOCKS.get(self.clock, f'min ({self.clock})')}"


NOT_TRAINED = Budget(0.0)  # of a system that has nothing to train


@dataclass(frozen=True)
class RunKey:
    """What tells one run from another: a variant of a system, trained on a data set with a seed and a budget.

    ``clock`` is what the budget counts: minutes on a GPU, minutes on a core and steps are different runs.
    """

    dataset: str
    system: str
    variant: str
    seed: int
    budget_minutes: float
    clock: str = field(default=CPU, kw_only=True)

    @property
    def budget(self) -> Budget:
        return Budget(self.budget_minutes, self.clock)

    @property
    def name(self) -> str:
        """'acdc/clmorph/paper/seed0/10min', '…/10min-cuda', '…/100steps': one name in every experiment and file."""
        unit = {CPU: "min", STEPS: STEPS}.get(self.clock, f"min-{self.clock}")
        return f"{self.dataset}/{self.system}/{self.variant}/seed{self.seed}/{self.budget_minutes:g}{unit}"
