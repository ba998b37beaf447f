"""The regions on which a data set is compared: many labels of an atlas become a few, by a recipe's ``regions.csv``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from CLMorphCore.errors import InputError
from CLMorphCore.io.images import LABEL_TYPES
from Training.csv_rows import read_rows


@dataclass(frozen=True)
class RegionValue:
    """A line of regions.csv: a label value, the number and the name of the region that it belongs to."""

    value: int
    region: int
    name: str


@dataclass(frozen=True)
class Region:
    """A region: its number (from 1), its name, and the label values that it is made of."""

    number: int
    name: str
    values: tuple[int, ...]


def read_regions(path: Path) -> tuple[Region, ...]:
    """Regions 1…N of a CSV with the columns value, region, name: one row for each label value that is in a region.

    InputError for a file that cannot be read so, a value listed twice, numbers with gaps, and names that do not fit.
    """
    rows = [(row.value, row.region, row.name.strip()) for row in read_rows(path, RegionValue, others=True)]
    values = [value for value, _, _ in rows]
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise InputError(f"{path} lists the label {twice[0]} twice; expected one region for each label")
    if not rows or min(values) < 1:
        raise InputError(
            f"{path} lists {f'the label {min(values)}' if rows else 'no label'}; expected label values "
            "above zero, which is the background"
        )
    numbers = sorted({number for _, number, _ in rows})
    if numbers != list(range(1, len(numbers) + 1)) or numbers[-1] > 255:
        raise InputError(
            f"{path} has the regions {', '.join(map(str, numbers))}; expected 1, 2, 3 … without gaps, at most 255"
        )
    names = {(number, name) for _, number, name in rows}
    if len(names) != len(numbers) or len({name for _, name in names}) != len(names) or ("" in {n for _, n in names}):
        raise InputError(
            f"{path} has the names {', '.join(f'{k} {name!r}' for k, name in sorted(names))}; expected "
            "one name for each region, and another for each other one"
        )
    return tuple(
        Region(number, name, tuple(sorted(v for v, k, _ in rows if k == number))) for number, name in sorted(names)
    )


def relabel(image: sitk.Image, regions: Sequence[Region]) -> sitk.Image:
    """Each label by the number of its region; 0 for labels in none: an image of 8 bits on the same grid.

    InputError unless the pixels are whole numbers.
    """
    if image.GetPixelID() not in LABEL_TYPES:
        raise InputError(
            f"labels to relabel are of type {image.GetPixelIDTypeAsString()}; expected whole numbers; "
            "read them with read_labels"
        )
    number_of = {value: region.number for region in regions for value in region.values}
    present = np.unique(sitk.GetArrayViewFromImage(image)).tolist()
    wide = sitk.Cast(image, sitk.sitkInt32)  # region numbers fit, whatever type the labels have
    return sitk.Cast(sitk.ChangeLabel(wide, {value: number_of.get(value, 0) for value in present}), sitk.sitkUInt8)
