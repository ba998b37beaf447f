"""``clmorph build-atlas``: an atlas from many subjects, or one from each."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from ..atomic import atomic_folder, check_writable, claimed
from ..bundles.atlas import FILES, SHARES, check_atlas_place, read_structures, save_atlas
from ..bundles.template import ROUNDS, build_atlas, each_built
from ..errors import InputError, counted
from ..io.manifest import Subject, choose, read_manifest
from ..progress import Reporter
from . import options as given


def run(options: Namespace, reporter: Reporter) -> None:
    """Writes the atlas into the output folder; with --each several, each in a folder of its own below it."""
    check_writable(options.output)
    subjects = read_manifest(options.data)
    folders = [""]
    if options.each:
        folders = [f"{subject.name}/" for subject in choose(subjects, "train", labelled=True)]
    given.check_inputs(options, [folder or file for folder in folders for file in FILES], *_inputs(options, subjects))
    for folder in folders:
        check_atlas_place(options.output / folder)
    with claimed(options.output):
        _run(options, subjects, reporter)


def _inputs(options: Namespace, subjects: Sequence[Subject]) -> list[Path | None]:
    return [options.data, *given.files_of(subjects)]


def _run(options: Namespace, subjects: Sequence[Subject], reporter: Reporter) -> None:
    model = given.model(options) if options.model else None
    structures = read_structures(options.label_names) if options.label_names else None
    given.warn_of_names(structures or ())
    if options.each:
        if others := [f"--{name}" for name in ("rounds", "typical", "margin") if getattr(options, name)]:
            raise InputError(
                f"--each and {' and '.join(others)} were given; --each takes every subject as it is", "omit one of them"
            )
        reference = model.atlases[0].image if model is not None and model.atlases else None
        atlases = each_built(subjects, reference=reference, model=model, structures=structures, progress=reporter)
        names = [subject.name for subject in choose(subjects, "train", labelled=True)]
        with atomic_folder(options.output, optional=[f"{name}/{SHARES}" for name in names]) as folder:
            for atlas in atlases:
                save_atlas(folder / atlas.name, atlas)
        given.done(reporter, options.output, f"{counted(len(names), 'atlas', 'atlases')}; use them with --atlas-dir")
        return
    atlas = build_atlas(
        subjects,
        model=model,
        rounds=options.rounds or ROUNDS,
        structures=structures,
        typical=options.typical,
        margin_mm=options.margin,
        name=options.output.name,
        progress=reporter,
    )
    save_atlas(options.output, atlas)
    given.done(reporter, options.output, f"an atlas of {counted(len(atlas.structures), 'structure')}")
