"""The colour table of Jacobian maps: blue shrinks, white keeps its volume, red grows, yellow folds."""

from __future__ import annotations

import numpy as np
import slicer

from .words import _

FOLD_COLOR = (1.0, 0.88, 0.0)
SHRINK_COLOR = (0.02, 0.19, 0.58)
NEUTRAL_COLOR = (0.97, 0.97, 0.97)
GROW_COLOR = (0.60, 0.0, 0.05)
ENTRIES = 256
FOLD_ENTRIES = 51
HIGHEST = 2.0

# A volume is shown by entry floor((value - LOWEST) / STEP), clamped to 0..255. The first FOLD_ENTRIES entries end at
# zero (a hair above it, so that zero is a fold too): a fold is never mixed with a shrinkage.
STEP = HIGHEST / (ENTRIES - 1 - FOLD_ENTRIES)
LOWEST = -FOLD_ENTRIES * STEP + 1e-4 * STEP

_NAME = "CLMorph Jacobian"


def jacobian_color(determinant: float) -> tuple[float, float, float]:
    """RGB 0..1 of a determinant: by its logarithm, full colour where a volume is halved or doubled."""
    if determinant <= 0.0:
        return FOLD_COLOR
    strength = float(np.clip(np.log2(determinant), -1.0, 1.0))
    end = np.array(GROW_COLOR if strength > 0.0 else SHRINK_COLOR)
    return tuple((np.array(NEUTRAL_COLOR) * (1.0 - abs(strength)) + end * abs(strength)).tolist())


def jacobian_color_node() -> slicer.vtkMRMLColorTableNode:
    """The scene's colour table for Jacobian maps; made at the first call."""
    node = slicer.mrmlScene.GetFirstNode(_NAME, "vtkMRMLColorTableNode")
    if node is not None:
        return node
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLColorTableNode", _NAME)
    node.SetTypeToUser()
    node.SetNumberOfColors(ENTRIES)
    for entry in range(ENTRIES):
        determinant = (entry - FOLD_ENTRIES + 0.5) * STEP  # in the middle of those that the entry shows
        name = _("fold") if determinant < 0.0 else f"{determinant:.2f}"
        node.SetColor(entry, name, *jacobian_color(determinant), 1.0)
    return node


def color_by_jacobian(volume_node: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Show a volume of Jacobian determinants in the table's colours."""
    volume_node.CreateDefaultDisplayNodes()
    display = volume_node.GetDisplayNode()
    display.SetAndObserveColorNodeID(jacobian_color_node().GetID())
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(LOWEST, HIGHEST)
    display.SetInterpolate(False)  # between two voxels a fold must not look like a shrinkage


def show_legend(volume_node: slicer.vtkMRMLScalarVolumeNode, visible: bool) -> None:
    """Show or hide what the colours mean, in the views that show the map."""
    logic = slicer.modules.colors.logic()
    legend = logic.GetColorLegendDisplayNode(volume_node)
    if legend is None:
        if not visible:
            return
        legend = logic.AddDefaultColorLegendDisplayNode(volume_node)
        legend.SetTitleText(_("Jacobian"))
        legend.SetLabelFormat("%.1f")
        legend.SetNumberOfLabels(6)
    legend.SetVisibility(visible)
