"""Slice and 3D views of 3D Slicer drawn off screen, with the application's own displayable managers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

SLICE_MANAGERS = (
    "vtkMRMLCrosshairDisplayableManager",
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLTransformsDisplayableManager2D",
    "vtkMRMLColorLegendDisplayableManager",
)
THREE_D_MANAGERS = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLThreeDReformatDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLTransformsDisplayableManager3D",
    "vtkMRMLColorLegendDisplayableManager",
)


class _View:
    """A render window without a screen, filled by displayable managers."""

    def __init__(self, factory: object, managers: tuple[str, ...], application_logic: object, size: int) -> None:
        self.renderer = vtk.vtkRenderer()
        self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetMultiSamples(4)
        self.window.SetSize(size, size)
        self.window.AddRenderer(self.renderer)
        self._interactor = vtk.vtkGenericRenderWindowInteractor()
        self._interactor.SetRenderWindow(self.window)
        factory.SetMRMLApplicationLogic(application_logic)
        for manager in managers:
            if not factory.IsDisplayableManagerRegistered(manager):
                factory.RegisterDisplayableManager(manager)
        self._group = slicer.vtkMRMLDisplayableManagerGroup()
        self._group.SetRenderer(self.renderer)
        self._group.Initialize(factory, self.renderer)

    def _show(self, view_node: object) -> None:
        self.node = view_node
        self._group.SetMRMLDisplayableNode(view_node)

    def grab(self, path: str | Path | None = None) -> np.ndarray:
        """Draw the view: (rows, columns, RGB) uint8, first row on top; also written to a PNG file if `path`."""
        self.window.Render()
        grabber = vtk.vtkWindowToImageFilter()
        grabber.SetInput(self.window)
        grabber.SetInputBufferTypeToRGB()
        grabber.ReadFrontBufferOff()
        grabber.Update()
        if path is not None:
            writer = vtk.vtkPNGWriter()
            writer.SetFileName(str(path))
            writer.SetInputConnection(grabber.GetOutputPort())
            writer.Write()
        image = grabber.GetOutput()
        columns, rows, _ = image.GetDimensions()
        return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, 3)[::-1].copy()

    def close(self) -> None:
        """Detach the view from its scene and free its window."""
        self._group.SetMRMLDisplayableNode(None)
        self.window.Finalize()


class SliceView(_View):
    """A slice view; `node` is its slice node, `logic` its slice logic."""

    def __init__(self, scene: object, application_logic: object, name: str, orientation: str, size: int) -> None:
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        super().__init__(factory, SLICE_MANAGERS, application_logic, size)
        self.renderer.GetActiveCamera().ParallelProjectionOn()
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(application_logic)
        application_logic.GetSliceLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(scene)
        node = self.logic.AddSliceNode(name)
        node.SetOrientation(orientation)
        self.logic.ResizeSliceNode(size, size)
        self._add_image_actor()
        self._show(node)

    def _add_image_actor(self) -> None:
        # In the application the slice image is drawn by a Qt widget. It must be added before the managers add theirs:
        # props are drawn in this order, and the image would cover the fill of segments.
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        self._actor = vtk.vtkActor2D()
        self._actor.SetMapper(self._mapper)
        self._actor.GetProperty().SetDisplayLocationToBackground()
        self._actor.SetVisibility(False)
        self.renderer.AddViewProp(self._actor)

    def show(self, background: object, foreground: object = None, opacity: float = 0.5) -> None:
        """Show the volumes and fit the view to the background."""
        layers = self.logic.GetSliceCompositeNode()
        layers.SetBackgroundVolumeID(background.GetID())
        layers.SetForegroundVolumeID(foreground.GetID() if foreground is not None else None)
        layers.SetForegroundOpacity(opacity)
        self.logic.FitSliceToBackground()
        self.logic.SnapSliceOffsetToIJK()

    def pixel_at(self, ras: tuple[float, float, float]) -> tuple[int, int]:
        """(row, column) of a `grab` on which a point lies; the view is first moved to the point's slice."""
        self.node.JumpSliceByOffsetting(*ras)
        ras_to_xy = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self.node.GetXYToRAS(), ras_to_xy)
        x, y, *_ = ras_to_xy.MultiplyPoint([*ras, 1.0])
        return self.window.GetSize()[1] - 1 - round(y), round(x)

    def grab(self, path: str | Path | None = None) -> np.ndarray:
        image = self.logic.GetImageDataConnection()
        self._mapper.SetInputConnection(image)
        self._actor.SetVisibility(image is not None)
        return super().grab(path)


class ThreeDView(_View):
    """A 3D view; `node` is its view node."""

    def __init__(self, scene: object, application_logic: object, name: str, size: int) -> None:
        factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
        super().__init__(factory, THREE_D_MANAGERS, application_logic, size)
        self.logic = slicer.vtkMRMLViewLogic()
        self.logic.SetMRMLApplicationLogic(application_logic)
        application_logic.GetViewLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(scene)
        node = self.logic.AddViewNode(name)
        node.SetBoxVisible(False)
        node.SetAxisLabelsVisible(False)
        self._show(node)

    def fit(self, azimuth: float = 35.0, elevation: float = 20.0, zoom: float = 1.0) -> None:
        """Look at everything that is visible, from the front turned by the angles in degrees."""
        self.window.Render()
        bounds = self.renderer.ComputeVisiblePropBounds()
        centre = [(bounds[i] + bounds[i + 1]) / 2 for i in (0, 2, 4)]
        camera = self.renderer.GetActiveCamera()
        camera.SetFocalPoint(*centre)
        camera.SetPosition(centre[0], centre[1] + 500.0, centre[2])
        camera.SetViewUp(0.0, 0.0, 1.0)
        self.renderer.ResetCamera(bounds)
        camera.Azimuth(azimuth)
        camera.Elevation(elevation)
        camera.Dolly(zoom)
        self.renderer.ResetCameraClippingRange()
