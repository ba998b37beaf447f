"""The part of the window that shows a result: its tables, its deformation, and the overlays in the slice views."""

from contextlib import suppress
from typing import Any

import qt
import slicer
import vtk

from . import display
from .errors import NodeError
from .frames import is_found
from .results import browser_of, has_deformation, is_of_both_sides, is_result, results_of
from .words import _

NOTHING = "–"
MANY_COLUMNS, NAME_PIXELS = 6, 152  # of the table of figures
UNSEEN = "not looked at yet"
AFTER_THE_BROWSER = -1.0  # the priority of an observer that looks at the nodes which the browser has changed


def spacing_for(transform) -> float:
    """A grid spacing in mm that suits a result, within the panel's limits."""
    return min(max(display.suggested_spacing_mm(transform), 1.0), 50.0)


class DeformationPanel:
    """Shows the chosen result: its tables, its deformation, and the overlays in the slice views.

    The selector of results is tied to its parameter here: Slicer's own connection makes a node of the parameter's class
    to ask for its name, which an abstract one, as of both transforms and tables, does not allow.
    """

    def __init__(self, ui) -> None:
        self.ui = ui
        self._parameters: Any = None  # those that the window shows, None while it shows none
        self._choosing = False  # while the selector is set, its signal tells nothing new
        ui.resultSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._on_result)
        self._drawn, self._layers, self._result_id = None, None, UNSEEN
        self._before: display.Layers | None = None  # the overlays
        self._laid: tuple[set[str], set[str]] = set(), set()  # IDs of what was shown since: overlays, and patients
        self._style: Any = None  # as which the deformation is wished to be seen; None: not at all
        self._overlays: tuple[float | None, float] = (None, 0.0)  # wished: between before and after, opacity of the map
        self._crosshair: Any = None
        self._observer: int | None = None
        self._browser: Any = None
        self._frame_observer: int | None = None
        self._largest = NOTHING

    @property
    def _result(self):
        """The anchor of the result that was shown last, if the scene still has it."""
        node = slicer.mrmlScene.GetNodeByID(self._result_id) if self._result_id else None
        return node if is_result(node) else None

    def forget(self) -> None:
        """Take nothing for drawn, and follow no sequence: the scene is another one, or the window goes.

        The slice views show what they did before the overlays.
        """
        self._uncover()
        self._drawn, self._layers, self._result_id = None, None, UNSEEN
        self._follow_frames(None)

    def present(self, parameters) -> None:
        """Show a result that has just been made, its patient in the slice views, with a grid that suits its size."""
        self.forget()
        with suppress(NodeError):  # of a series; its patient may have been deleted meanwhile
            parameters.spacing = spacing_for(parameters.result)
            display.show_patient(parameters.result)
        self.show(parameters)

    def show(self, parameters) -> None:
        """Draw what the parameters say, where it is not drawn already; None: the widgets change nothing from now on."""
        self._parameters = parameters
        if parameters is None:
            return
        result = parameters.result
        self._choose(result)
        deformed = has_deformation(result)
        self._enable(deformed)
        self._style = style_of(parameters) if deformed and parameters.showDeformation else None
        blend = parameters.blend if deformed and parameters.showAtlas else None
        self._overlays = blend, parameters.jacobianOpacity if deformed and parameters.showJacobian else 0.0
        if self._result_id != (result and result.GetID()):
            self._result_id = result and result.GetID()
            self._show_result()
        self._update()

    def _choose(self, result) -> None:
        if self.ui.resultSelector.currentNode() is not result:
            self._choosing = True
            try:
                self.ui.resultSelector.setCurrentNode(result)
            finally:
                self._choosing = False

    def _on_result(self, node) -> None:
        if self._parameters is not None and not self._choosing:
            self._parameters.result = node

    def _update(self) -> None:
        """Draw what is wished, as far as there is a result of it; what is wrong is told."""
        if self._result is None:
            self._uncover()
            return
        for part in (self._draw, self._lay):
            try:
                part()
            except NodeError as error:
                self.ui.displacementLabel.text = str(error)

    def _follow_frames(self, browser) -> None:
        """Look again whenever this browser shows another frame; None follows none."""
        if self._frame_observer is not None:
            self._browser.RemoveObserver(self._frame_observer)
            self._frame_observer = None
        self._browser = browser
        if browser is not None:
            event = vtk.vtkCommand.ModifiedEvent
            self._frame_observer = browser.AddObserver(event, self._on_frame, AFTER_THE_BROWSER)

    def _on_frame(self, _browser, _event) -> None:
        self._tell_largest()
        self._update()

    def follow_crosshair(self, follow: bool) -> None:
        """Tell the displacement at the mouse pointer from now on, or no longer."""
        if self._observer is not None:
            self._crosshair.RemoveObserver(self._observer)
            self._observer = None
        self._crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
        if follow and self._crosshair is not None:
            event = slicer.vtkMRMLCrosshairNode.CursorPositionModifiedEvent
            self._observer = self._crosshair.AddObserver(event, self._tell_displacement)

    def _tell_displacement(self, crosshair, _event) -> None:
        point = [0.0, 0.0, 0.0]
        text, result = self._largest, self._result
        if has_deformation(result) and crosshair.GetCursorPositionRAS(point):
            try:
                right, anterior, superior = vector = display.displacement_mm(result, tuple(point))
                length = vtk.vtkMath.Norm(list(vector))
                here = _("{length:.1f} mm here (R {right:+.1f}, A {anterior:+.1f}, S {superior:+.1f})")
                text = here.format(length=length, right=right, anterior=anterior, superior=superior)
            except NodeError as error:
                text = str(error)
        self.ui.displacementLabel.text = text

    def _enable(self, enabled: bool) -> None:
        controls = ("showDeformationCheckBox inSlicesCheckBox in3DCheckBox modeSelector spacingSlider scaleSlider "
                    "lineWidthSlider colorCheckBox jacobianCheckBox jacobianSlider atlasCheckBox "
                    "blendSlider")  # fmt: skip
        for name in controls.split():
            getattr(self.ui, name).setEnabled(enabled)

    def _show_result(self) -> None:
        result = self._result
        results = results_of(result) if result else None
        segmentation = results.segmentation if results else None
        self.ui.segmentsTable.setSegmentationNode(segmentation)
        self._show_figures(results.table if results else None)
        self.ui.show3DButton.setSegmentationNode(segmentation)
        for widget in (self.ui.segmentsTable, self.ui.show3DButton):
            widget.setVisible(segmentation is not None)
        self.ui.figuresTable.setVisible(results is not None and results.table is not None)
        self.ui.resultsSection.collapsed = result is None
        self.ui.deformationSection.collapsed = not has_deformation(result)
        self._follow_frames(browser_of(result))
        self._tell_largest()

    def _tell_largest(self) -> None:
        self._largest, result = NOTHING, self._result
        if is_of_both_sides(result):
            self._largest = _("each side was warped by itself: there is no one deformation to draw")
        elif result is not None and not has_deformation(result):
            self._largest = _("labels follow one frame: no deformation to draw")
        elif result is not None:
            told = _("at most {largest:.1f} mm; point at a slice to see it there")
            try:
                self._largest = told.format(largest=display.max_displacement_mm(result))
            except NodeError as error:
                self._largest = str(error)
        self.ui.displacementLabel.text = self._largest

    def _show_figures(self, table) -> None:
        view = self.ui.figuresTable
        view.setMRMLTableNode(table)
        if table is not None:
            view.verticalHeader().setVisible(False)
            header = view.horizontalHeader()
            header.setSectionResizeMode(0, qt.QHeaderView.Interactive)
            view.resizeColumnsToContents()
            if table.GetNumberOfColumns() < MANY_COLUMNS:
                header.setSectionResizeMode(0, qt.QHeaderView.Stretch)  # its names are long
            else:  # which leave no room for names: the table scrolls
                view.setColumnWidth(0, NAME_PIXELS)
            view.resizeRowsToContents()

    def _draw(self) -> None:
        style = self._style
        wanted = (self._result_id, style) if style is not None else None
        if wanted == self._drawn:
            return
        drawn = slicer.mrmlScene.GetNodeByID(self._drawn[0]) if self._drawn else None
        if drawn is not None and (wanted is None or drawn is not self._result):
            display.hide_deformation(drawn)
        if style is not None:
            display.show_deformation(self._result, style)
        self._drawn = wanted

    def _lay(self) -> None:
        blend, jacobian = self._overlays
        if blend is not None and not is_found(self._result):
            blend = None  # it would be seen through the transform of another frame
        wanted = (self._result_id, blend, jacobian)
        if self._layers is None and blend is None and not jacobian:
            return  # the views show what the user chose, and no overlay is asked for
        if wanted == self._layers:
            return
        if self._before is None:
            self._before = display.layers_now()
        results = results_of(self._result)
        self._laid[0].update(display.overlays_of(results))
        self._laid[1].update([results.volume.GetID()] if results.volume is not None else [])
        display.show_slices(self._result, blend=blend, jacobian_opacity=jacobian)
        if blend is None and not jacobian:
            self._uncover()
        else:
            self._layers = wanted

    def _uncover(self) -> None:
        """Let the slice views show what they did before the overlays."""
        if self._before is not None:
            display.put_back(self._before, *self._laid)
            self._before, self._laid, self._layers = None, (set(), set()), None


def style_of(parameters) -> display.DeformationStyle:
    """How the parameters say that a deformation is drawn."""
    return display.DeformationStyle(
        mode=parameters.mode.value,
        in_slices=parameters.inSlices,
        in_3d=parameters.in3D,
        spacing_mm=parameters.spacing,
        scale=parameters.scale,
        line_width=parameters.lineWidth,
        color_by_displacement=parameters.colorByDisplacement,
    )
