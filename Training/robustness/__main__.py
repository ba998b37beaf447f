"""`python -m Training.robustness [--files N] [--only KIND] [--out FILE]`: a table of what becomes of damaged files.

N files of every kind are damaged at random, with a seed each, and read, each in a process of its own. Files that end in
anything but an answer or one line are kept in the folder --keep.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from CLMorphCore.arguments import kinds
from CLMorphCore.io.images import read_file

from .mutations import flipped, mutated
from .processes import CRASH, HANG, READ, REFUSED, TRACEBACK, Outcome, check_platform, outcomes
from .samples import Sample, samples

PACKED = {
    "NIfTI, gzip": 10,
    "NRRD, gzip": 500,
    "MetaImage, zlib": 420,
}  # and where the packed data begins, at the latest
FLIPS = 200


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m Training.robustness", description=__doc__)
    parser.add_argument(
        "--files", type=kinds.above_zero, default=2000, help="damaged files of each kind (default: 2000)"
    )
    parser.add_argument("--only", choices=list(samples()), metavar="KIND", help="one kind; --out keeps the others'")
    parser.add_argument("--out", type=Path, default=Path("Training/results/robustness.json"))
    parser.add_argument("--keep", type=Path, help="folder for the files that end in nothing good")
    options = parser.parse_args()
    check_platform()
    gc.freeze()  # what is shared with the children stays shared
    table = others(options.out, options.files) if options.only else {}
    for kind, sample in samples().items():
        if options.only in (None, kind):
            table[kind] = count(kind, sample, options.files, options.keep)
            print(kind, table[kind], flush=True)
            options.out.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps({"files_each": options.files, "kinds": table}, indent=1)
            options.out.write_text(text + "\n", encoding="utf-8")


def others(out: Path, files: int) -> dict[str, Any]:
    """The rows of an earlier table of as many files of each kind; none where there is no such table."""
    if not out.exists():
        return {}
    table = json.loads(out.read_text(encoding="utf-8"))
    if table["files_each"] != files:
        raise SystemExit(f"{out} is of {table['files_each']} files of each kind, not {files}; choose another --out")
    return table["kinds"]


def count(kind: str, sample: Sample, files: int, keep: Path | None = None, *, turned: int = FLIPS) -> dict[str, Any]:
    """How many of ``files`` damaged files of a kind are read, refused in one line, or neither; the peak of memory.

    Of packed ones ``turned`` more have one bit turned.
    """
    found, peak, examples = Counter[str](), 0, []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / sample.name
        contents = [
            mutated(sample.content, random.Random(f"{kind} {seed}"), is_text=sample.is_text) for seed in range(files)
        ]
        for seed, result in enumerate(outcomes(sample.read, path, contents)):
            what = result.what if is_one_line(result) else TRACEBACK
            found[what] += 1
            peak = max(peak, result.memory)
            if what not in (READ, REFUSED):
                examples.append(f"{seed}: {what}: {' '.join(result.text.split())[-160:]}")
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{seed}-{kind.replace(' ', '_')}-{sample.name}").write_bytes(contents[seed])
        told = {what: found[what] for what in (READ, REFUSED, TRACEBACK, CRASH, HANG)} | {"peak_mb": round(peak / 1e6)}
        if kind in PACKED:
            told["flipped_bits"] = turned
            told["of_them_read_with_other_voxels"] = flips(sample, path, PACKED[kind], turned)
    return told | ({"examples": examples[:5]} if examples else {})


def is_one_line(result: Outcome) -> bool:
    """Whether what was refused was said in one line of a length that can be read."""
    return result.what != REFUSED or ("\n" not in result.text and 20 < len(result.text) < 1500)


def flips(sample: Sample, path: Path, start: int, count: int) -> int:
    """How many of ``count`` files with one bit turned in their packed voxels are read, and as other voxels."""
    path.write_bytes(sample.content)
    sound = sitk.GetArrayFromImage(read_file(path)).tobytes()

    def other(at: Path) -> None:
        assert sitk.GetArrayFromImage(read_file(at)).tobytes() == sound

    contents = [flipped(sample.content, random.Random(seed), start) for seed in range(count)]
    return sum(result.what not in (READ, REFUSED) for result in outcomes(other, path, contents))


if __name__ == "__main__":
    main()
