"""How much time a run may take: the engine's three efforts, and the steps and atlases that each stands for."""

from dataclasses import dataclass

FAST, BALANCED, BEST = EFFORTS = ("fast", "balanced", "best")  # the engine's words
OWN = "own"  # what is set under Advanced fits none of them
AUTOMATIC, ON, OFF = TISSUE = ("auto", "on", "off")  # whether labels follow the scan's tissue; the engine's words
EXTRACTION = (AUTOMATIC, ON, OFF)  # whether the brain is taken out of a head first; the engine's words
FOLLOW, EACH = "follow", "each"  # of a sequence one frame is segmented and the others follow it, or each by itself
FRAMES = (AUTOMATIC, FOLLOW, EACH)  # as suits the model, or the one or the other
BEST_STEPS = 50


@dataclass(frozen=True)
class Effort:
    """Steps of refinement and the number of atlases: what a choice stands for."""

    refine: int
    atlases: int


def efforts(atlas_count: int) -> dict[str, Effort]:
    """What each choice stands for with a model of so many atlases; a model that has one has nothing to fuse."""
    network = Effort(0, 0)
    return {FAST: network, BALANCED: network, BEST: Effort(BEST_STEPS, atlas_count if atlas_count > 1 else 0)}


def chosen(effort: str, refine: int, atlases: int, tissue: str, atlas_count: int) -> str:
    """Which choice the numbers stand for: `effort` where they fit it, another that they fit, or OWN for none."""
    used = Effort(refine, atlases if atlas_count > 1 else 0)
    fitting = [name for name, each in efforts(atlas_count).items() if each == used and tissue == AUTOMATIC]
    return next((name for name in (effort, BALANCED, *EFFORTS) if name in fitting), OWN)


def arguments(effort: str, tissue: str, refine: int, atlases: int, fusion: str) -> list[str]:
    """What the engine is told of how thoroughly it is to segment: here alone are choices turned into its options.

    Numbers above 0, and a tissue that is not AUTOMATIC, win over the effort; what is left out goes by it.
    """
    told = ["--effort", effort, *refinement(refine)]
    told += ["--tissue", tissue] if tissue != AUTOMATIC else []
    told += ["--atlases", str(atlases)] if atlases else []
    return told + (["--fusion", fusion] if atlases or effort == BEST else [])


def extraction(chosen: str) -> list[str]:
    """What the engine is told of brain extraction."""
    return ["--brain-extraction", chosen] if chosen != AUTOMATIC else []


def colors(safe: bool) -> list[str]:
    """What the engine is told of the structures' colours."""
    return ["--colors", "safe"] if safe else []


def refinement(steps: int) -> list[str]:
    """What the engine is told of refinement steps, of a segmentation or a registration."""
    return ["--refine", str(steps)] if steps else []
