"""Speaks as the engine does, in one of several moods: `python fake_engine.py MOOD segment IMAGE ... -o OUT ...`.

Or `MOOD register FIXED MOVING ... -o OUT ...`: the moving image is taken to be the phantom's atlas.
"""

import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np

NIFTI_HEADER = 352  # bytes
VENTRICLE = 5  # its label


def say(**event) -> None:
    print(json.dumps(event), flush=True)


def results(image: Path, registers: bool, labelled: bool) -> Path:
    """The folder of what an engine would write for an image (.nii): made once for each grid and session of tests.

    The phantom knows its deformation, so that what it writes depends on the header alone.
    """
    key = hashlib.sha256(image.read_bytes()[:NIFTI_HEADER] + bytes([registers, labelled])).hexdigest()
    made = Path(os.environ["PHANTOM_CACHE"], key, "output")
    if not made.exists():
        import phantom

        own = made.parent.with_suffix(f".{os.getpid()}") / "output"  # and nobody sees it half-made
        phantom.write_engine_output(own, image)
        if registers:
            phantom.make_registration_output(own, labelled)
        try:
            own.parent.rename(made.parent)
        except OSError:  # another was faster
            return own
    return made


def works(image: str, output: str, cancel: Path) -> int:
    say(event="progress", step="reading", fraction=0.1, seconds_left=None)
    print("a warning on the error stream", file=sys.stderr, flush=True)
    shutil.copytree(results(Path(image), sys.argv[2] == "register", "--moving-labels" in sys.argv), output)
    say(event="progress", step="writing", fraction=0.9, seconds_left=0.2)
    say(event="done", output=output)
    return 0


def waits(image: str, output: str, cancel: Path) -> int:
    """As in a long step: goes on until it is asked to stop."""
    for number in range(1200):
        say(event="progress", step="network", fraction=min(number / 100, 0.9), seconds_left=72.4)
        if cancel.exists():
            say(event="cancelled")
            return 130
        time.sleep(0.05)
    return 1


def hangs(image: str, output: str, cancel: Path) -> int:
    """Deaf to the request to stop, with a child of its own that must not outlive it."""
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    begun = cancel.with_name("begun")
    begun.write_text(str(pid))
    begun.rename(cancel.with_name("grandchild"))  # which is read as soon as it is there
    say(event="progress", step="network", fraction=0.5, seconds_left=None)
    time.sleep(60)
    return 0


def two_then_waits(image: str, output: str, cancel: Path) -> int:
    """Works for the first two images of a series, and takes its time for the others: their brightness tells them."""
    import SimpleITK as sitk

    brightness = sitk.GetArrayFromImage(sitk.ReadImage(image)).max()
    return (works if brightness < 2000 else waits)(image, output, cancel)


def names_parameters(image: str, output: str, cancel: Path) -> int:
    """Refuses in the engine's words of today, with parameters of the library in backticks."""
    message = "out of memory on the graphics card; give --device cpu, or less to do with --affine none"
    remedy = "give `device=cpu`, or less to do with `affine`"
    say(event="error", message=message, problem="out of memory on the graphics card", remedy=remedy)
    return 2


def crashes(image: str, output: str, cancel: Path) -> int:
    Path(output).mkdir()
    print("Traceback (most recent call last):\nMemoryError: too little memory", file=sys.stderr, flush=True)
    os.abort()


def refuses(image: str, output: str, cancel: Path) -> int:
    message = "the image has 2 slices, expected at least 16; give a volume"
    print(message, file=sys.stderr)
    say(event="error", message=message)
    return 2


def babbles(image: str, output: str, cancel: Path) -> int:
    sys.stdout.buffer.write(b"\xff\xfe\x00 not json\n[1, 2]\n" + b"[" * 100_000 + b"\n" + b"x" * 3_000_000 + b"\n")
    say(event="progress", step=None, fraction="many", seconds_left="soon")
    say(event="progress", step="network", fraction=7.5)
    return 0


def judged(image: str, output: str, cancel: Path) -> int:
    """Works, with a verdict and an interval around the Dice to expect of the first structure."""
    works(image, output, cancel)
    report = Path(output) / "report.json"
    tree = json.loads(report.read_text("utf-8"))
    tree["quality"] |= {"verdict": "review", "reason": "the warped atlas hardly resembles the scan"}
    tree["structures"][0]["quality_interval"] = [0.71, 0.86]
    report.write_text(json.dumps(tree), encoding="utf-8")
    return 0


def follows(image: str, output: str, cancel: Path) -> int:
    """Works, with labels that follow the scan's tissue: one of them is a tenth larger than the atlas alone says."""
    works(image, output, cancel)
    report = Path(output) / "report.json"
    tree = json.loads(report.read_text("utf-8"))
    first = tree["structures"][0]
    expected = {"volume_expected_ml": first["volume_ml"] / 1.1}
    tissue = {"used": True, "note": "", "classes": [{"structures": [first["name"]], "mean": 80.0, "sd": 9.0}]}
    tree["structures"] = [{**each, **(expected if each is first else {})} for each in tree["structures"]]
    report.write_text(json.dumps({**tree, "tissue": tissue}), encoding="utf-8")
    return 0


def falls_back(image: str, output: str, cancel: Path) -> int:
    """Works, and tells that the scan's tissue was of no help."""
    works(image, output, cancel)
    report = Path(output) / "report.json"
    note = "the labels are the atlas' alone, the scan's tissue does not tell more: it is of one grey value"
    told = {"tissue": {"used": False, "note": note, "classes": []}, "warnings": [note]}
    report.write_text(json.dumps(json.loads(report.read_text("utf-8")) | told), encoding="utf-8")
    return 0


