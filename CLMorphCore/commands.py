"""The verbs of ``clmorph``: from parsed options to files."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import TextIO

import numpy as np
import SimpleITK as sitk

from .atomic import atomic_folder, check_writable
from .bundles import config as settings
from .bundles.atlas import Atlas, make_atlas, read_atlases, read_structures, save_atlas
from .bundles.model import (
    Model,
    affine_model,
    bundled_models,
    load_model,
    model_folder,
    models_without_weights,
    read_card,
)
from .bundles.phantom import make_phantom
from .bundles.template import ROUNDS, build_atlas, build_each
from .devices import choose_device, is_out_of_memory, use_threads
from .errors import InputError, OutOfMemory
from .evaluation import evaluate
from .instance_optimization import InstanceOptimization
from .io.images import read_image, write_image
from .io.manifest import read_manifest
from .io.transforms import read_affine
from .metrics import dice_per_label
from .progress import Reporter, Stopwatch, part
from .registration import register
from .segmentation import Segmentation, segment
from .training.loop import train

SOMETIMES = ("inverse.h5", "uncertainty.nii.gz")  # files of a segmentation that not every network gives


def run(options: Namespace, reporter: Reporter) -> None:
    """Runs the chosen verb."""
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # what matters of ITK's warnings is checked and said in words
    use_threads(options.threads)
    reporter.check_cancelled()
    try:
        VERBS[options.verb](options, reporter)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"out of memory with --device {options.device} ({str(error).partition(chr(10))[0]:.200}); "
            "expected enough for the images and the network; use --device cpu, or crop the images to "
            "the organ"
        ) from None


def _segment(options: Namespace, reporter: Reporter) -> None:
    check_writable(options.output)
    model = _model(options)
    atlases, affine, optimization = _own_atlases(options), _affine(options), _optimization(options)
    watch = Stopwatch()
    with watch.step("reading"):
        reporter("reading", 0.0)
        image = read_image(options.image)
    found = segment(
        image,
        model,
        atlases=atlases,
        fusion=options.fusion,
        most_similar=options.atlases,
        affine=affine,
        optimization=optimization,
        progress=part(reporter, 0.05, 0.6),
        about={"image": str(options.image)},
    )
    found.report["duration_s"] = watch.seconds | found.report["duration_s"]
    with atomic_folder(options.output, optional=SOMETIMES) as folder:
        _save(found, folder, reporter)
    _segmented(found, options.output, reporter)


def _save(found: Segmentation, folder: Path, reporter: Reporter) -> None:
    """Writes a segmentation; InputError if it has no label at all."""
    if not found.volumes_ml:
        raise InputError(
            "no voxel of the scan got a label, the atlas' structures lie outside of it; expected a scan "
            "of the organ, in its place and orientation; check its header, --model and --affine"
        )
    found.save(folder, part(reporter, 0.6, 0.98))
    reporter.check_cancelled()


def _segmented(found: Segmentation, output: Path, reporter: Reporter) -> None:
    known, labelled = {s.value for s in found.structures}, set(found.volumes_ml)
    there = f"{len(known)}" if known <= labelled else f"{len(known & labelled)} of {len(known)}"
    _done(reporter, output, f"labels of {there} structures and report.html")
    for warning in found.report["warnings"]:
        print(f"clmorph: warning: {warning}", file=sys.stderr)


def _register(options: Namespace, reporter: Reporter) -> None:
    check_writable(options.output)
    optimization, affine = _optimization(options), _affine(options)
    if options.model is None and optimization is None:
        raise InputError(
            "neither --model nor --refine is given; expected a model whose network registers, or the "
            "number of steps to register by optimisation alone, for instance --refine 50"
        )
    model = _model(options) if options.model is not None else affine_model(choose_device(options.device))
    reporter("reading", 0.0)
    fixed, moving = read_image(options.fixed), read_image(options.moving)
    found = register(fixed, moving, model, affine=affine, optimization=optimization, progress=part(reporter, 0.05, 0.8))
    report = {
        "fixed": str(options.fixed),
        "moving": str(options.moving),
        "model": model.name,
        "refinement_steps": found.refinement_steps,
        "folding_fraction": found.folding_fraction,
        "similarity": dict(zip(("affine", "warped"), found.similarity, strict=True)),
        "duration_s": found.duration_s,
    }
    with atomic_folder(options.output, optional=("inverse.h5",)) as folder:
        reporter("writing", 0.8)
        found.save(folder)
        write_image(found.warp(moving), folder / "warped.nii.gz")
        write_image(found.jacobian_on_fixed(), folder / "jacobian.nii.gz")
        (folder / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
        reporter.check_cancelled()
    inverse = "inverse.h5" if found.inverse is not None else "no inverse (its network has none)"
    _done(reporter, options.output, f"transform.h5, {inverse} and the warped image")


def _train(options: Namespace, reporter: Reporter) -> None:
    config = settings.load_config(options.config, options.overrides)
    model = train(
        config,
        read_manifest(options.data),
        options.output,
        device=choose_device(options.device),
        resume=options.resume,
        initial=options.initial,
        tensorboard=options.tensorboard,
        progress=reporter,
    )
    _done(reporter, model, "the trained model; log.jsonl beside it has the losses")


def _evaluate(options: Namespace, reporter: Reporter) -> None:
    check_writable(options.output)
    found = evaluate(
        _model(options),
        read_manifest(options.data),
        split=options.split,
        atlases=_own_atlases(options),
        fusion=options.fusion,
        most_similar=options.atlases,
        optimization=_optimization(options),
        progress=reporter,
    )
    found.save(options.output)
    s = found.summary
    _done(
        reporter,
        options.output,
        f"Dice {s['dice']:.3f} (affine {s['dice_affine']:.3f}), HD95 {s['hd95_mm']:.2f} mm "
        f"over {s['subjects']} subjects, folding {s['folding_fraction_mean']:.5%}",
    )


def _build_atlas(options: Namespace, reporter: Reporter) -> None:
    check_writable(options.output)
    subjects, model = read_manifest(options.data), _model(options) if options.model else None
    structures = read_structures(options.label_names) if options.label_names else None
    if options.each:
        if said := [f"--{name}" for name in ("rounds", "typical", "margin") if getattr(options, name)]:
            raise InputError(
                f"--each and {' and '.join(said)} were given; --each takes every subject as it is; omit one of them"
            )
        reference = model.atlases[0].image if model is not None and model.atlases else None
        atlases = build_each(subjects, reference=reference, model=model, structures=structures, progress=reporter)
        with atomic_folder(options.output) as folder:
            for atlas in atlases:
                save_atlas(folder / atlas.name, atlas)
        _done(reporter, options.output, f"{len(atlases)} atlases; use them with --atlas-dir")
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
    _done(reporter, options.output, f"an atlas of {len(atlas.structures)} structures")


def _models(options: Namespace, reporter: Reporter) -> None:
    for name in bundled_models():
        card = read_card(model_folder(name)).get("model", {})
        reporter.event("model", **card | {"name": name})
        if reporter.kind != "json":
            print(
                f"{name:<14} {card.get('title', '')}\n{'':<14} {card.get('purpose', '')}\n"
                f"{'':<14} licence: {card.get('licence', '')}"
            )
    for name, title in models_without_weights().items():
        reporter.event("model", name=name, title=title)
        if reporter.kind != "json":
            print(f"{name:<14} {title}")


def _demo(options: Namespace, reporter: Reporter) -> None:
    """Segments a phantom through the same files as any user's scan."""
    check_writable(options.output)
    model = _model(options)
    if not model.atlases:
        raise InputError(
            f"model {model.name} has no atlas to make a subject from; expected a model that has one; see clmorph models"
        )
    reporter("making a subject", 0.0)
    phantom = make_phantom(model.atlases[0], seed=7)
    with atomic_folder(options.output, optional=SOMETIMES) as folder:
        write_image(phantom.image, folder / "subject.nii.gz")
        write_image(phantom.labels, folder / "subject_labels.nii.gz")
        found = segment(
            read_image(folder / "subject.nii.gz"),
            model,
            progress=part(reporter, 0.05, 0.6),
            about={"image": str(options.output / "subject.nii.gz")},
        )
        _save(found, folder, reporter)
    _segmented(found, options.output, reporter)
    scores = dice_per_label(found.labels, phantom.labels)
    print(
        f"true Dice of the made-up subject: {np.nanmean(list(scores.values())):.3f} over {len(scores)} structures; "
        f"open {options.output / 'report.html'}",
        file=_console(reporter),
    )


