"""How a deformation is looked at: grid, arrows or contours, before and after, Jacobian map, millimetres at a point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import slicer.util
import vtk

from .colors import show_legend
from .errors import NodeError
from .frames import BEFORE_AFTER, check_found
from .results import Results, browser_of, is_result, results_of
from .words import _

MODES = ("grid", "glyph", "contour")
PLAIN_COLOR = (1.0, 0.85, 0.25)
DISPLACEMENT_COLORS = ((0.0, (0.45, 0.70, 1.0)), (0.5, (1.0, 0.90, 0.35)), (1.0, (1.0, 0.20, 0.10)))  # seen on dark
AXIAL_SLICE = "vtkMRMLSliceNodeRed"
# Of a slice view 0 is the background, 1 the foreground, 2 the labels; the others lie above. Slicer shows the legend of
# a map in the foreground, not of one in the layers above it.
LAYERS = (1, 3, 4)
Layers = dict[str, list[tuple[int, str | None, float]]]  # of slice views, by their composite nodes


@dataclass(frozen=True)
class DeformationStyle:
    """How a deformation is drawn. `scale` 1 is true size; `line_width` is in pixels in slices, in mm in 3D."""

    mode: str = "grid"
    in_slices: bool = True
    in_3d: bool = False
    spacing_mm: float = 10.0
    scale: float = 1.0
    line_width: float = 1.0
    color_by_displacement: bool = True

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"unknown mode {self.mode!r}: choose one of {', '.join(MODES)}")
        for name in ("spacing_mm", "scale", "line_width"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} is {getattr(self, name)}: give a number above 0")


def show_deformation(transform_node: slicer.vtkMRMLTransformNode, style: DeformationStyle) -> None:
    """Draw the deformation without the affine, on the patient; replaces what was drawn of this transform before."""
    results = results_of(transform_node)
    display = _field_display(results)
    with slicer.util.RenderBlocker(), slicer.util.NodeModify(display):
        display.SetVisibility(True)
        display.SetVisibility2D(style.in_slices)
        display.SetVisibility3D(style.in_3d)
        display.SetAndObserveRegionNode(_region(results, style))
        highest_mm = max_displacement_mm(transform_node)
        _set_mode(display, style, highest_mm)
        _set_color(display, style, highest_mm)


def hide_deformation(transform_node: slicer.vtkMRMLTransformNode) -> None:
    """Draw nothing of the deformation."""
    _field_display(results_of(transform_node)).SetVisibility(False)


def _field_display(results: Results) -> slicer.vtkMRMLTransformDisplayNode:
    field = _present(results, "field")
    field.CreateDefaultDisplayNodes()
    return field.GetDisplayNode()


def _region(results: Results, style: DeformationStyle) -> slicer.vtkMRMLNode:
    # where the deformation is drawn in 3D: lines that fill the whole volume hide each other, those of a slice do not
    axial = slicer.mrmlScene.GetNodeByID(AXIAL_SLICE)
    return axial if style.mode == "grid" and axial is not None else _present(results, "volume")


def _set_mode(display: Any, style: DeformationStyle, highest_mm: float) -> None:
    modes = {"grid": display.VIS_MODE_GRID, "glyph": display.VIS_MODE_GLYPH, "contour": display.VIS_MODE_CONTOUR}
    display.SetVisualizationMode(modes[style.mode])
    display.SetSliceIntersectionThickness(max(1, round(style.line_width)))
    display.SetGridSpacingMm(style.spacing_mm)
    display.SetGridResolutionMm(style.spacing_mm / 5.0)
    display.SetGridScalePercent(100.0 * style.scale)
    display.SetGridLineDiameterMm(style.line_width)
    display.SetGlyphSpacingMm(style.spacing_mm)
    display.SetGlyphScalePercent(100.0 * style.scale)
    display.SetGlyphDiameterMm(3.0 * style.line_width)
    display.SetContourResolutionMm(style.spacing_mm / 5.0)
    display.SetContourLevelsMmFromString(" ".join(f"{level:g}" for level in contour_levels_mm(highest_mm)))


def _set_color(display: Any, style: DeformationStyle, highest_mm: float) -> None:
    display.SetColor(*PLAIN_COLOR)
    display.SetScalarVisibility(style.color_by_displacement)
    colors = vtk.vtkColorTransferFunction()
    for part, rgb in DISPLACEMENT_COLORS:
        colors.AddRGBPoint(part * highest_mm, *rgb)
    display.SetColorMap(colors)


def round_number(value: float) -> float:
    """Largest of 1, 2, 5 times a power of ten that is not above a positive value."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(max(step for step in (1.0, 2.0, 5.0) if step <= value / power * (1.0 + 1e-9)) * power)