def takes_the_brain_out(image: str, output: str, cancel: Path) -> int:
    """Works, on what it says to be the brain of a head: the phantom's body, with a mask."""
    import phantom

    works(image, output, cancel)
    phantom.add_brain(Path(output))
    return 0


def takes_the_second_brain_out(image: str, output: str, cancel: Path) -> int:
    """As of a series in which the first image was stripped already: brightness tells the images."""
    import SimpleITK as sitk

    brightness = sitk.GetArrayFromImage(sitk.ReadImage(image)).max()
    return (works if brightness < 1000 else takes_the_brain_out)(image, output, cancel)


def finds_both_sides(image: str, output: str, cancel: Path) -> int:
    """Works as for an organ that is found on both sides: no one transform, nor what comes of one."""
    import phantom

    works(image, output, cancel)
    phantom.make_both_sides(Path(output))
    return 0


def frames_follow(image: str, output: str, cancel: Path) -> int:
    """Works on the frames of a series, as with --frames all: the ventricle loses slices up to the third frame.

    The file is read by ITK, for which frames that come last are components of a voxel.
    """
    import phantom
    import SimpleITK as sitk

    assert sys.argv[sys.argv.index("--frames") + 1] == "all"
    say(event="progress", step="frame 2", fraction=0.5, seconds_left=1.0)
    frames = sitk.ReadImage(image)
    count = frames.GetNumberOfComponentsPerPixel()
    first = sitk.VectorIndexSelectionCast(frames, 0) if count > 1 else frames
    truth = sitk.Resample(phantom.atlas()[1], first, phantom.transform(), sitk.sitkNearestNeighbor, 0)
    array, labels = sitk.GetArrayFromImage(truth), []
    slices = np.nonzero((array == VENTRICLE).any(axis=(1, 2)))[0]
    for number in range(count):
        one = array.copy()
        beat = min(number, 2)  # 0, 1, 2, 2
        one[slices[0] : slices[0] + beat][one[slices[0] : slices[0] + beat] == VENTRICLE] = 0
        labels.append(phantom._like(one, truth))
    Path(output).mkdir()
    sitk.WriteImage(sitk.JoinSeries(labels) if count > 1 else labels[0], str(Path(output) / "labels.nii.gz"))
    report = phantom._report(Path(image), labels[0]) | {"series": series_of(labels)}
    report["warnings"] = ["the two ways round the beat end 2.5 mm apart in frame 3"]
    (Path(output) / "report.json").write_text(json.dumps(report), encoding="utf-8")
    say(event="done", output=output)
    return 0


def sitk_array(image) -> "np.ndarray":
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(image)


def series_of(labels: list) -> dict:
    """What the engine reports of frames, with the ventricle as a heart's."""
    voxel_ml = float(np.prod(labels[0].GetSpacing())) / 1000.0
    counts = [np.bincount(sitk_array(each).ravel(), minlength=VENTRICLE + 1) for each in labels]
    volumes = [{str(v): float(n[v] * voxel_ml) for v in (1, 2, VENTRICLE) if n[v]} for n in counts]
    ends = [volumes[0][str(VENTRICLE)], volumes[min(2, len(volumes) - 1)][str(VENTRICLE)]]
    heart = {"side": "left", "structure": "Ventricle", "end_diastole": 1, "end_systole": 3, "edv_ml": ends[0],
             "esv_ml": ends[1], "ejection_fraction": 1.0 - ends[1] / ends[0]}  # fmt: skip
    frames = [
        {"number": n, "time_s": 0.04 * (n - 1), "volumes_ml": ml, "similarity": None if n == 1 else 0.9,
         "folding_fraction": None if n == 1 else 0.0}
        for n, ml in enumerate(volumes, start=1)
    ]  # fmt: skip
    return {"count": len(labels), "segmented": 1, "frames": frames, "heart": [heart]}


def loses_labels(image: str, output: str, cancel: Path) -> int:
    """Works, and all labels have moved out of the image."""
    import SimpleITK as sitk

    works(image, output, cancel)
    path = str(Path(output) / "labels.nii.gz")
    sitk.WriteImage(sitk.ReadImage(path) * 0, path)
    return 0


def measures_landmarks(image: str, output: str, cancel: Path) -> int:
    """Works, and tells how far apart landmarks lie, one of which has no partner."""
    works(image, output, cancel)
    report = Path(output) / "report.json"
    told = {"names": ["a", "b"], "before_mm": [12.0, 14.0], "affine_mm": [4.0, 2.0], "warped_mm": [1.0, 0.5],
            "mean_mm": {"before": 13.0, "affine": 3.0, "warped": 0.75}, "matched_by": "name", "alone": ["c"],
            "max_mm": {"before": 14.0, "affine": 4.0, "warped": 1.0}}  # fmt: skip
    report.write_text(json.dumps({**json.loads(report.read_text("utf-8")), "landmarks": told}), encoding="utf-8")
    return 0


def half_done(image: str, output: str, cancel: Path) -> int:
    """Says that it is done, with a file missing."""
    works(image, output, cancel)
    (Path(output) / "warped.nii.gz").unlink()
    return 0


if __name__ == "__main__":
    mood, arguments = sys.argv[1], sys.argv[2:]
    after = {name: arguments[arguments.index(name) + 1] for name in ("-o", "--cancel-file", arguments[0])}
    sys.exit(globals()[mood](after[arguments[0]], after["-o"], Path(after["--cancel-file"])))
