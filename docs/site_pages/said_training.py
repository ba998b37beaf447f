"""The figures in the sentences about trainings and the paper's experiments."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from statistics import mean

from CLMorphCore.tissue.choosing import MIN_GAIN
from Training.experiments.catalogue import SYSTEMS
from Training.robustness.processes import MEMORY, SECONDS

from .figures import Sentences
from .sources import mice, of_table, once, paper, paper_gains, rows, test_of, weights

H, M, A = "hippocampus", "mindboggle101", "acdc"
TABLES = {H: "table1", M: "table1", A: "table4"}  # of the systems' segmentations
MINUTES = {H: "4 min", M: "10 min", A: "4 min"}  # of the trainings that are compared
STEPS = "100 steps"  # of those that are compared by steps, on brains


SETTLED_TRAINING = (
    "learns at 3e-4",  # TestingCLMorphCore/training holds it
    "agree to 1e-10 after ten steps",
    "at least 1/N of the device",
    "intensities from 0 to 1000",
    "(0.15 mm, 37 labels, noise 37 % of the contrast)",
    "a network of 26 minutes",
    "NCC 2x2x2, 100x50x10, labels by LABEL 0.2vox",
    "At step 0 and",
    "Process 0 does",
)
SETTLED_RESULTS = (
    "20 hours of a P100",
    "20 hours on a P100 with batches of eight",
    "2 mm here, 1 mm there",
    "17 brains here, 42 there",
    "after 4 minutes",
    "(4 on `hippocampus` and `acdc`, 10 on `mindboggle101`)",
    "30 minutes in place of four",
    "**In 30 minutes**",
    "which is ln 3",
    "half of ln 3",
    "After 100 steps each",
    "ln(2B − 1)",
    "stays at ln 3",
    "4 minutes** (",
    "(95 % interval over seeds −",
    "(intervals that hold 0)",
    "the 30 minutes of CLMorph and VoxelMorph",
    "U-Net's on hippocampi and its 10 and 30 on brains",
    "after 4 minutes, one seed, over the 20 test",
    "the 4 minutes)",
    "(figure 8: one seed, 2 minutes",
    "with a cosine to 0",
    "below 0.05, and none is claimed",
    "20 test subjects",
    "over the 20 test patients",
    "at α = 1 and β = 0.01",
    "at α = 1, β = 0.01*",
    "Decathlon's task 4",
    "(Dice above 0.9)",
)


def training() -> dict[str, Sentences]:
    """Of each page with figures, by its path in the project."""
    said = [
        *_in_short(),
        *_what_can_be_read(),
        *_hippocampus(),
        *_pyramid(),
        *_mindboggle(),
        *_brains_ablation(),
        *_acdc(),
        *_weights(),
    ]
    return {
        "Training/README.md": Sentences(
            (
                f"nothing gains {MIN_GAIN} of Dice",
                f"more than {MEMORY >> 30} GiB of addresses beside what it began with, or {SECONDS} seconds a file",
                f"alone, on test: {_lone('one, lent')}, where Greedy has {_lone('Greedy, one')}",
                f"had {_earlier('one, lent')} from another mouse, once and by hand, Greedy {_earlier('Greedy, one')}",
                f"the libraries themselves are about {once('libraries of a reader')}",
                f"as a `.tar.xz` {once('packed site')} MB",
            ),
            SETTLED_TRAINING,
        ),
        "Training/results/README.md": Sentences(tuple(said), SETTLED_RESULTS),
    }


def _lone(run: str) -> str:
    """Test Dice of three mice, each labelled alone."""
    return ", ".join(mice(run, "test", f"{labelled} to") for labelled in ("m17", "m22", "m4"))


def _earlier(run: str) -> str:
    return mice(f"{run}, an earlier version and another mouse", "test")


def _dice(dataset: str, system: str) -> str:
    return f"{_of(dataset, system, 'dice'):.3f}"


def _of(dataset: str, system: str, column: str, budget: str = "") -> float:
    """Of a system's segmentations, under a budget or after the minutes that all are compared under."""
    return of_table(TABLES[dataset], dataset, system, column, budget=budget or MINUTES[dataset])


