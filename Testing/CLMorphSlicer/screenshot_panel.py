"""Draws the module's panel into CLMorphSlicer/Resources/Screenshots/panel.png: `python screenshot_panel.py`.

The panel is the real one. With a model that ships, its synthetic patient is segmented by the real engine; without one,
the phantom, and the engine is played.
"""

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE), str(HERE.parents[1] / "CLMorphSlicer")]

PICTURE = HERE.parents[1] / "CLMorphSlicer" / "Resources" / "Screenshots" / "panel.png"
WIDTH = 440


def draw(headless, folder: Path) -> None:
    """Segment a volume in the panel, unfold it, and write the picture."""
    import phantom
    import SimpleITK as sitk
    from CLMorphSlicerLib import models
    from qt_fixtures import fake_engine, wait_until, write_bundle
    from standins import application

    application.slicer_with_qt(headless)
    module = application.load_module()
    module.dependencies.is_installed = lambda requirement: True
    shipped = models.shipped_models()
    if shipped:
        module.sample.add_sample(shipped[0])
    else:
        write_bundle(folder / "models" / "phantom", title="Head phantom", purpose="Three structures", modality="MRI")
        models.models_folder = lambda: folder / "models"
        sitk.WriteImage(phantom.patient("RAS"), str(folder / "Patient.nii.gz"))
        headless.load_volume(folder / "Patient.nii.gz")
    widget = application.make_widget(module)
    if not shipped:
        widget.logic.runner.start_process = fake_engine("works")
    widget.ui.runButton.click()
    wait_until(lambda: not widget.logic.running and not widget.logic.runner.timer.isActive())
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
    from standins.scene import HeadlessSlicer

    with HeadlessSlicer() as headless_slicer, tempfile.TemporaryDirectory() as temporary:
        draw(headless_slicer, Path(temporary))
