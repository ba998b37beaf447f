"""The colour table of Jacobian maps: blue shrinks, white keeps its volume, red grows, yellow folds."""

from __future__ import annotations

import numpy as np
import slicer

FOLD_COLOR = (1.0, 0.88, 0.0)
SHRINK_COLOR = (0.02, 0.19, 0.58)
NEUTRAL_COLOR = (0.97, 0.97, 0.97)
GROW_COLOR = (0.60, 0.0, 0.05)
HIGHEST = 2.0
ENTRIES = 256

# A volume is shown by index = floor((value - lowest) * 255 / (HIGHEST - lowest)), clamped to 0..255. With `lowest` one
# step below zero (less a hair, for rounding) entry 0 holds exactly the folds, and 1.0 falls into the middle entry.
STEP = HIGHEST / (ENTRIES - 2)
LOWEST = -STEP * (1.0 - 1e-4)

_NAME = "CLMorph Jacobian"


def jacobian_color(determinant: float) -> tuple[float, float, float]:
    """RGB 0..1 of a determinant: by its logarithm, full colour where a volume is halved or doubled."""
    if determinant <= 0.0:
        return FOLD_COLOR
    strength = float(np.clip(np.log2(determinant), -1.0, 1.0))
    end = np.array(GROW_COLOR if strength > 0.0 else SHRINK_COLOR)
    return tuple(np.array(NEUTRAL_COLOR) * (1.0 - abs(strength)) + end * abs(strength))


def jacobian_color_node() -> slicer.vtkMRMLColorTableNode:
    """The scene's colour table for Jacobian maps; made at the first call."""
    node = slicer.mrmlScene.GetFirstNode(_NAME, "vtkMRMLColorTableNode")
    if node is not None:
        return node
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLColorTableNode", _NAME)
    node.SetTypeToUser()
    node.SetNumberOfColors(ENTRIES)
    node.SetColor(0, "fold", *FOLD_COLOR, 1.0)
    for entry in range(1, ENTRIES):
        determinant = (entry - 0.5) * STEP
        node.SetColor(entry, f"{determinant:.2f}", *jacobian_color(determinant), 1.0)
    return node


def color_by_jacobian(volume_node: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Show a volume of Jacobian determinants in the table's colours."""
    volume_node.CreateDefaultDisplayNodes()
    display = volume_node.GetDisplayNode()
    display.SetAndObserveColorNodeID(jacobian_color_node().GetID())
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(LOWEST, HIGHEST)
    display.SetInterpolate(False)  # between two voxels a fold must not look like a shrinkage