def _paper(dataset: str, system: str) -> str:
    return f"{paper(dataset, system, table=TABLES[dataset]):.3f}"


def _both(dataset: str, system: str) -> str:
    return f"({_dice(dataset, system)}, the paper {_paper(dataset, system)})"


def _over_seeds(table: str, dataset: str, system: str, variant: str = "paper", budget: str = "") -> str:
    """Mean Dice and its spread over the seeds of an ablation's row."""
    row = {"variant": variant, "over": "seeds", "budget": budget}
    dice, spread = (of_table(table, dataset, system, key, **row) for key in ("dice", "dice_sd"))
    return f"{dice:.3f} ± {spread:.3f}"


def _gain(dataset: str, loss: str, what: str = "contrast", digits: int = 4) -> str:
    """By how much the Dice is higher with a term of the loss, in the mean over seeds."""
    return f"{test_of(dataset, f'{loss}+{what}', loss)['difference']:+.{digits}f}".replace("-", "−")


def _interval(dataset: str, loss: str, digits: int) -> str:
    found = test_of(dataset, f"{loss}+contrast", loss)
    return " … ".join(f"{found[end]:+.{digits}f}".replace("-", "−") for end in ("low", "high"))


def _steps(dataset: str, systems: Iterable[str]) -> list[int]:
    return [int(_of(dataset, each, "train_steps")) for each in systems]


def _in_short() -> list[str]:
    affine = {each: _of(each, "affine", "dice") for each in (H, M, A)}
    gained = [
        _of(each, name, "dice") - affine[each]
        for each in affine
        for name in ("voxelmorph", "clmorph", "clmorph-byol", "lapirn")
    ]
    gained += [_of(each, name, "dice") - affine[each] for each in (H, A)
               for name in ("faim", "vtn", "clmorph-pyramid")]  # fmt: skip
    unet = of_table("table3", H, "unet", "dice", over="seeds")
    best = max(of_table("table1", H, name, "dice") for name in ("lddmm", "syn", "voxelmorph", "faim", "vtn", "clmorph"))
    gains = paper_gains().values()
    byol = [test_of(each, f"{loss}+byol", loss)["difference"] for each in (H, A) for loss in ("recon", "recon+smooth")]
    apart = ("affine", "lvm-s3", "unet")
    hd = [_of(A, name, "hd_mm") for name in SYSTEMS if name not in apart]
    theirs = [paper(A, name, "hd_mm", "table4") for name in ("syn", "voxelmorph", "clmorph")]
    by = [_by_weight(each, place) for each in (H, A) for place in (0, 1)]
    spreads = [max(each.values()) - min(each.values()) for each in by]
    distances = f"{min(hd):.0f} to {max(hd):.0f}"
    eight = of_table("contrast", H, "clmorph", "contrast_loss", variant="eight+pairs", over="seeds")
    return [
        f"({unet:.3f} after 4 minutes, three seeds, {_longer('dice', H):.3f} after 30; the best unsupervised row "
        f"{best:.3f})",
        f"on `acdc` {of_table('table3', A, 'unet', 'dice', over='seeds'):.3f} after 4 minutes and "
        f"{_longer('dice'):.3f} after 30 (VTN {_longer('dice', A, 'vtn'):.3f}), on brains {_longer('dice', M):.3f} "
        f"after 30 and {_hour('dice'):.3f} after 60, SyN {_dice(M, 'syn')}",
        f"on `acdc` it goes from {_dice(A, 'clmorph')} to {_longer('dice', A, 'clmorph'):.3f} with "
        f"{_longer('train_steps', A, 'clmorph'):.0f} for {_steps(A, ['clmorph'])[0]}, on `hippocampus` from "
        f"{_dice(H, 'clmorph')} to {_longer('dice', H, 'clmorph'):.3f} with "
        f"{_longer('train_steps', H, 'clmorph'):.0f} for {_steps(H, ['clmorph'])[0]}",
        f"by {min(gained):.2f} to {max(gained):.2f}, but for PDD-Net",
        f"*The contrastive term adds {min(gains):.2f} to {max(gains):.2f} of Dice*: no. Without and with the "
        f"smoothness term {_gain(H, 'recon')} and {_gain(H, 'recon+smooth', digits=3)} on `hippocampus` (the latter's "
        f"95 % interval is above 0, and its fields fold in {_folding(H, 'paper'):.0f} % of the voxels for "
        f"{_folding(H, 'recon+smooth'):.0f} %), {_gain(A, 'recon', digits=3)} and "
        f"{_gain(A, 'recon+smooth', digits=3)} on `acdc`, {_gain(M, 'recon')} and {_gain(M, 'recon+smooth', digits=3)} "
        "on brains (intervals that hold 0)",
        f"(eight: {eight:.3f}, ln 15)",
        f"{min(byol):+.3f} to {max(byol):+.3f} of Dice, within the seeds' spread".replace("-", "−"),
        f"(brains: {_gain(M, 'recon', 'byol', 3)} and {_gain(M, 'recon+smooth', 'byol', 3)})",
        f"α matters by {spreads[0]:.2f} and {spreads[2]:.2f}, β by {max(spreads[1], spreads[3]):.3f}",
        f"distances {distances} mm where the paper has {min(theirs):.0f} to {max(theirs):.0f}",
        f"Distances (HD {distances} mm, the paper {min(theirs):.0f} to {max(theirs):.0f}) tell",
    ]  # fmt: skip


