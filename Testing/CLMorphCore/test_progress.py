"""A signal to stop is heard: in Python at once, inside a library's computation after a moment, and nothing is left."""

import os
import signal
import subprocess
import sys
import time

import pytest

from CLMorphCore.errors import Cancelled
from CLMorphCore.progress import EXIT_CANCELLED, deferred, stoppable

# Computes in ITK, which lets no signal through, or in short pieces between which it checks; argv[1] is where.
BUSY = """
import sys
from pathlib import Path
import SimpleITK as sitk
from CLMorphCore.atomic import atomic_folder, remove_temporaries
from CLMorphCore.errors import Cancelled
from CLMorphCore.progress import deferred, stoppable
sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
image = sitk.Image(400, 400, 400, sitk.sitkUInt8)
try:
    with stoppable(remove_temporaries) as stop, deferred(), atomic_folder(Path(sys.argv[1])) as folder:
        (folder / "half").write_text("half")
        print("ready", flush=True)
        for _ in range({times}):
            sitk.GrayscaleDilate(image[:{side}, :{side}, :{side}], [{radius}] * 3)
            stop.check()
except Cancelled:
    sys.exit(7)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no signals to single processes")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("times", "side", "radius", "code"), [(1, 400, 400, EXIT_CANCELLED), (10**6, 9, 1, 7)], ids=["long", "short"]
)
def test_a_signal_ends_a_computation_of_a_library_and_nothing_is_left(number, times, side, radius, code, tmp_path):
    text = BUSY.replace("{times}", str(times)).replace("{side}", str(side)).replace("{radius}", str(radius))
    process = subprocess.Popen(
        [sys.executable, "-c", text, str(tmp_path / "out")], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == b"ready\n"
    time.sleep(0.3)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)  # the computation itself takes minutes
    assert process.returncode == code and errors == b""
    assert list(tmp_path.iterdir()) == []


def test_a_signal_is_an_interrupt_or_where_a_library_calls_back_waits_for_a_check():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    exits = []
    with pytest.raises(KeyboardInterrupt), stoppable(lambda: exits.append(1)):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)
    with stoppable(lambda: exits.append(1)) as stop, deferred():
        stop.check()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Cancelled):
            stop.check()
    assert not exits and (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
