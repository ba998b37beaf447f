"""Draw the pictures of the README with Slicer's real views: python Testing/CLMorphSlicer/make_screenshots.py

The synthetic patient of a shipped model (the brain, where it ships) is segmented by the real engine; without any model
a phantom stands in.
Needs slicer-core and Pillow; writes CLMorphSlicer/Resources/Screenshots/*.png.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk

sys.path.append(str(Path(__file__).resolve().parent))
sys.path.append(str(Path(__file__).resolve().parents[2] / "CLMorphSlicer"))

import phantom
import slicer
import slicer.util
from CLMorphSlicerLib import display, exporting, models, nodes, sample
from CLMorphSlicerLib.results import Results
from PIL import Image, ImageDraw, ImageFont
from standins.scene import FOUR_UP, HeadlessSlicer

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / "CLMorphSlicer" / "Resources" / "Screenshots"
SIZE = 480  # pixels of one view
GAP = 4
SLICES = tuple(name for name, _ in FOUR_UP)


def main() -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, HeadlessSlicer() as application:
        results = shipped_model(application, Path(folder)) or phantom_model(application, Path(folder))
        application.add_four_up(SIZE)
        look_at_structures(application, results)
        draw_labels(application, results)
        draw_grid(application, results)
        draw_jacobian(application, results)
        draw_before_and_after(application, results)


# -- what is drawn


def shipped_model(application: HeadlessSlicer, folder: Path) -> Results | None:
    """The synthetic patient of a shipped model, segmented by the engine."""
    cards = {card.name: card for card in models.shipped_models()}
    if not cards:
        return None
    card = cards.get("brain", next(iter(cards.values())))
    sitk.WriteImage(sample.synthetic_patient(card)[0], str(folder / "Patient.nii.gz"))
    volume = application.load_volume(folder / "Patient.nii.gz")
    exporting.export_volume(volume, folder / "input.nii.gz")
    command = ["-m", "CLMorphCore", "segment", "input.nii.gz", "--model", str(card.folder), "-o", "output"]
    subprocess.run([sys.executable, *command], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    return nodes.import_results(folder / "output", volume, models.atlas_image(card))


def phantom_model(application: HeadlessSlicer, folder: Path) -> Results:
    """The phantom, as if an engine had segmented it."""
    sitk.WriteImage(phantom.patient("RAS", 11.0), str(folder / "Patient.nii.gz"))
    volume = application.load_volume(folder / "Patient.nii.gz")
    atlas = phantom.write_engine_output(folder / "output", folder / "Patient.nii.gz", 11.0)
    return nodes.import_results(folder / "output", volume, atlas)


def look_at_structures(application: HeadlessSlicer, results: Results) -> None:
    """Show the patient, the slices through the middle of the structures; see through one that holds the others."""
    segmentation = results.segmentation.GetSegmentation()
    ids = [segmentation.GetNthSegmentID(i) for i in range(segmentation.GetNumberOfSegments())]
    array_of = slicer.util.arrayFromSegmentBinaryLabelmap
    points = {i: np.argwhere(array_of(results.segmentation, i, results.volume)) for i in ids}
    largest = max(ids, key=lambda i: len(points[i]))
    if len(points[largest]) > 0.8 * sum(map(len, points.values())):
        results.segmentation.GetDisplayNode().SetSegmentOpacity3D(largest, 0.25)
        del points[largest]
    kji = np.vstack(list(points.values())).mean(axis=0)
    middle = exporting.world_matrix(results.volume) @ [*kji[::-1], 1.0]
    for name in SLICES:
        application.views[name].show(results.volume)
        application.views[name].node.JumpSliceByOffsetting(*middle[:3])


# -- the pictures


def draw_labels(application: HeadlessSlicer, results: Results) -> None:
    results.segmentation.CreateClosedSurfaceRepresentation()  # not made by itself for many structures
    results.segmentation.GetDisplayNode().SetVisibility3D(True)
    results.segmentation.GetDisplayNode().SetOpacity2DFill(0.35)
    application.views["1"].fit(azimuth=30.0, elevation=25.0, zoom=1.2)
    save(
        "labels",
        [[grab(application, "Red"), grab(application, "1")], [grab(application, "Green"), grab(application, "Yellow")]],
    )


def draw_grid(application: HeadlessSlicer, results: Results) -> None:
    segmentation = results.segmentation.GetDisplayNode()
    segmentation.SetOpacity2DFill(0.0)
    style = display.DeformationStyle(spacing_mm=display.suggested_spacing_mm(results.transform), line_width=2.0)
    display.show_deformation(results.transform, style)
    row = [grab(application, name) for name in SLICES]
    display.hide_deformation(results.transform)
    save("grid", [row])


def draw_jacobian(application: HeadlessSlicer, results: Results) -> None:
    display.show_slices(results.transform, jacobian_opacity=0.6)
    row = [grab(application, name) for name in SLICES]
    display.show_slices(results.transform)
    save("jacobian", [row])


def draw_before_and_after(application: HeadlessSlicer, results: Results) -> None:
    row = []
    for blend in (0.0, 1.0):
        display.show_slices(results.transform, blend=blend, atlas_opacity=1.0)
        row.append(grab(application, "Red"))
    display.show_slices(results.transform)
    pictures = (row[0], grab(application, "Red"), row[1])
    words = ("Before: the atlas, moved as a whole", "The patient", "After: the atlas, warped")
    save("before_after", [[captioned(*each) for each in zip(pictures, words, strict=True)]])


def grab(application: HeadlessSlicer, name: str) -> np.ndarray:
    return application.views[name].grab()


def captioned(picture: np.ndarray, words: str) -> np.ndarray:
    """The picture with words in its lower left corner."""
    image = Image.fromarray(picture)
    ImageDraw.Draw(image).text((10, SIZE - 10), words, "white", ImageFont.load_default(18), anchor="ls")
    return np.asarray(image)


def save(name: str, rows: list[list[np.ndarray]]) -> None:
    """Write pictures side by side, white between them."""
    across = np.full((SIZE, GAP, 3), 255, np.uint8)
    lines = [np.hstack([part for picture in row for part in (picture, across)][:-1]) for row in rows]
    between = np.full((GAP, lines[0].shape[1], 3), 255, np.uint8)
    picture = np.vstack([part for line in lines for part in (line, between)][:-1])
    Image.fromarray(picture).save(SCREENSHOTS / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
