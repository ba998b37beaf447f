"""Draws the page of a training: `python Testing/CLMorphCore/screenshot_training.py`.

Made-up subjects of the shipped hippocampus model become a folder of scans, which `clmorph train FOLDER` makes a model
from; the top of its page, as Chromium shows it, is written to CLMorphSlicer/Resources/Screenshots/training.png.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import SimpleITK as sitk

from CLMorphCore.bundles.model import load_model
from CLMorphCore.bundles.phantom import make_phantom

PICTURE = Path(__file__).parents[2] / "CLMorphSlicer" / "Resources" / "Screenshots" / "training.png"
SUBJECTS, MINUTES = 16, 3
WIDTH, HEIGHT = 1000, 1900  # of the page's top, pixels


def main() -> None:
    """Make the scans, train, and draw the page."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("needs Chromium to draw the page: apt-get install chromium")
    atlas = load_model("hippocampus").atlases[0]
    with tempfile.TemporaryDirectory() as place:
        folder, run = Path(place) / "hippocampi", Path(place) / "hippocampus"
        folder.mkdir()
        for seed in range(SUBJECTS):
            phantom = make_phantom(atlas, seed=seed)
            sitk.WriteImage(phantom.image, str(folder / f"subject{seed:02}.nii.gz"))
            sitk.WriteImage(phantom.labels, str(folder / f"subject{seed:02}_labels.nii.gz"))
        names = "".join(f"{s.value},{s.name}\n" for s in atlas.structures)
        (folder / "labels.csv").write_text("value,name\n" + names, encoding="utf-8")
        train = ("train", str(folder), "-o", str(run), "--minutes", str(MINUTES))
        subprocess.run([sys.executable, "-m", "CLMorphCore", *train], check=True)
        looks = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={WIDTH},{HEIGHT}")
        drawn = [browser, *looks, f"--screenshot={PICTURE}", (run / "report.html").as_uri()]
        subprocess.run(drawn, check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
