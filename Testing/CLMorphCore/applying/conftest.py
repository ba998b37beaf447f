"""A grid that is not the patient's axes, with an image on it and points in it."""

import numpy as np
import pytest
import SimpleITK as sitk
from made_up_transforms import GRIDS


@pytest.fixture(scope="module", autouse=True)
def quick_reader(forked_reader):
    """Almost every test reads a transform."""


@pytest.fixture(params=GRIDS)
def grid(request):
    """A grid that is not the patient's axes."""
    return GRIDS[request.param]


@pytest.fixture
def image(grid):
    """Smooth waves on the grid, as float32."""
    index = np.moveaxis(np.indices(grid.shape), 0, -1).reshape(-1, 3)
    points = grid.points_mm(index)
    values = 100 + 40 * np.sin(points @ [0.11, 0.07, 0.05]) + 20 * np.cos(points @ [0.03, -0.09, 0.12])
    made = sitk.GetImageFromArray(values.reshape(grid.shape).astype(np.float32))
    made.SetSpacing(grid.spacing_mm)
    made.SetOrigin(grid.origin_mm)
    made.SetDirection(grid.direction)
    return made


@pytest.fixture
def points(grid):
    """400 points within the grid, LPS, mm."""
    return grid.points_mm(np.random.default_rng(1).uniform(0.5, np.array(grid.shape) - 1.5, (400, 3)))
