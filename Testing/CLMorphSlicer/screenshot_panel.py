"""Draws the module's panel into CLMorphSlicer/Resources/Screenshots: `python screenshot_panel.py`.

fresh.png: as it is found, with a sample loaded. panel.png: after Segment. advanced.png: what Speed › Best stands for.
register.png: after Register. known.png: the same with a lesion left out, and landmarks. series.png: after Segment on
all frames of a sequence. following.png: the same with the heart model, whose synthetic patient is made to beat.
both_sides.png: the hippocampus model on the synthetic patient of the brain model. The panel is the real one, and the
real engine works on the synthetic patient of the hippocampus model; the widgets are stand-ins.
"""

import csv
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE), str(HERE.parents[1] / "CLMorphSlicer")]

PICTURES = HERE.parents[1] / "CLMorphSlicer" / "Resources" / "Screenshots"
WIDTH = 460
MODEL = "hippocampus"


def draw(headless) -> None:
    """Use the panel as a person would, and write a picture at each stop."""
    from CLMorphSlicerLib import models
    from qt_fixtures import wait_until
    from standins import application

    application.slicer_with_qt(headless)
    module = application.load_module()
    module.dependencies.is_installed = lambda requirement: True
    card = next(card for card in models.shipped_models() if card.name == MODEL)
    widget = application.make_widget(module)
    ui = widget.ui
    choose(ui.modelSelector, MODEL)
    ui.sampleButton.click()
    save(widget, "fresh")

    def run() -> None:
        ui.runButton.click()
        while widget.logic.running:  # longer than a test would wait
            wait_until(lambda: True)
            time.sleep(0.05)
        if widget.logic.run.error is not None:
            raise widget.logic.run.error

    run()
    ui.showDeformationCheckBox.checked = True
    save(widget, "panel")
    sections = (ui.resultsSection, ui.deformationSection, ui.advancedSection)
    choose(ui.effortSelector, "best")
    for section in sections:
        section.collapsed = section is not ui.advancedSection
    save(widget, "advanced")
    choose(ui.effortSelector, "balanced")
    for section in sections:
        section.collapsed = section is ui.advancedSection
    ui.taskTabs.currentIndex = 1
    ui.fixedVolumeSelector.setCurrentNode(widget._parameterNode.inputVolume)
    atlas = headless.load_volume(models.atlas_image(card))
    atlas.SetName("Template")
    ui.movingVolumeSelector.setCurrentNode(atlas)
    ui.movingLabelsSelector.setCurrentNode(atlas_segmentation(headless, models.atlas_image(card).parent))
    run()
    ui.advancedSection.collapsed = ui.installationSection.collapsed = False
    save(widget, "register")
    known = know(ui, widget._parameterNode.inputVolume)
    run()
    for section in (*sections, ui.installationSection):
        section.collapsed = True
    save(widget, "known")
    for selector in known:
        selector.setCurrentNode(None)
    ui.knownSection.collapsed = True
    ui.resultsSection.collapsed = ui.deformationSection.collapsed = False
    ui.taskTabs.currentIndex = 0
    ui.advancedSection.collapsed = ui.installationSection.collapsed = True
    ui.inputVolumeSelector.setCurrentNode(beating(widget._parameterNode.inputVolume))
    ui.scopeSelector.currentIndex = 1
    run()
    ui.atlasCheckBox.checked = True
    save(widget, "series")
    ui.atlasCheckBox.checked = False
    ui.scopeSelector.currentIndex = 0
    choose(ui.modelSelector, "heart")
    ui.sampleButton.click()
    ui.inputVolumeSelector.setCurrentNode(beating_heart(widget._parameterNode.inputVolume))
    ui.scopeSelector.currentIndex = 1
    run()
    save(widget, "following")
    ui.scopeSelector.currentIndex = 0
    choose(ui.modelSelector, "brain")
    ui.sampleButton.click()
    choose(ui.modelSelector, MODEL)
    run()
    ui.advancedSection.collapsed = False
    save(widget, "both_sides")
    widget.cleanup()


def choose(selector, value: str) -> None:
    """Choose the entry of a selector that stands for a value."""
    selector.currentIndex = [selector.itemData(index) for index in range(selector.count)].index(value)


def know(ui, volume) -> list:
    """Leave a ball of the fixed image out, and give the structures' centres as landmarks; the selectors that say so."""
    import slicer

    ui.knownSection.collapsed = False
    segmentations = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    template = ui.movingLabelsSelector.currentNode()
    sample = next(node for node in segmentations if node.GetName() == f"{volume.GetName()} segmentation")
    chosen = {
        ui.fixedLeftOutSelector: ball(volume, "Lesion"),
        ui.fixedLandmarksSelector: centres(sample, "Points of the sample"),
        ui.movingLandmarksSelector: centres(template, "Points of the template"),
    }
    for selector, node in chosen.items():
        selector.setCurrentNode(node)
    return list(chosen)