def contour_levels_mm(highest_mm: float) -> list[float]:
    """Round levels below the largest displacement: five to twelve of them."""
    if highest_mm <= 0.0:
        return []
    step = round_number(highest_mm / 5.0)
    return (np.arange(1, np.ceil(highest_mm / step)) * step).tolist()


def suggested_spacing_mm(transform_node: slicer.vtkMRMLTransformNode) -> float:
    """A round distance of about twenty lines over the longest side of the patient's volume, mm."""
    bounds = [0.0] * 6
    _present(results_of(transform_node), "volume").GetRASBounds(bounds)
    return round_number(float(np.max(np.diff(bounds)[::2])) / 20.0)


def show_patient(transform_node: slicer.vtkMRMLTransformNode) -> None:
    """Bring a result's patient into the slice views: the empty ones, or all where none shows it yet."""
    patient = _present(results_of(transform_node), "volume").GetID()
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    seen = any(patient in (each.GetBackgroundVolumeID(), each.GetForegroundVolumeID()) for each in composites)
    for composite in composites:
        if not seen or not composite.GetBackgroundVolumeID():
            composite.SetBackgroundVolumeID(patient)


def show_slices(
    transform_node: slicer.vtkMRMLTransformNode,
    *,
    blend: float | None = None,
    atlas_opacity: float = 0.5,
    jacobian_opacity: float = 0.0,
) -> None:
    """Show patient, atlas and Jacobian map in all slice views: patient below, the map on top.

    Without atlas and map, only those of results are taken away: what the user has laid over each other stays.
    `blend` mixes the atlas warped by the affine alone (0) with the fully warped one (1); None shows no atlas.
    Slicer does not save the opacity of all layers: call this again after a scene was loaded.
    """
    results = results_of(transform_node)
    layers, opacities = [], []
    if blend is not None:
        check_found(transform_node)
        layers += [_present(results, "affine_warped"), _present(results, "warped")]
        opacities += blend_opacities(blend, atlas_opacity)
    if jacobian_opacity > 0.0:  # it is on top, as far as one sees, and yet the lowest layer: the foreground
        layers = [_present(results, "jacobian"), *layers]
        weights = layer_weights([*opacities, jacobian_opacity])
        opacities = stacked_opacities([weights[-1], *weights[:-1]])
    overlays = _overlay_ids()
    with slicer.util.RenderBlocker():
        for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            with slicer.util.NodeModify(composite):
                if layers:
                    composite.SetBackgroundVolumeID(_present(results, "volume").GetID())
                _set_layers(composite, list(zip(layers, opacities, strict=True)), overlays)
        if results.jacobian is not None:
            show_legend(results.jacobian, jacobian_opacity > 0.0)


def layers_now() -> Layers:
    """What the user has laid over each other in each slice view: (layer, volume's ID, opacity), overlays left out."""
    overlays, found = _overlay_ids(), {}
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        layers = [
            (each, composite.GetNthLayerVolumeID(each), composite.GetNthLayerOpacity(each)) for each in (0, *LAYERS)
        ]
        found[composite.GetID()] = [(each, None if held in overlays else held, much) for each, held, much in layers]
    return found


def put_back(layers: Layers, overlays: set[str], patients: set[str]) -> None:
    """Lay the volumes over each other that were there before the overlays, which go.

    `overlays`, `patients`: IDs of the volumes that were shown since, on top and below. What somebody has chosen
    meanwhile stays, and what the scene no longer has is not put back.
    """
    with slicer.util.RenderBlocker():
        for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            with slicer.util.NodeModify(composite):
                _set_layers(composite, [], overlays)
                for layer, before, opacity in layers.get(composite.GetID(), []):
                    now = composite.GetNthLayerVolumeID(layer)
                    if now is None or (layer == 0 and now in patients):
                        if before is not None and slicer.mrmlScene.GetNodeByID(before) is not None:
                            composite.SetNthLayerVolumeID(layer, before)
                        composite.SetNthLayerOpacity(layer, opacity)


