"""How much time a run may take: one choice that sets refinement and atlases together."""

from dataclasses import dataclass

FAST, BALANCED, BEST, OWN = "fast", "balanced", "best", "own"  # the last: as set under Advanced


@dataclass(frozen=True)
class Effort:
    """Steps of optimisation and the number of atlases: what a choice stands for."""

    refine: int
    atlases: int


def efforts(atlas_count: int) -> dict[str, Effort]:
    """What each choice stands for with a model of so many atlases; a model that has one has nothing to fuse."""
    several = atlas_count > 1
    return {
        FAST: Effort(0, 0),
        BALANCED: Effort(20, min(3, atlas_count) if several else 0),
        BEST: Effort(50, min(9, atlas_count) if several else 0),
    }


def chosen(refine: int, atlases: int, atlas_count: int) -> str:
    """Which choice the numbers stand for; OWN where they stand for none."""
    used = Effort(refine, atlases if atlas_count > 1 else 0)
    return next((name for name, effort in efforts(atlas_count).items() if effort == used), OWN)


def arguments(refine: int, atlases: int = 0, fusion: str = "") -> list[str]:
    """What the engine is told of how thoroughly it is to work: here alone are the choices turned into its options."""
    told = ["--refine", str(refine)] if refine else []
    return told + (["--atlases", str(atlases), "--fusion", fusion] if atlases else [])