def ball(volume, name: str):
    """A labelmap of 6 mm around a place beside the middle of a volume."""
    import numpy as np
    import slicer
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    shape = slicer.util.arrayFromVolume(volume).shape
    away = np.moveaxis(np.indices(shape, float), 0, -1) - np.array(shape) / 3
    voxels = ((away * volume.GetSpacing()[::-1]) ** 2).sum(axis=-1) < 6.0**2
    node = slicer.util.addVolumeFromArray(voxels.astype(np.uint8), None, name, "vtkMRMLLabelMapVolumeNode")
    node.SetIJKToRASMatrix(matrix)
    return node


def centres(segmentation, name: str):
    """A list of points in the middle of each segment, called as it is."""
    import slicer
    import vtk

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
    for segment in segmentation.GetSegmentation().GetSegmentIDs():
        place = vtk.vtkVector3d(*segmentation.GetSegmentCenterRAS(segment))
        node.AddControlPoint(place, segmentation.GetSegmentation().GetSegment(segment).GetName())
    return node


def beating(volume):
    """The node that plays a sequence of three frames, in which the volume grows along one axis."""
    import numpy as np
    import slicer
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    voxels, to_ras = slicer.util.arrayFromVolume(volume), slicer.util.arrayFromVTKMatrix(matrix)
    frames = [(n, voxels, to_ras @ np.diag([1.0 + n / 240.0, 1.0, 1.0, 1.0])) for n in (0, 6, 12)]
    return played("Follow-up", "months", frames)


def beating_heart(volume):
    """The node that plays a sequence of six frames, in which the middle of the volume contracts and widens again."""
    import numpy as np
    import slicer
    import vtk
    from scipy.ndimage import map_coordinates

    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    voxels, to_ras = slicer.util.arrayFromVolume(volume), slicer.util.arrayFromVTKMatrix(matrix)
    places = np.moveaxis(np.indices(voxels.shape, float), 0, -1)
    spacing = np.array(volume.GetSpacing()[::-1])
    away = places - (np.array(voxels.shape) - 1) / 2
    near = np.exp(-((away * spacing) ** 2).sum(axis=-1) / (2 * 30.0**2))[..., None]
    frames = []
    for n, contracted in enumerate((0.0, 0.1, 0.2, 0.25, 0.2, 0.1)):
        there = np.moveaxis(places + contracted * near * away, -1, 0)
        frames.append((150 * n, map_coordinates(voxels, there, order=1, mode="nearest"), to_ras))
    return played("Cine", "ms", frames)


def played(name: str, unit: str, frames):
    """The node that plays a new sequence of (time, voxels, ijk-to-RAS matrix)."""
    import slicer

    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
    sequence.SetIndexName("time")
    sequence.SetIndexUnit(unit)
    for time_value, voxels, to_ras in frames:
        frame = slicer.util.addVolumeFromArray(voxels, name="Frame")
        frame.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(to_ras))
        sequence.SetDataNodeAtValue(frame, str(time_value))
        slicer.mrmlScene.RemoveNode(frame)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{name} browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    slicer.modules.sequences.logic().UpdateAllProxyNodes()
    return browser.GetProxyNode(sequence)


def atlas_segmentation(headless, folder: Path):
    """The labels of a model's atlas as a segmentation with their names and colours."""
    import slicer
    from CLMorphSlicerLib.labels import name_segment

    labels = headless.load_volume(folder / "labels.nii.gz", labels=True)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Template labels")
    node.CreateDefaultDisplayNodes()
    slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(labels, node)
    with open(folder / "labels.csv", encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            name_segment(node.GetSegmentation().GetNthSegment(number), row)
    slicer.mrmlScene.RemoveNode(labels)
    return node


def save(widget, name: str) -> None:
    """Write the panel as high as it wants to be."""
    from qt_fixtures import wait_until

    panel = widget.parent
    panel.show()
    for _ in range(3):  # lines that wrap know their height only at the final width
        panel.resize(WIDTH, max(panel.minimumSizeHint().height(), panel.heightForWidth(WIDTH)))
        wait_until(lambda: True)
    PICTURES.mkdir(exist_ok=True)
    panel.grab().save(str(PICTURES / f"{name}.png"))


if __name__ == "__main__":
    from standins.scene import HeadlessSlicer

    with HeadlessSlicer() as headless_slicer:
        draw(headless_slicer)
