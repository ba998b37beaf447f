"""A signal to stop is heard: in Python at once, inside a library's computation after a moment, and nothing is left."""

import os
import signal
import subprocess
import sys
import time

import pytest

from CLMorphCore.progress import EXIT_CANCELLED, stoppable

# Computes in ITK, which lets no signal through, with a half-made folder; argv[1] is where.
BUSY = """
import sys
from pathlib import Path
import SimpleITK as sitk
from CLMorphCore.atomic import atomic_folder, remove_temporaries
from CLMorphCore.progress import stoppable
sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
image = sitk.Image(400, 400, 400, sitk.sitkUInt8)
with stoppable(remove_temporaries), atomic_folder(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("half")
    print("ready", flush=True)
    for _ in range({times}):
        sitk.GrayscaleDilate(image, [{radius}] * 3)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no signals to single processes")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("times", "radius"), [(1, 400), (100_000, 1)], ids=["one long", "many short"])
def test_a_signal_ends_a_computation_of_a_library_and_nothing_is_left(number, times, radius, tmp_path):
    code = BUSY.replace("{times}", str(times)).replace("{radius}", str(radius))
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "out")], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == b"ready\n"
    time.sleep(0.3)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)  # the computation itself takes minutes
    assert (process.returncode in (EXIT_CANCELLED, -signal.SIGINT, 1) and b"KeyboardInterrupt" in errors) or not errors
    assert list(tmp_path.iterdir()) == []


def test_a_signal_in_python_is_an_interrupt_and_the_handlers_come_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    exits = []
    with pytest.raises(KeyboardInterrupt), stoppable(lambda: exits.append(1)):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)
    assert not exits and (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_an_interrupt_of_which_a_library_makes_an_error_is_still_one():
    def library():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(30)
        except BaseException:
            raise RuntimeError("a callback failed") from None

    with pytest.raises(KeyboardInterrupt), stoppable(lambda: None):
        library()
    with pytest.raises(RuntimeError, match="its own"), stoppable(lambda: None):
        raise RuntimeError("its own")