def _model(options: Namespace) -> Model:
    return load_model(options.model, choose_device(options.device))


def _own_atlases(options: Namespace) -> list[Atlas] | None:
    """The atlases that the options give, or None for the model's."""
    single = (options.atlas, options.atlas_labels, options.label_names)
    if options.atlas_dir is None:
        atlas = _own_atlas(options)
        return None if atlas is None else [atlas]
    if any(option is not None for option in single):
        raise InputError(
            "--atlas-dir is given with --atlas, --atlas-labels or --label-names; give one atlas or a "
            "folder of several, not both"
        )
    return list(read_atlases(options.atlas_dir))


def _own_atlas(options: Namespace) -> Atlas | None:
    if options.atlas is None and options.atlas_labels is None:
        if options.label_names is not None:
            raise InputError(
                "--label-names names the labels of an atlas of your own; give --atlas and --atlas-labels "
                "too, or omit it"
            )
        return None
    if options.atlas is None or options.atlas_labels is None:
        raise InputError("--atlas and --atlas-labels go together; give both, or neither to use the model's atlas")
    return make_atlas(Path(options.atlas).name, options.atlas, options.atlas_labels, options.label_names)


def _optimization(options: Namespace) -> InstanceOptimization | None:
    if options.refine is not None:
        return InstanceOptimization(options.refine, options.similarity or "lncc")
    if options.similarity is not None:
        raise InputError(
            f"--similarity {options.similarity} is what a refinement looks at; give --refine STEPS too, or omit it"
        )
    return None


def _affine(options: Namespace) -> sitk.Transform | None:
    if options.affine is None:
        return None
    if options.affine == "none":
        return sitk.AffineTransform(3)
    return read_affine(options.affine)


def _done(reporter: Reporter, output: Path, text: str) -> None:
    reporter("done", 1.0)
    reporter.close()
    reporter.event("done", output=str(output))
    print(f"{output}: {text}", file=_console(reporter))


def _console(reporter: Reporter) -> TextIO:
    """stdout, or stderr where stdout is for JSON."""
    return sys.stderr if reporter.kind == "json" else sys.stdout


VERBS = {
    "segment": _segment,
    "register": _register,
    "train": _train,
    "evaluate": _evaluate,
    "build-atlas": _build_atlas,
    "models": _models,
    "demo": _demo,
}