def _what_can_be_read() -> list[str]:
    steps = [int(float(each["train_steps"])) for name in ("table1", "table4")
             for each in rows(f"Training/results/report/{name}.csv")
             if each["train_steps"] and float(each["train_steps"]) > 0]  # fmt: skip
    seeds = [f"{float(each['dice']):.3f}" for each in rows("Training/results/report/table3.csv")
             if (each["dataset"], each["system"], each["variant"], each["region"], each["spread_over"])
             == (H, "clmorph-byol", "paper", "all", "subjects")]  # fmt: skip
    fast, slow = (_steps_a_minute(f"{H}/clmorph/paper/seed0/{minutes}min") for minutes in (4, 30))
    return [
        f"on those of 28 November CLMorph made {slow:.0f} steps of hippocampi a minute, of 25 November {fast:.0f}",
        f"are {min(steps)} to {max(steps)} steps, so",
        f"PDD-Net ({_steps(H, ['pdd-net'])[0]} steps) and LVM-S3 ({_steps(H, ['lvm-s3'])[0]}) stay",
        f"differ by up to {max(map(float, seeds)) - min(map(float, seeds)):.2f} in mean Dice (CLMorph with BYOL: "
        f"{', '.join(seeds)})",
        f"bound of the paper is {paper(M, 'unet', table='table3'):.3f} on",
    ]


