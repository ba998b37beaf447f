"""For all tests: what they share can be imported, and torch and ITK compute on one thread."""

import sys
from pathlib import Path

import pytest
import SimpleITK as sitk
import torch

sys.path.append(str(Path(__file__).parent))


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Sums in one order only, and no competition for the cores."""
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
