"""The parts of the window that show something: the progress of a run, its results and its deformation."""

from collections.abc import Iterator
from contextlib import contextmanager

import qt
import slicer
import vtk

from . import display, nodes
from .job import Progress, State

STATUS_COLORS = {State.FAILED: "#c0392b", State.DONE: "#1e8449"}
NOTHING = "–"
LONG_SILENCE_S = 60
UNSEEN = "not looked at yet"
INSTALLING = "Installing packages; this takes minutes. The log is in the Python console."


@contextmanager
def wait_cursor() -> Iterator[None]:
    """The pointer tells that Slicer is busy."""
    slicer.app.setOverrideCursor(qt.Qt.WaitCursor)
    try:
        yield
    finally:
        slicer.app.restoreOverrideCursor()


def time_left(seconds: float | None) -> str:
    """What people say for a number of seconds: "about 12 s left"; empty for None."""
    if seconds is None:
        return ""
    if seconds < 1:
        return "almost done"
    return f"about {seconds:.0f} s left" if seconds < 90 else f"about {seconds / 60:.0f} min left"


def progress_text(progress: Progress, state: State, silence_s: float = 0.0) -> str:
    """One line for a run in progress: the step and the time left, or that nothing was heard for long."""
    if state is State.CANCELLING:
        return "Cancelling …"
    if silence_s > LONG_SILENCE_S:
        return f"{progress.step.capitalize()} · no word from the engine for {silence_s:.0f} s; wait, or cancel"
    left = time_left(progress.seconds_left)
    return (progress.step or "starting").capitalize() + (f" · {left}" if left else "")


def spacing_for(transform) -> float:
    """A grid spacing in mm that suits a result, within the panel's limits."""
    return min(max(display.suggested_spacing_mm(transform), 1.0), 50.0)


class ProgressPanel:
    """Segment, Cancel, the bar, the line below it and the log."""

    def __init__(self, ui) -> None:
        self.ui = ui
        self._lines = 0
        self._said = False  # whether the line tells how the last run ended
        self.ui.progressBar.setVisible(False)

    def start(self, keeps_files: bool) -> None:
        """Make ready for a new run."""
        self._lines, self._said = 0, False
        self.ui.logText.setPlainText("The working files are kept." if keeps_files else "")
        self.ui.progressBar.setVisible(True)
        self.ui.progressBar.setValue(0)
        self._say("Starting", State.RUNNING)

    def show(self, run) -> None:
        """Show how far a run is, or how it ended."""
        self._show_log(run.job)
        self.ui.progressBar.setValue(round(100 * run.job.progress.fraction))
        if run.active:
            self._say(progress_text(run.job.progress, run.state, run.job.silence_s), run.state)
            self.ui.cancelButton.setEnabled(run.state is State.RUNNING)
        elif run.error is not None:
            self.fail(run.error, run.state)
        else:
            count = run.results.segmentation.GetSegmentation().GetNumberOfSegments()
            done = f"Done: {count} structures in {run.volume.GetName()}."
            self._end(" ".join((done, *run.warnings)), State.DONE)
        if not run.active and run.options.keep_files:
            self.ui.logText.appendPlainText(f"The working files are in {run.folder}")

    def fail(self, error: Exception, state: State = State.FAILED) -> None:
        """Say what went wrong, with the log unfolded."""
        self._end(str(error), state)
        if state is State.FAILED:
            self.ui.logSection.collapsed = False

    def allow(self, reason: str, running: bool, installing: bool = False) -> None:
        """Enable Segment unless there is a reason against it, which is then told."""
        reason = INSTALLING if installing else reason
        self.ui.segmentButton.setEnabled(not reason and not running)
        self.ui.segmentButton.toolTip = reason or "Find the model's structures in the image."
        self.ui.cancelButton.setEnabled(running)
        if reason and not running:
            self._say(reason, State.RUNNING)
            self._said = False
        elif not running and not self._said:
            self._say("Ready.", State.RUNNING)

    def _end(self, text: str, state: State) -> None:
        self.ui.progressBar.setVisible(False)
        self._say(text, state)
        self._said = True

    def _say(self, text: str, state: State) -> None:
        self.ui.statusLabel.text = text
        color = STATUS_COLORS.get(state)
        self.ui.statusLabel.setStyleSheet(f"color: {color}" if color else "")

    def _show_log(self, job) -> None:
        new = min(job.lines_logged - self._lines, len(job.log))
        if new:
            self.ui.logText.appendPlainText("\n".join(list(job.log)[-new:]))
        self._lines = job.lines_logged