def _hippocampus() -> list[str]:
    lost = [of_table("table3", H, "clmorph", "contrast_loss", variant=each, over="seeds")
            for each in ("recon+contrast", "paper")]  # fmt: skip
    gains = paper_gains()
    reported = [f"{gains['lpba40', loss]:+.3f}" for loss in ("recon", "recon+smooth")]
    brains = [f"{gains['mindboggle101', loss]:+.3f}" for loss in ("recon", "recon+smooth")]
    byol = [_gain(H, loss, "byol") for loss in ("recon", "recon+smooth")]
    collapsed = of_table("table3", H, "clmorph", "contrast_loss", variant="recon+byol", over="seeds")
    return [
        f"U-Net ({_over_seeds('table3', H, 'unet')} over three seeds) stands",
        f"improve on the affine alignment ({_dice(H, 'affine')})",
        f"CLMorph ({_dice(H, 'clmorph')}) does not lead; VoxelMorph ({_dice(H, 'voxelmorph')}), FAIM and VTN "
        f"({_dice(H, 'vtn')}) are within",
        f"LDDMM ({_dice(H, 'lddmm')}) and SyN ({_dice(H, 'syn')}), which",
        f"folds in {of_table('table1', H, 'clmorph', 'folding_percent'):.0f} % of its voxels",
        f"U-Net {_longer('dice', H):.3f}, VoxelMorph {_longer('dice', H, 'voxelmorph'):.3f} "
        f"({_longer('train_steps', H, 'voxelmorph'):.0f} steps) and CLMorph {_longer('dice', H, 'clmorph'):.3f} "
        f"({_longer('train_steps', H, 'clmorph'):.0f} steps, for {_steps(H, ['clmorph'])[0]} in the 4 minutes)",
        f"fold in {_folding(H, 'paper'):.1f} % of the voxels, {_folding(H, 'recon+smooth'):.1f} % without it",
        f"reports {' and '.join(reported)} (LPBA40) and {' and '.join(brains)} (Mindboggle101) of Dice",
        f"Here it is {_gain(H, 'recon')} (95 % interval over seeds {_interval(H, 'recon', 4)}) without and "
        f"{_gain(H, 'recon+smooth')} ({_interval(H, 'recon+smooth', 4)}) with it; for BYOL {byol[0]} and {byol[1]}",
        f"the loss stayed at {lost[0]:.4f} and {lost[1]:.4f}, which",
        f"falls to {collapsed:.3f} by making all embeddings one",
    ]


def _pyramid() -> list[str]:
    def said(variant: str) -> str:
        return _over_seeds("pyramid", H, "clmorph-pyramid", variant)

    def of(key: str, variant: str) -> float:
        return of_table("pyramid", H, "clmorph-pyramid", key, variant=variant, over="seeds")

    return [
        f"diffusion alone ({said('lncc')} over seeds): the image-level contrast {said('paper')}, the voxel-level one "
        f"{said('lncc+voxel')}, both {said('lncc+image+voxel')}, similarity at the coarser levels too "
        f"{said('lncc+coarse')}, three passes at each level {said('lncc+passes')}, the forces of local correlation as "
        f"input {said('lncc+forces')}, passes and forces {said('lncc+passes+forces')}",
        f"({of('contrast_loss', 'paper'):.4f}), for the reason above",
        f"({of('train_steps', 'lncc+passes'):.0f} steps for {of('train_steps', 'lncc'):.0f})",
    ]


def _mindboggle() -> list[str]:
    steps = _steps(M, ("voxelmorph", "clmorph", "clmorph-byol"))
    return [
        f"VoxelMorph {_both(M, 'voxelmorph')}, CLMorph {_both(M, 'clmorph')} and CLMorph with BYOL "
        f"({_dice(M, 'clmorph-byol')}) lift the affine alignment ({_dice(M, 'affine')}) by a tenth within 10 minutes, "
        f"{min(steps)} to {max(steps)} steps",
        f"SyN {_both(M, 'syn')} and LDDMM {_both(M, 'lddmm')} are ahead of all networks that learn without labels, "
        f"and LapIRN ({_dice(M, 'lapirn')})",
        f"U-Net has {_dice(M, 'unet')} after 10 minutes ({_steps(M, ['unet'])[0]} steps), {_longer('dice', M):.3f} "
        f"after 30 ({_longer('train_steps', M):.0f} steps) and {_hour('dice'):.3f} after 60 of a faster server "
        f"({_hour('train_steps'):.0f} steps)",
        f"(HD {_hour('hd_mm'):.0f} mm, SyN {_of(M, 'syn', 'hd_mm'):.0f})",
        f"does fall, to {_of(M, 'clmorph', 'contrast_loss'):.2f}: the two",
    ]


