"""The library's door: every public name is there, and importing the package loads nothing heavy."""

import subprocess
import sys

import pytest

import CLMorphCore

HEAVY = ("torch", "numpy", "SimpleITK", "safetensors", "tqdm")


@pytest.mark.parametrize("name", CLMorphCore.__all__)
def test_every_public_name_is_there(name):
    value = getattr(CLMorphCore, name)
    assert value is getattr(CLMorphCore, name) and name in dir(CLMorphCore)
    assert name == "__version__" or (value.__name__ == name and value.__doc__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'CLMorphCore' has no attribute 'segmnet'"):
        _ = CLMorphCore.segmnet


@pytest.mark.parametrize("code", ["import CLMorphCore", "from CLMorphCore import InputError, Cancelled"])
def test_importing_the_package_loads_nothing_heavy(code):
    check = f"{code}; import sys; print([name for name in {HEAVY} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_all_and_the_modules_agree():
    assert {name for name in CLMorphCore.__all__ if name != "__version__"} == set(CLMorphCore._MODULE_OF)


def test_a_scan_is_segmented_through_the_door(tiny_model, phantom):
    from CLMorphCore import InstanceOptimization, load_model, prepare_atlases, segment

    model = load_model(tiny_model)
    prepared = prepare_atlases(model)
    plain, optimized = (
        segment(phantom.image, model, atlases=prepared, optimization=each) for each in (None, InstanceOptimization(2))
    )
    assert plain.labels.GetSize() == phantom.image.GetSize() and plain.report.refinement_steps == 0
    assert optimized.registration.optimization_steps > 0
