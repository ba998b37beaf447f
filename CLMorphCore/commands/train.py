"""``clmorph train``: a model from one's own images."""

from __future__ import annotations

from argparse import Namespace

from ..bundles.config import load_config
from ..devices import choose_device
from ..io.manifest import read_manifest
from ..progress import Reporter
from ..training.loop import RESULTS, train
from . import options as given


def run(options: Namespace, reporter: Reporter) -> None:
    """Trains into the output folder, whose model/ is the model."""
    config, subjects = load_config(options.config, options.overrides), read_manifest(options.data)
    inputs = (options.config, options.data, options.initial, config.data.reference or None, *given.files_of(subjects))
    given.check_inputs(options, RESULTS, *inputs)
    model = train(
        config,
        subjects,
        options.output,
        device=choose_device(options.device),
        resume=options.resume,
        initial=options.initial,
        tensorboard=options.tensorboard,
        progress=reporter,
    )
    given.done(reporter, model, "the trained model; log.jsonl beside it has the losses")
