"""Draws the module's panel into CLMorphSlicer/Resources/Screenshots/panel.png: `python screenshot_panel.py`.

The panel is the real one after a segmentation of the phantom; only the engine is played.
"""

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE), str(HERE.parents[1] / "CLMorphSlicer")]

import phantom
import SimpleITK as sitk
from qt_fixtures import fake_engine, wait_until, write_bundle
from standins import application
from standins.scene import HeadlessSlicer

PICTURE = HERE.parents[1] / "CLMorphSlicer" / "Resources" / "Screenshots" / "panel.png"
WIDTH = 440


def draw(headless: HeadlessSlicer, folder: Path) -> None:
    """Segment the phantom in the panel, unfold it, and write the picture."""
    from CLMorphSlicerLib import models

    write_bundle(folder / "models" / "phantom", title="Head phantom", purpose="Three structures of a phantom",
                 modality="MRI T1")  # fmt: skip
    models.models_folder = lambda: folder / "models"
    application.slicer_with_qt(headless)
    module = application.load_module()
    module.dependencies.ensure = lambda: True
    sitk.WriteImage(phantom.patient("RAS"), str(folder / "Patient.nii.gz"))
    headless.load_volume(folder / "Patient.nii.gz")
    widget = application.make_widget(module)
    widget.logic.startProcess = fake_engine("works")
    widget.ui.segmentButton.click()
    wait_until(lambda: not widget.logic.running and not widget.logic._timer.isActive())
    widget.ui.showDeformationCheckBox.checked = True
    widget.ui.advancedSection.collapsed = False
    panel = widget.parent
    panel.resize(WIDTH, panel.minimumSizeHint().height())
    panel.show()
    wait_until(lambda: True)
    PICTURE.parent.mkdir(exist_ok=True)
    panel.grab().save(str(PICTURE))
    widget.cleanup()


if __name__ == "__main__":
    with HeadlessSlicer() as headless_slicer, tempfile.TemporaryDirectory() as temporary:
        draw(headless_slicer, Path(temporary))
