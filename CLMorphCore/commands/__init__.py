"""The verbs of ``clmorph``, one module each: from parsed options to files."""

from __future__ import annotations

from argparse import Namespace

import SimpleITK as sitk

from ..devices import is_out_of_memory, use_threads
from ..errors import OutOfMemory
from ..progress import Reporter
from . import build_atlas, demo, evaluate, models, register, segment, train

VERBS = {
    "segment": segment.run,
    "register": register.run,
    "train": train.run,
    "evaluate": evaluate.run,
    "build-atlas": build_atlas.run,
    "models": models.run,
    "demo": demo.run,
}


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
            f"out of memory with `device={options.device}` ({str(error).partition(chr(10))[0]:.200}); expected enough "
            "for the images and the network",
            "use `device=cpu`, or crop the images to the organ",
        ) from None
