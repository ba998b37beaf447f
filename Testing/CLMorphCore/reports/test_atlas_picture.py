"""The small picture of an atlas: three planes in a row, at one scale, outlines in their colours, never large."""

import numpy as np
import pytest
import SimpleITK as sitk
from made_up import Ellipsoid, ellipsoid_atlas

from CLMorphCore.bundles.atlas import Structure
from CLMorphCore.reports import drawing
from CLMorphCore.reports.atlas_picture import GAP, HEIGHT, MAX_PICTURE_BYTES, WIDTH, atlas_picture

ELLIPSOIDS = {1: Ellipsoid((-9, -6, 2), (8, 9, 7), 900.0), 2: Ellipsoid((9, -5, -2), (7, 8, 9), 300.0)}
STRUCTURES = [Structure(1, "One", "#ff0000"), Structure(2, "Two", "#00ff40")]
COLORS = {s.value: drawing.rgb(s.color) for s in STRUCTURES}


def shown(data, tmp_path):
    (tmp_path / "picture.png").write_bytes(data)
    return sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "picture.png")))


def test_three_planes_stand_side_by_side_at_one_scale_with_outlines(tmp_path):
    atlas = ellipsoid_atlas((20, 40, 30), 2.0, ellipsoids=ELLIPSOIDS, structures=STRUCTURES)
    for corner in ((0, 0, 0), [n - 1 for n in atlas.image.GetSize()]):  # no background about it
        atlas.image[corner] = 900.0
    picture = shown(atlas_picture(atlas.image, atlas.labels, COLORS), tmp_path)
    x, y, z = whole_mm(atlas.image)
    rows, columns, _ = picture.shape
    pixel_mm = (x + x + y) / (columns - 2 * GAP)
    assert rows == pytest.approx(max(y, z) / pixel_mm, abs=1.5)
    assert columns <= WIDTH + 2 and rows <= HEIGHT + 1 and max(columns / WIDTH, rows / HEIGHT) > 0.98
    for color in COLORS.values():
        assert (picture == color).all(axis=-1).any(), color
    edge = round(x / pixel_mm)
    assert not picture[:, edge + 1 : edge + GAP - 1].any()  # the gap between the first two


def whole_mm(image):
    return [n * mm for n, mm in zip(image.GetSize(), image.GetSpacing(), strict=True)]


def test_background_around_is_not_shown_beyond_a_margin(tmp_path):
    atlas = ellipsoid_atlas((20, 40, 30), 2.0, ellipsoids=ELLIPSOIDS, structures=STRUCTURES)
    image, labels = (sitk.ConstantPad(each, [30] * 3, [20] * 3, 0) for each in (atlas.image, atlas.labels))
    once, padded = (atlas_picture(*pair, COLORS) for pair in ((atlas.image, atlas.labels), (image, labels)))
    few, many = (shown(data, tmp_path) for data in (once, padded))
    assert np.isclose(many.shape, few.shape, rtol=0.1).all()
    share = [(each == color).all(axis=-1).mean() for each in (few, many) for color in COLORS.values()]
    assert share[2:] == pytest.approx(share[:2], rel=0.2)


def test_without_labels_it_is_grey(tmp_path):
    atlas = ellipsoid_atlas((20, 24, 22), 2.0, ellipsoids=ELLIPSOIDS, structures=STRUCTURES)
    picture = shown(atlas_picture(atlas.image, None, {}), tmp_path)
    assert picture.std() > 0 and (picture == picture[..., :1]).all()


@pytest.mark.parametrize("size", [(90, 100, 80), (400, 400, 3), (8, 8, 500), (1, 1, 1)])
def test_it_is_never_large_whatever_it_shows(size, tmp_path):
    noise = np.random.default_rng(0)
    image = sitk.GetImageFromArray(noise.normal(size=size[::-1]).astype(np.float32))
    labels = sitk.GetImageFromArray(noise.integers(0, 50, size=size[::-1]).astype(np.uint16))
    data = atlas_picture(image, labels, {n: (5 * n, 255 - 5 * n, 128) for n in range(1, 50)})
    assert len(data) <= MAX_PICTURE_BYTES
    rows, columns, _ = shown(data, tmp_path).shape
    assert rows <= HEIGHT + 1 and columns <= WIDTH + 2
