"""What the options of several verbs stand for, as values of the library, and how a verb says that it is done."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import TextIO

import SimpleITK as sitk

from ..bundles.atlas import Atlas, make_atlas, read_atlases
from ..bundles.model import Model, load_model
from ..devices import choose_device
from ..errors import InputError
from ..instance_optimization import InstanceOptimization
from ..io.transforms import read_affine
from ..progress import Reporter


def model(options: Namespace) -> Model:
    """The model called --model, on --device."""
    return load_model(options.model, choose_device(options.device))


def own_atlases(options: Namespace) -> list[Atlas] | None:
    """The atlases that the options give, or None for the model's."""
    single = (options.atlas, options.atlas_labels, options.label_names)
    if options.atlas_dir is None:
        atlas = _own_atlas(options)
        return None if atlas is None else [atlas]
    if any(option is not None for option in single):
        raise InputError(
            "--atlas-dir is given with --atlas, --atlas-labels or --label-names",
            "give one atlas or a folder of several, not both",
        )
    return list(read_atlases(options.atlas_dir))


def _own_atlas(options: Namespace) -> Atlas | None:
    if options.atlas is None and options.atlas_labels is None:
        if options.label_names is not None:
            raise InputError(
                "--label-names names the labels of an atlas of your own",
                "give --atlas and --atlas-labels too, or omit it",
            )
        return None
    if options.atlas is None or options.atlas_labels is None:
        raise InputError("--atlas and --atlas-labels go together", "give both, or neither to use the model's atlas")
    return make_atlas(Path(options.atlas).name, options.atlas, options.atlas_labels, options.label_names)


def optimization(options: Namespace) -> InstanceOptimization | None:
    """The optimization that --refine and --similarity ask for, or None."""
    if options.refine is not None:
        return InstanceOptimization(options.refine, options.similarity or "lncc")
    if options.similarity is not None:
        raise InputError(
            f"--similarity {options.similarity} is what a refinement maximises", "give --refine STEPS too, or omit it"
        )
    return None


def affine(options: Namespace) -> sitk.Transform | None:
    """The transform that --affine names, the identity for "none", or None for the built-in alignment."""
    if options.affine is None:
        return None
    return sitk.AffineTransform(3) if options.affine == "none" else read_affine(options.affine)


def done(reporter: Reporter, output: Path, text: str) -> None:
    """Says where the results lie and what they are."""
    reporter("done", 1.0)
    reporter.close()
    reporter.event("done", output=str(output))
    print(f"{output}: {text}", file=console(reporter))


def console(reporter: Reporter) -> TextIO:
    """stdout, or stderr where stdout is for JSON."""
    return sys.stderr if reporter.kind == "json" else sys.stdout
