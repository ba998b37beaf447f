"""What a runner reports of time and memory is its own process', whatever its parent holds."""

import json
import subprocess
import sys
import time

import numpy as np

from Training.benchmarks.running import RUNNERS

SCRIPT = f"""
import sys, time
sys.path.insert(0, {str(RUNNERS)!r})
from runner import run
def register(job):
    job.imported("7")
    with job.registering():
        held = bytearray(b"x" * int(job.settings["bytes"]))
        time.sleep(0.2)
run(register)
"""


def measured(folder, size):
    (folder / "job.json").write_text(
        json.dumps(
            {
                "fixed": "",
                "moving": "",
                "output": str(folder),
                "threads": 1,
                "settings": {"bytes": size},
                "started": time.time(),
            }
        )
    )
    subprocess.run([sys.executable, "-c", SCRIPT, str(folder / "job.json")], check=True)
    return json.loads((folder / "measured.json").read_text(encoding="utf-8"))


def test_memory_is_the_childs_own(tmp_path):
    parent = np.ones(300_000_000 // 8)  # resident here, not there
    small, large = measured(tmp_path, 1000), measured(tmp_path, 200_000_000)
    assert small["peak_mb"] < 100 < 200 < large["peak_mb"] < 500
    assert parent.sum() > 0


def test_time_is_split_into_start_and_registration(tmp_path):
    found = measured(tmp_path, 1000)
    assert found["seconds"] >= 0.2 and found["seconds_import"] > 0 and found["version"] == "7"
