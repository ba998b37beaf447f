"""``clmorph train``: a model from one's own scans, or only a network by settings of one's own."""

from __future__ import annotations

from argparse import Namespace

from ..bundles.atlas import read_structures
from ..bundles.config import load_config
from ..bundles.model import initial_weights
from ..errors import InputError
from ..io.layouts import find_scans
from ..io.manifest import read_manifest
from ..progress import Reporter
from ..training.loop import RESULTS, follow, train
from ..training.plan import read_plan
from ..training.processes import Team, joined
from ..training.run import PLAN
from ..training.run_page import measured
from ..training.workflow import RESULTS as MADE
from ..training.workflow import train_scans
from . import options as given
from .plan import DEFAULT_MINUTES, Teller, name_of

OF_SCANS = ("plan", "minutes", "labels_for", "label_names")
OF_A_NETWORK = ("resume", "overrides", "tensorboard")


def run(options: Namespace, reporter: Reporter) -> None:
    """Trains into the output folder, whose model/ is the model; with others, where several processes were started."""
    with joined(options.device) as team:
        reporter.follows = not team.leads
        if reporter.follows:
            follow(team)
            return
        _check_together(options)
        if options.data is None:
            _from_scans(options, reporter, team)
        else:
            _network(options, reporter, team)
        team.shared(None)  # there is nothing more to do


def _check_together(options: Namespace) -> None:
    """InputError for options of the one way with those of the other."""
    strange = OF_SCANS if options.data is not None else OF_A_NETWORK
    if others := [f"`{name}`" for name in strange if getattr(options, name)]:
        remedy = "omit `manifest`" if options.data is not None else "give `manifest` and CONFIG.toml"
        kind = "scans" if options.data is not None else "a network alone by settings"
        raise InputError(f"{' and '.join(others)} belong to a training of {kind}", f"{remedy}, or omit them")
    if options.data is None and options.scans.suffix.lower() == ".toml":
        raise InputError(
            f"{options.scans} is a file of settings, and no scans are given; expected a folder of scans, a CSV "
            "manifest or a list of files",
            "give `manifest` for a network by these settings, or DATA and `plan`",
        )


def _from_scans(options: Namespace, reporter: Reporter, team: Team) -> None:
    collection = find_scans(options.scans, dict(options.labels_for))
    initial = initial_weights(options.initial) if options.initial else None
    inputs = (options.scans, options.plan, options.label_names, collection.label_names, initial)
    if options.scans.resolve() == options.output.resolve():
        raise InputError(
            f"{options.output} is the folder of the scans and `output`; expected another, whose results are not taken "
            "for scans by the next call",
            f"choose {options.output / 'RUN'}, or a folder elsewhere",
        )
    given.check_inputs(options, MADE, *inputs, *given.files_of(collection.subjects))
    plan = read_plan(options.plan) if options.plan else None
    if plan is not None and options.minutes is not None:
        raise InputError(
            "`minutes` and `plan` were given; a plan has its own", "change training.minutes in it, or omit `minutes`"
        )
    structures = read_structures(options.label_names) if options.label_names else None
    teller = Teller(reporter)
    for note in collection.notes:
        teller.note(note)
    begun = options.output / PLAN
    if options.minutes is not None and begun.exists():
        teller.note(f"goes on by {begun}, whose minutes hold; --minutes is for a new training")
    model = train_scans(
        collection,
        options.output,
        minutes=options.minutes or DEFAULT_MINUTES,
        device=team.device,
        plan=plan,
        structures=structures,
        name=name_of(options.scans),
        initial=options.initial,
        tell=teller.finding,
        progress=reporter,
        team=team,
    )
    reached = [
        f"Dice {one.dice:.3f} on {split} (affine {one.dice_affine:.3f})"
        for split, one in measured(options.output).items()
    ]
    how_good = (
        f"{', '.join(reached)}; report.html beside it tells more" if reached else "report.html beside it shows it"
    )
    given.done(reporter, model, f"the model; segment with --model {given.quoted(model)}; {how_good}")


def _network(options: Namespace, reporter: Reporter, team: Team) -> None:
    config, subjects = load_config(options.scans, options.overrides), read_manifest(options.data)
    initial = initial_weights(options.initial) if options.initial else None
    inputs = (options.scans, options.data, initial, config.data.reference or None, *given.files_of(subjects))
    given.check_inputs(options, RESULTS, *inputs)
    model = train(
        config,
        subjects,
        options.output,
        device=team.device,
        resume=options.resume,
        initial=initial,
        tensorboard=options.tensorboard,
        progress=reporter,
        team=team,
    )
    given.done(reporter, model, "the trained model; log.jsonl beside it has the losses")
