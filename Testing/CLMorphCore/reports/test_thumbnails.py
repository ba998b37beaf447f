"""The small picture of a segmentation: what it shows, read by another reader, and how small it is."""

import io

import numpy as np
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.image import imread

from CLMorphCore.reports import drawing
from CLMorphCore.reports.thumbnails import SIDE_PIXELS, thumbnail

COLORS = {1: "#d8654f", 2: "#4f8fd8", 3: "#6fbf5f"}


def pixels(data):
    return (imread(io.BytesIO(data), format="png")[..., :3] * 255).round().astype(np.uint8)


@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
def test_a_png_of_few_colours_is_the_same_picture(picture):
    assert (pixels(drawing.indexed_png(picture)) == picture).all()


def test_more_colours_than_a_palette_has_are_kept_too():
    picture = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    assert (pixels(drawing.indexed_png(picture)) == picture).all()


def test_three_planes_with_the_outlines_of_every_structure(phantom):
    data = thumbnail(phantom.image, phantom.labels, COLORS)
    picture = pixels(data)
    rows, columns, _ = picture.shape
    assert rows <= SIDE_PIXELS + 1 and 2 * SIDE_PIXELS < columns <= 3 * SIDE_PIXELS + 6
    there = {tuple(color) for color in picture.reshape(-1, 3).tolist()}
    assert {drawing.rgb(color) for color in COLORS.values()} <= there
    assert len(data) < 12_000  # a thousand of them, in base64, are 16 MB at most


def test_a_scan_without_labels_is_shown_whole(phantom):
    picture = pixels(thumbnail(phantom.image, sitk.Image(phantom.labels) * 0, COLORS))
    assert picture.std() > 20