def _brains_ablation() -> list[str]:
    def said(variant: str) -> str:
        return _over_seeds("table3", M, "clmorph", variant, STEPS)

    gains = paper_gains()
    lost = [of_table("table3", M, "clmorph", "contrast_loss", variant=each, over="seeds", budget=STEPS)
            for each in ("recon+contrast", "paper")]  # fmt: skip
    byol = [_gain(M, loss, "byol", 3) for loss in ("recon", "recon+smooth")]
    return [
        f"three seeds, {STEPS} each.** Reconstruction alone has a Dice of {said('recon')}, with the smoothness term "
        f"{said('recon+smooth')}. The contrastive term adds {_gain(M, 'recon')} (95 % interval over seeds "
        f"{_interval(M, 'recon', 3)}) without and {_gain(M, 'recon+smooth', digits=3)} "
        f"({_interval(M, 'recon+smooth', 3)}) with it, where the paper has {gains[M, 'recon']:+.3f} and "
        f"{gains[M, 'recon+smooth']:+.3f}; BYOL {byol[0]} and {byol[1]}",
        f"CLMorph with BYOL has {_by_steps('clmorph-byol')}, VoxelMorph {_by_steps('voxelmorph')}, CLMorph "
        f"{_by_steps('clmorph')}, FAIM {_by_steps('faim')}",
        f"VTN {_by_steps('vtn')}: at the learning rate",
        f"does fall, to {lost[0]:.2f} and {lost[1]:.2f}: what",
    ]


def _acdc() -> list[str]:
    contrast = of_table("table3", A, "clmorph", "contrast_loss", over="seeds")
    byol = [_gain(A, loss, "byol", 3) for loss in ("recon", "recon+smooth")]
    single = sorted(_single_gains())
    return [
        f"SyN {_both(A, 'syn')} and all trained systems",
        f"lift the affine row ({_dice(A, 'affine')}, here",
        f"CLMorph {_both(A, 'clmorph')} is level with VoxelMorph {_both(A, 'voxelmorph')}",
        f"VTN ({_dice(A, 'vtn')}), SyN, PDD-Net ({_dice(A, 'pdd-net')}, whose",
        f"LapIRN ({_dice(A, 'lapirn')}) and LDDMM ({_dice(A, 'lddmm')}) are ahead of it, CLMorph with BYOL "
        f"({_dice(A, 'clmorph-byol')}), CLMorph-Pyramid ({_dice(A, 'clmorph-pyramid')}) and FAIM ({_dice(A, 'faim')})",
        f"U-Net ({_over_seeds('table3', A, 'unet')} over three seeds, "
        f"{of_table('table3', A, 'unet', 'train_steps', over='seeds'):.0f} steps)",
        f"islands of labels {of_table('table4', A, 'unet', 'hd_mm'):.0f} mm away",
        f"of one heart starts at a Dice of {_dice(A, 'affine')}",
        f"CLMorph reaches {_longer('dice', A, 'clmorph'):.3f} ({_longer('train_steps', A, 'clmorph'):.0f} steps), "
        f"level with what SyN does to each pair, VoxelMorph {_longer('dice', A, 'voxelmorph'):.3f} "
        f"({_longer('train_steps', A, 'voxelmorph'):.0f} steps), both in minutes of a third of the worth; from "
        f"end-systole to end-diastole it is {_back('clmorph')} and {_back('voxelmorph')}",
        f"VTN has {_longer('dice', A, 'vtn'):.3f} after 30 minutes ({_longer('train_steps', A, 'vtn'):.0f} steps)",
        f"(one seed, {_longer('train_steps'):.0f} steps) lift it to a test Dice of {_longer('dice'):.3f}, above every "
        f"unsupervised row, with distances of {_longer('hd_mm'):.0f} mm",
        f"On the way, at {once('unet acdc steps')} steps and {once('unet acdc test')}, its Dice was "
        f"{once('unet acdc trained')} on eight frames that it was trained on, {once('unet acdc validation')} on six",
        f"the contrastive loss falls, to {contrast:.3f}",
        f"The term adds {_gain(A, 'recon', digits=3)[1:]} of Dice (95 % interval over seeds "
        f"{_interval(A, 'recon', 3)}) without the smoothness term and {_gain(A, 'recon+smooth', digits=3)[1:]} "
        f"({_interval(A, 'recon+smooth', 3)}) with it; BYOL {byol[0]} and {byol[1]}",
        f"({single[-2]:+.3f} and {single[-1]:+.3f}; the others {single[0]:+.3f} to {single[-3]:+.3f})",
    ]


