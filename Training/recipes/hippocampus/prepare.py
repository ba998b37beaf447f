"""Manifest of the Medical Segmentation Decathlon's task 4: ``python prepare.py DATA manifest.csv``.

DATA/Task04_Hippocampus holds imagesTr/, labelsTr/ and split.csv (subject, split).
"""

from __future__ import annotations

import sys
from pathlib import Path

from Training.manifest import read_split, write_manifest


def main(data: Path, manifest: Path) -> None:
    folder = data / "Task04_Hippocampus"
    images, labels = folder / "imagesTr", folder / "labelsTr"
    write_manifest(manifest, [(name, images / f"{name}.nii.gz", labels / f"{name}.nii.gz", split)
                              for name, split in read_split(folder).items()])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