def blend_opacities(blend: float, opacity: float) -> tuple[float, float]:
    """(lower, upper) opacities of two layers that show opacity * ((1 - blend) * lower + blend * upper) together."""
    upper = opacity * blend
    lower = opacity * (1.0 - blend) / (1.0 - upper) if upper < 1.0 else 0.0
    return lower, upper


def layer_weights(opacities: list[float]) -> list[float]:
    """What part of the picture each layer of a stack is, from the lowest to the uppermost: a * Π(1 - those above)."""
    weights, through = [], 1.0
    for opacity in reversed(opacities):
        weights.insert(0, through * opacity)
        through *= 1.0 - opacity
    return weights


def stacked_opacities(weights: list[float]) -> list[float]:
    """The opacities by which layers, from the lowest to the uppermost, make up these parts of the picture."""
    opacities, through = [], 1.0
    for weight in reversed(weights):
        opacities.insert(0, min(weight / through, 1.0) if through > 0.0 else 0.0)
        through -= weight
    return opacities


def _runs() -> list[Results]:
    return [results_of(node) for node in slicer.util.getNodesByClass("vtkMRMLTransformNode") if is_result(node)]


def overlays_of(results: Results) -> set[str]:
    """IDs of the volumes that overlays of a result are made of."""
    volumes = (results.affine_warped, results.warped, results.jacobian)
    return {volume.GetID() for volume in volumes if volume is not None}


def _overlay_ids() -> set[str]:
    return set().union(*map(overlays_of, _runs()))


def _set_layers(
    composite: slicer.vtkMRMLSliceCompositeNode, layers: list[tuple[Any, float]], overlays: set[str]
) -> None:
    for index, (volume, opacity) in zip(LAYERS, layers, strict=False):
        if composite.GetNthLayerVolumeID(index) != volume.GetID():
            composite.SetNthLayerVolumeID(index, volume.GetID())
        composite.SetNthLayerOpacity(index, opacity)
    for index in reversed(LAYERS[len(layers) :]):  # from the last: those above a removed layer move down
        if composite.GetNthLayerVolumeID(index) in overlays:
            composite.SetNthLayerVolumeID(index, None)


def displacement_mm(transform_node: slicer.vtkMRMLTransformNode, ras: tuple[float, ...]) -> np.ndarray:
    """u(p) = A⁻¹(T(p)) − p of a point p of the patient: to where the affine alone puts its atlas point; (3,) RAS."""
    in_atlas, without_affine = [0.0] * 3, [0.0] * 3
    check_found(transform_node)
    transform_node.GetTransformFromParent().TransformPoint(ras, in_atlas)
    _present(results_of(transform_node), "affine").GetTransformToParent().TransformPoint(in_atlas, without_affine)
    return np.subtract(without_affine, ras)


def max_displacement_mm(transform_node: slicer.vtkMRMLTransformNode) -> float:
    """Length of the largest displacement that is drawn, mm."""
    check_found(transform_node)
    results = results_of(transform_node)
    field = _present(results, "field")
    if not hasattr(field.GetTransformFromParent(), "GetDisplacementGrid"):  # emptied, or another transform by now
        raise _missing(results, "field")
    vectors = slicer.util.arrayFromGridTransform(field)
    return float(np.sqrt(np.einsum("...i,...i", vectors, vectors).max()))


def _present(results: Results, name: str) -> slicer.vtkMRMLNode:
    node = getattr(results, name)
    if node is None:
        raise _missing(results, name)
    return node


def _missing(results: Results, name: str) -> NodeError:
    if name in BEFORE_AFTER and browser_of(results.volume) is not None:
        return NodeError(_("before / after is not to be had: the frames were warped from different atlases"))
    called = {
        "affine_warped": _("affine-only image"),
        "warped": _("warped image"),
        "jacobian": _("Jacobian map"),
        "field": _("deformation for display"),
    }
    refused = _("the {part} of this result was deleted or was not kept: run it again")
    return NodeError(refused.format(part=called.get(name, name)))
