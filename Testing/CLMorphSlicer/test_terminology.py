"""Slicer's standard names and colours, by the codes of a model's structures."""

import json

import pytest

pytest.importorskip("slicer", reason="needs the MRML library: pip install slicer-core==5.12.4.0")

import slicer
import slicer.util
from CLMorphSlicerLib import nodes
from CLMorphSlicerLib.terminology import CONTEXT, with_standard_looks

TYPES = (("5366008", "Hippocampus", (10, 200, 30)), ("35764002", "Ventricle of brain", (90, 80, 70)),
         ("119406000", "Thalamus", (1, 2, 3)))  # fmt: skip


@pytest.fixture
def anatomy(headless, tmp_path):
    """A list of general anatomy with three structures: Slicer's own one lies in the application alone."""
    kinds = [
        {
            "CodingSchemeDesignator": "SCT",
            "CodeValue": code,
            "CodeMeaning": name,
            "recommendedDisplayRGBValue": list(rgb),
        }
        for code, name, rgb in TYPES
    ]
    category = {"CodingSchemeDesignator": "SCT", "CodeValue": "123037004", "CodeMeaning": "Anatomical Structure",
                "Type": kinds}  # fmt: skip
    written = {
        "SegmentationCategoryTypeContextName": CONTEXT,
        "@schema": "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/schemas/segment-context-schema.json#",
        "SegmentationCodes": {"Category": [category]},
    }
    path = tmp_path / "anatomy.term.json"
    path.write_text(json.dumps(written), encoding="utf-8")
    assert slicer.modules.terminologies.logic().LoadTerminologyFromFile(str(path)) == CONTEXT


def structure(name: str, terminology: str = "") -> dict:
    return {"value": 1, "name": name, "color": "#102030", "terminology": terminology}


def looks(structures: list[dict]) -> list[tuple[str, str]]:
    return [(each["name"], each["color"]) for each in with_standard_looks(structures)]


def test_code_that_is_in_the_list_gives_name_and_colour(anatomy):
    found = looks([structure("My ventricle", "SCT^35764002^Brain ventricle"), structure("Other", "SCT^1^Thing")])
    assert found == [("Ventricle of brain", "#5a5046"), ("Other", "#102030")]
    (named,) = with_standard_looks([structure("My ventricle", "SCT^35764002^Brain ventricle")], colors=False)
    assert (named["name"], named["color"]) == ("Ventricle of brain", "#102030")


def test_side_of_a_structure_is_kept(anatomy):
    both = [structure(f"{side} thalamus", "SCT^119406000^Thalamus") for side in ("Left", "Right")]
    assert looks(both) == [("Thalamus, Left", "#010203"), ("Thalamus, Right", "#010203")]


def test_structures_that_would_have_one_name_keep_their_own(anatomy):
    parts = [structure(f"{part} hippocampus", "SCT^5366008^Hippocampus") for part in ("Anterior", "Posterior")]
    assert looks(parts) == [("Anterior hippocampus", "#102030"), ("Posterior hippocampus", "#102030")]


def test_without_the_list_everything_keeps_its_looks(headless):
    assert looks([structure("Thalamus", "SCT^119406000^Thalamus"), structure("No code")]) == [
        ("Thalamus", "#102030"),
        ("No code", "#102030"),
    ]


@pytest.mark.parametrize("standard", [True, False])
def test_segments_get_standard_looks_where_they_are_asked_for(anatomy, phantom_case, standard):
    case = phantom_case("RAS")
    loading = nodes.Loading(standard_names=standard)
    segmentation = nodes.import_results(case.output, case.volume, case.atlas, loading=loading).segmentation
    segments = [segmentation.GetSegmentation().GetNthSegment(index) for index in range(3)]
    names = [segment.GetName() for segment in segments]
    assert names == (["Body", "Hippocampus", "Ventricle of brain"] if standard else
                     ["Body", "Anterior hippocampus", "Ventricle"])  # fmt: skip
    expected = [part / 255 for part in TYPES[0][2]] if standard else [0xD8 / 255, 0x65 / 255, 0x4F / 255]
    assert list(segments[1].GetColor()) == pytest.approx(expected)
