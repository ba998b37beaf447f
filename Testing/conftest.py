"""For all tests: what they share can be imported, processes find compiled code, torch and ITK compute on one thread."""

import os
import sys
from pathlib import Path

import pytest
import SimpleITK as sitk
import torch

sys.path.append(str(Path(__file__).parent))
# Where the environment forbids to keep compiled code, every process that a test starts would compile the engine again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Sums in one order only, and no competition for the cores."""
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