class DeformationPanel:
    """Shows the chosen result: its tables, its deformation, and the overlays in the slice views."""

    def __init__(self, ui) -> None:
        self.ui = ui
        self._drawn, self._layers, self._result_id = None, None, UNSEEN
        self._crosshair, self._observer = None, None
        self._largest = NOTHING

    @property
    def _result(self):
        """The transform node that was shown last, if the scene still has it."""
        node = slicer.mrmlScene.GetNodeByID(self._result_id) if self._result_id else None
        return node if nodes.is_result(node) else None

    def forget(self) -> None:
        """Take nothing for drawn: the scene is another one."""
        self._drawn, self._layers, self._result_id = None, None, UNSEEN

    def present(self, parameters) -> None:
        """Show a result that has just been made, its patient in the slice views."""
        self.forget()
        display.show_patient(parameters.result)
        self.show(parameters)

    def show(self, parameters) -> None:
        """Draw what the parameters say, where it is not drawn already."""
        result = parameters.result
        self._enable(result is not None)
        try:
            if self._result_id != (result and result.GetID()):
                self._result_id = result and result.GetID()
                self._show_result()
            if result is None:
                return
            self._draw(parameters)
            self._lay(parameters)
        except nodes.NodeError as error:
            self.ui.displacementLabel.text = str(error)

    def show_structures_in_3d(self, shown: bool) -> None:
        """Show or hide the surfaces of the result's structures."""
        segmentation = nodes.results_of(self._result).segmentation if self._result else None
        if segmentation is None:
            return
        if shown:
            with wait_cursor():
                segmentation.CreateClosedSurfaceRepresentation()
        segmentation.CreateDefaultDisplayNodes()
        segmentation.GetDisplayNode().SetVisibility3D(shown)

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
        if result is not None and crosshair.GetCursorPositionRAS(point):
            try:
                right, anterior, superior = vector = display.displacement_mm(result, point)
                length = vtk.vtkMath.Norm(list(vector))
                text = f"{length:.1f} mm here (R {right:+.1f}, A {anterior:+.1f}, S {superior:+.1f})"
            except nodes.NodeError as error:
                text = str(error)
        self.ui.displacementLabel.text = text

    def _enable(self, enabled: bool) -> None:
        controls = ("showDeformationCheckBox inSlicesCheckBox in3DCheckBox modeSelector spacingSlider scaleSlider "
                    "lineWidthSlider colorCheckBox jacobianCheckBox jacobianSlider atlasCheckBox blendSlider "
                    "show3DCheckBox")  # fmt: skip
        for name in controls.split():
            getattr(self.ui, name).setEnabled(enabled)

    def _show_result(self) -> None:
        result = self._result
        results = nodes.results_of(result) if result else None
        segmentation = results.segmentation if results else None
        self.ui.segmentsTable.setSegmentationNode(segmentation)
        self._show_figures(results.table if results else None)
        self.ui.segmentsTable.setVisible(results is not None)
        self.ui.figuresTable.setVisible(results is not None)
        shown = segmentation.GetDisplayNode() if segmentation else None
        was_blocked = self.ui.show3DCheckBox.blockSignals(True)
        self.ui.show3DCheckBox.checked = bool(shown and shown.GetVisibility3D())
        self.ui.show3DCheckBox.blockSignals(was_blocked)
        self._largest = NOTHING
        if result is not None:
            self._largest = f"at most {display.max_displacement_mm(result):.1f} mm; point at a slice to see it there"
        self.ui.displacementLabel.text = self._largest

    def _show_figures(self, table) -> None:
        view = self.ui.figuresTable
        view.setMRMLTableNode(table)
        if table is not None:
            view.verticalHeader().setVisible(False)
            view.resizeColumnsToContents()
            view.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)  # its names are long

    def _draw(self, parameters) -> None:
        style = display.DeformationStyle(
            mode=parameters.mode.value,
            in_slices=parameters.inSlices,
            in_3d=parameters.in3D,
            spacing_mm=parameters.spacing,
            scale=parameters.scale,
            line_width=parameters.lineWidth,
            color_by_displacement=parameters.colorByDisplacement,
        )
        wanted = (self._result_id, style) if parameters.showDeformation else None
        if wanted == self._drawn:
            return
        drawn = slicer.mrmlScene.GetNodeByID(self._drawn[0]) if self._drawn else None
        if drawn is not None and (wanted is None or drawn is not self._result):
            display.hide_deformation(drawn)
        if wanted is not None:
            display.show_deformation(self._result, style)
        self._drawn = wanted

    def _lay(self, parameters) -> None:
        blend = parameters.blend if parameters.showAtlas else None
        jacobian = parameters.jacobianOpacity if parameters.showJacobian else 0.0
        wanted = (self._result_id, blend, jacobian)
        if self._layers is None and blend is None and not jacobian:
            return  # the views show what the user chose, and no overlay is asked for
        if wanted != self._layers:
            display.show_slices(self._result, blend=blend, jacobian_opacity=jacobian)
            self._layers = wanted
