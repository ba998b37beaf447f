"""The verbs of ``clmorph``, one module each: from parsed options to files."""

from __future__ import annotations

import logging
import sys
from argparse import Namespace
from collections.abc import Collection

import SimpleITK as sitk

from ..console import say
from ..devices import is_out_of_memory, keep_freed_memory, out_of_memory, use_threads
from ..errors import SomeFailed
from ..progress import Reporter
from . import apply, build_atlas, cohort, demo, evaluate, models, morphometry, plan, register, segment, train, transform

LOG = logging.getLogger("CLMorphCore")
VERBS = {
    "segment": segment.run,
    "register": register.run,
    "apply": apply.run,
    "transform": transform.run,
    "plan": plan.run,
    "train": train.run,
    "evaluate": evaluate.run,
    "cohort": cohort.run,
    "morphometry": morphometry.run,
    "build-atlas": build_atlas.run,
    "models": models.run,
    "demo": demo.run,
}


class _Collected(logging.Handler):
    """Keeps the engine's warnings, each once, until a run is done: one without results ends in one line."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self.texts[record.getMessage()] = None

    def say(self, told: Collection[str]) -> None:
        """Has them on stderr, but those that were told."""
        for text in self.texts:
            if text not in told:
                say(f"clmorph: warning: {text}", sys.stderr)


def run(options: Namespace, reporter: Reporter) -> None:
    """Runs the chosen verb; its warnings go to stderr when it is done."""
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # what matters of ITK's warnings is checked and said in words
    use_threads(options.threads)
    keep_freed_memory()
    reporter.check_cancelled()
    warned = _Collected()
    LOG.addHandler(warned)
    try:
        VERBS[options.verb](options, reporter)
        warned.say(reporter.told)
    except SomeFailed:  # the others have their results
        warned.say(reporter.told)
        raise
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(error, options.device) from None
    finally:
        LOG.removeHandler(warned)
