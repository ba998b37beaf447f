"""A headless 3D Slicer: the real MRML library, module logics and views of `slicer-core`, without Qt.

`HeadlessSlicer` gives the Python package `slicer` what the application adds to it at start-up (`slicer.mrmlScene`,
`slicer.app`, `slicer.modules`), so that `slicer.util`'s array and node functions work, and code that is written for the
application runs unchanged on the real scene.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Self

# By these VTK chooses its class of windows: off screen, with neither a display nor a graphics card.
os.environ["VTK_DEFAULT_OPENGL_WINDOW"] = "vtkEGLRenderWindow"
os.environ.pop("DISPLAY", None)

import slicer
import slicer.util
import vtk

from .views import SliceView, ThreeDView

# name in slicer.modules -> (name in the application logic, class of the logic)
MODULE_LOGICS = {
    "colors": ("Colors", "vtkSlicerColorLogic"),
    "data": ("Data", "vtkSlicerDataModuleLogic"),
    "markups": ("Markups", "vtkSlicerMarkupsLogic"),
    "models": ("Models", "vtkSlicerModelsLogic"),
    "segmentations": ("Segmentations", "vtkSlicerSegmentationsModuleLogic"),
    "sequences": ("Sequences", "vtkSlicerSequencesLogic"),
    "subjecthierarchy": ("SubjectHierarchy", "vtkSlicerSubjectHierarchyModuleLogic"),
    "terminologies": ("Terminologies", "vtkSlicerTerminologiesModuleLogic"),
    "tables": ("Tables", "vtkSlicerTablesLogic"),
    "transforms": ("Transforms", "vtkSlicerTransformLogic"),
    "volumes": ("Volumes", "vtkSlicerVolumesLogic"),
}

FOUR_UP = (("Red", "Axial"), ("Green", "Coronal"), ("Yellow", "Sagittal"))


class HeadlessSlicer:
    """One Slicer scene with its logics; views are added when they are asked for.

    Attributes: `scene` (vtkMRMLScene), `application_logic`, `logics` (by the names used in `slicer.modules`), `views`
    (by view name). Use it as a context manager, or call `close()`.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="headless-slicer-")
        self.scene = slicer.vtkMRMLScene()
        self.views: dict[str, SliceView | ThreeDView] = {}
        self._set_up_files()
        self._set_up_crosshair()
        self.application_logic = self._application_logic()
        rules = slicer.vtkSegmentationConverterFactory.GetInstance()
        known = rules.GetConverterRules()
        self.logics = {name: self._module_logic(*entry) for name, entry in MODULE_LOGICS.items()}
        # Each scene's logic registers them anew, for the process: a node's copy would take as long as their square.
        for rule in rules.GetConverterRules() if known else ():
            if rule not in known:
                rules.UnregisterConverterRule(rule)
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self.scene, True)
        self._publish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Finish the views, empty the scene and remove the temporary folder."""
        for view in self.views.values():
            view.close()
        self.views.clear()
        self.scene.Clear(True)
        self._folder.cleanup()

    # -- start-up: what the application's start-up does

    def _set_up_files(self) -> None:
        # a scene unpacks .mrb files into the cache of its IO manager
        cache, manager = slicer.vtkCacheManager(), slicer.vtkDataIOManager()
        cache.SetMRMLScene(self.scene)
        cache.SetRemoteCacheDirectory(self._folder.name)
        manager.SetCacheManager(cache)
        self.scene.SetCacheManager(cache)
        self.scene.SetDataIOManager(manager)

    def _set_up_crosshair(self) -> None:
        crosshair = slicer.vtkMRMLCrosshairNode()
        crosshair.SetCrosshairName("default")
        self.scene.AddNode(crosshair)

    def _application_logic(self) -> slicer.vtkSlicerApplicationLogic:
        logic = slicer.vtkSlicerApplicationLogic()
        logic.SetMRMLScene(self.scene)
        logic.SetTemporaryPath(self._folder.name)
        logic.SetHomeDirectory(self._folder.name)
        logic.SetShareDirectory("share")
        Path(self._folder.name, "share", "ColorFiles").mkdir(parents=True)  # of the application: here without files
        logic.GetColorLogic().SetMRMLScene(self.scene)
        logic.GetColorLogic().AddDefaultColorNodes()
        logic.SetSliceLogics(vtk.vtkCollection())
        logic.SetViewLogics(vtk.vtkCollection())
        return logic

    def _module_logic(self, module_name: str, class_name: str) -> slicer.vtkMRMLAbstractLogic:
        logic = getattr(slicer, class_name)()
        logic.SetMRMLApplicationLogic(self.application_logic)
        logic.SetMRMLScene(self.scene)
        self.application_logic.SetModuleLogic(module_name, logic)
        return logic

    def _publish(self) -> None:
        # the attributes of the package `slicer` that slicer.util reads; a test may add its own to slicer.app
        slicer.mrmlScene = self.scene
        slicer.modules = SimpleNamespace(
            **{name: SimpleNamespace(name=name, logic=lambda logic=logic: logic) for name, logic in self.logics.items()}
        )
        slicer.app = SimpleNamespace(
            applicationName="Slicer",
            applicationLogic=lambda: self.application_logic,
            mrmlScene=lambda: self.scene,
            temporaryPath=self._folder.name,
            majorVersion=5,
            minorVersion=12,
            testingEnabled=lambda: True,
            processEvents=lambda *_: None,
            pauseRender=lambda: None,
            resumeRender=lambda: None,
        )

    # -- files: what slicer.app.ioManager() does

    def load_volume(self, path: str | Path, *, labels: bool = False) -> slicer.vtkMRMLScalarVolumeNode:
        """Node of an image file, read by Slicer's own reader; a labelmap volume node if `labels`."""
        node = self.logics["volumes"].AddArchetypeVolume(str(path), Path(path).name.split(".")[0], int(labels))
        if node is None:
            raise OSError(f"Slicer cannot read {path}")
        return node

    def save_scene(self, path: str | Path) -> None:
        """Write the scene: one `.mrb` file, or a `.mrml` file with the nodes' files beside it."""
        path = Path(path).resolve()
        saved = self.scene.WriteToMRB(str(path)) if path.suffix == ".mrb" else self._save_mrml(path)
        if not saved:
            raise OSError(f"Slicer could not save the scene as {path}")

    def _save_mrml(self, path: Path) -> bool:
        self.scene.SetURL(str(path))
        self.scene.SetRootDirectory(str(path.parent))
        for node in slicer.util.getNodesByClass("vtkMRMLStorableNode"):
            node.AddDefaultStorageNode()
            storage = node.GetStorageNode()
            if storage is None or not node.GetSaveWithScene():
                continue  # all of the node is written in the scene file itself
            extension = storage.GetDefaultWriteFileExtension()
            storage.SetFileName(str(path.parent / f"{node.GetName().replace(' ', '_')}_{node.GetID()}.{extension}"))
            if not storage.WriteData(node):
                return False
        return bool(self.scene.Commit())

    def load_scene(self, path: str | Path) -> None:
        """Replace the scene's content by that of a `.mrb` or `.mrml` file."""
        path = Path(path).resolve()
        if path.suffix == ".mrb":
            loaded = self.scene.ReadFromMRB(str(path), True)
        else:
            self.scene.SetURL(str(path))
            loaded = self.scene.Connect()
        if not loaded:
            raise OSError(f"Slicer could not load the scene {path}")

    # -- views

    def add_slice_view(self, name: str = "Red", orientation: str = "Axial", size: int = 400) -> SliceView:
        """Add a square slice view of `size` pixels, as the application's layout does."""
        self.views[name] = SliceView(self.scene, self.application_logic, name, orientation, size)
        return self.views[name]

    def add_three_d_view(self, name: str = "1", size: int = 400) -> ThreeDView:
        """Add a square 3D view of `size` pixels."""
        self.views[name] = ThreeDView(self.scene, self.application_logic, name, size)
        return self.views[name]

    def add_four_up(self, size: int = 400) -> None:
        """Add the conventional layout: axial, coronal and sagittal slice views and a 3D view."""
        for name, orientation in FOUR_UP:
            self.add_slice_view(name, orientation, size)
        self.add_three_d_view("1", size)
