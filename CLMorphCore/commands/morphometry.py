"""``clmorph morphometry``: where scans of a group are larger or smaller, in the atlas' space."""

from __future__ import annotations

import logging
from argparse import Namespace
from pathlib import Path

from ..bundles.atlas import Atlas, make_atlas, read_atlas
from ..bundles.model import model_folder
from ..errors import InputError, counted
from ..io.images import read_labels
from ..morphometry.design import design_of, read_table
from ..morphometry.results import RECORD, names_of, save
from ..morphometry.statistics import check_installed
from ..morphometry.study import SIGNIFICANT, Settings, analyse, check_atlas, read_scans
from ..morphometry.volumes import Scan
from ..progress import Reporter, part
from . import options as given

LOG = logging.getLogger(__name__)


def run(options: Namespace, reporter: Reporter) -> None:
    """Writes maps of t, p and effect, structures.csv, morphometry.json and report.html into the output folder."""
    check_installed()
    table = read_table(options.table)
    design = design_of(table, options.design)
    scans = read_scans(table)
    with given.writing(options, names_of(design, scans[0].sides), options.table, options.mask, certificate=RECORD):
        atlas = _atlas(options, scans[0])
        check_atlas(scans, atlas, names=options.atlas is None)
        settings = Settings(
            relative=options.relative,
            fwhm_mm=options.fwhm,
            permutations=options.permutations,
            tfce=options.tfce,
            threads=options.threads or 1,
        )
        mask = read_labels(options.mask) if options.mask else None
        study = analyse(scans, design, atlas, settings, mask=mask, progress=part(reporter, 0.0, 0.95))
        save(study, options.output, options.table)
    for warning in study.warnings:
        LOG.warning(warning)
    found = []
    for result in study.results:
        p = result.voxels.p if result.voxels.p_tfce is None else result.voxels.p_tfce
        count, strong = int((p < SIGNIFICANT).sum()), int((result.structures.p < SIGNIFICANT).sum())
        what = f"{counted(count, 'voxel')}{f' on the {result.side} side' if result.side else ''}"
        structures = f" and {counted(strong, 'structure')}" if result.side == study.sides[-1] else ""
        found.append(f"{result.voxels.term.name}: {what}{structures} with p < {SIGNIFICANT:g}")
    given.done(reporter, options.output, f"{counted(len(scans), 'scan')}; {'; '.join(found)}")


def _atlas(options: Namespace, scan: Scan) -> Atlas:
    """The atlas that the scans were registered to: given, or of the model that is given or their reports name."""
    if options.atlas is not None or options.atlas_labels is not None:
        if options.atlas is None or options.atlas_labels is None:
            raise InputError("--atlas and --atlas-labels go together", "give both, or neither to use the model's atlas")
        return make_atlas(Path(options.atlas).name, options.atlas, options.atlas_labels, options.label_names)
    name = scan.report.atlas.name
    try:
        folder = model_folder(options.model or scan.report.model.name)
    except InputError as error:
        if options.model:
            raise
        raise InputError(
            f"the scans were segmented with the model {scan.report.model.name}, which is not among those that ship; "
            "expected its atlas, in whose space they are compared",
            "give `model` as its folder, or `atlas` and `atlas_labels`",
        ) from error
    if not (folder / "atlases" / name).is_dir():
        raise InputError(
            f"the model in {folder} has no atlas {name}, which the scans were registered to",
            "give the model that they were segmented with, or `atlas` and `atlas_labels`",
        )
    return read_atlas(folder / "atlases" / name)