def _longer(column: str, dataset: str = A, system: str = "unet") -> float:
    """What a system reaches in 30 minutes."""
    return _of(dataset, system, column, "30 min")


def _hour(column: str) -> float:
    """What the U-Net reaches on brains in 60 minutes."""
    return _of(M, "unet", column, "60 min")


def _by_steps(system: str) -> str:
    return f"{_of(M, system, 'dice', STEPS):.3f}"


def _folding(dataset: str, variant: str) -> float:
    """Percent of the voxels where CLMorph's fields fold, over its seeds."""
    return of_table("table3", dataset, "clmorph", "folding_percent", variant=variant, over="seeds")


def _steps_a_minute(name: str) -> float:
    run = next(each for each in rows("Training/results/runs.csv") if each["run"] == name)
    return 60 * float(run["train_steps"]) / float(run["train_seconds"])


def _back(system: str) -> str:
    """Dice on hearts the other way round, in 30 minutes."""
    return f"{of_table('table2', A, system, 'dice', budget='30 min'):.3f}"


def _single_gains() -> list[float]:
    """Dice with the contrastive term less that without, of equal seeds, on hearts."""
    dice = {(each["variant"], each["seeds"]): float(each["dice"])
            for each in rows("Training/results/report/table3.csv")
            if (each["dataset"], each["system"], each["region"], each["spread_over"], each["status"])
            == (A, "clmorph", "all", "subjects", "run") and each["budget"].startswith("4 min")}  # fmt: skip
    pairs = (("recon+contrast", "recon"), ("paper", "recon+smooth"))
    return [dice[more, seed] - dice[less, seed] for more, less in pairs for seed in "012"]


def _by_weight(dataset: str, place: int) -> dict[str, float]:
    """The mean Dice for each α (place 0) or β (1), over the other."""
    found: dict[str, list[float]] = {}
    for pair, dice in weights(dataset).items():
        found.setdefault(pair[place], []).append(dice)
    return {weight: mean(values) for weight, values in found.items()}


def _weights() -> list[str]:
    hippocampus, heart = weights(H), weights(A)
    (a, b), (c, d) = (max(each, key=lambda pair, dice=each: dice[pair]) for each in (hippocampus, heart))
    assert c == d
    on_h, on_a = _by_weight(H, 0), _by_weight(A, 0)
    budget = [int(float(each["train_steps"])) for each in rows("Training/results/runs.csv") if "alpha=" in each["run"]]
    chosen = ("1", "0.01")
    return [
        f"2 minutes, {min(budget)} to {max(budget)} steps a run",
        f"On the hippocampus the best is α = {a}, β = {b} ({hippocampus[a, b]:.3f}; the paper's choice "
        f"{hippocampus[chosen]:.3f}), on ACDC α = β = {c} ({heart[c, d]:.3f}; the paper's choice {heart[chosen]:.3f})",
        f"Dice goes from {min(on_h.values()):.3f} to {max(on_h.values()):.3f} with α on the hippocampus, highest at "
        f"{max(on_h, key=lambda each: on_h[each])}, and falls from {max(on_a.values()):.3f} to "
        f"{min(on_a.values()):.3f} on ACDC, lowest at {min(on_a, key=lambda each: on_a[each])}",
        f"β changes {max(_spread(H), _spread(A)):.3f} on either",
        f"Neighbouring cells differ by up to {_neighbours(hippocampus):.2f} on the hippocampus",
    ]


def _spread(dataset: str) -> float:
    found = _by_weight(dataset, 1).values()
    return max(found) - min(found)


def _neighbours(dice: dict[tuple[str, str], float]) -> float:
    """The most that two cells of the table differ that lie side by side."""
    scale = sorted({each for each, _ in dice}, key=float)
    steps = list(pairwise(scale))
    found = [abs(dice[a, c] - dice[b, c]) for a, b in steps for c in scale]
    return max(found + [abs(dice[c, a] - dice[c, b]) for a, b in steps for c in scale])
