"""``clmorph demo``: a made-up subject whose labels are known, segmented through the same files as any user's scan."""

from __future__ import annotations

from argparse import Namespace

import numpy as np

from ..atomic import atomic_folder
from ..bundles.phantom import make_phantom
from ..console import say
from ..errors import InputError, counted
from ..io.checksums import seal
from ..io.images import read_image, write_image
from ..metrics import dice_per_label
from ..progress import Reporter, part
from ..segmentation import OPTIONAL, REPORT, RESULTS, segment
from . import options as given
from .segment import announce, save

DEMO_RESULTS = (*RESULTS, "subject.nii.gz", "subject_labels.nii.gz")


def run(options: Namespace, reporter: Reporter) -> None:
    """Makes the subject, segments it and prints the true Dice."""
    with given.writing(options, DEMO_RESULTS, certificate=REPORT, optional=OPTIONAL):
        _run(options, reporter)


def _run(options: Namespace, reporter: Reporter) -> None:
    model = given.model(options)
    if not model.atlases:
        raise InputError(
            f"model {model.name} has no atlas to make a subject from; expected a model that has one",
            "see clmorph models",
        )
    reporter("making a subject", 0.0)
    phantom = make_phantom(model.atlases[0], seed=7)
    with atomic_folder(options.output, optional=OPTIONAL, certificate=REPORT) as folder:
        write_image(phantom.image, folder / "subject.nii.gz")
        write_image(phantom.labels, folder / "subject_labels.nii.gz")
        segmentation = segment(
            read_image(folder / "subject.nii.gz"),
            model,
            progress=part(reporter, 0.05, 0.6),
            source=str(options.output / "subject.nii.gz"),
        )
        save(segmentation, folder, reporter)
        seal(folder, options.output, DEMO_RESULTS, REPORT)
    announce(segmentation, options.output, reporter)
    scores = dice_per_label(segmentation.labels, phantom.labels)
    say(
        f"true Dice of the made-up subject: {np.nanmean(list(scores.values())):.3f} over "
        f"{counted(len(scores), 'structure')}; "
        f"open {options.output / 'report.html'}",
        given.console(reporter),
    )
