"""On a GPU everything comes out as on the CPU; without one these tests are skipped."""

import json

import pytest
import SimpleITK as sitk
import torch

from CLMorphCore.bundles.config import from_dict
from CLMorphCore.bundles.model import load_model
from CLMorphCore.metrics import dice_per_label
from CLMorphCore.networks import NETWORKS, build
from CLMorphCore.training.batches import Dataset, Volume, draw_batch
from CLMorphCore.training.loop import fit

GPU, CPU = torch.device("cuda"), torch.device("cpu")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
SMALL = {"channels": [4, 8, 8], "encoder": [8, 8], "decoder": [8, 8], "width": 8, "embedding": 8}


def volumes():
    made = [torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    return Dataset(made[0], [Volume(f"v{n}", image, (image > 0.5).float()) for n, image in enumerate(made)], [])


@needs_gpu
def test_a_batch_is_the_same_wherever_it_is_made():
    config = from_dict(
        {
            "augment": {"flip": "x", "rotation_degrees": 5.0, "crop": [16, 8, 16]},
            "training": {"batch_size": 2},
            "network": {"channels": [4, 8]},
        }
    )
    network = build(config.network.name, config.network.settings)
    for step in range(3):
        here, there = (draw_batch(volumes(), config, network, step, device) for device in (CPU, GPU))
        assert there.fixed.device.type == "cuda"
        torch.testing.assert_close(there.fixed.cpu(), here.fixed, atol=1e-4, rtol=0)
        torch.testing.assert_close(there.moving.cpu(), here.moving, atol=1e-4, rtol=0)


@needs_gpu
@pytest.mark.parametrize("name", sorted(name for name, system in NETWORKS.items() if system.trained))
def test_every_network_trains_as_on_the_cpu(name, tmp_path):
    known = NETWORKS[name].settings.__dataclass_fields__
    tree = {
        "network": {"name": name} | {k: v for k, v in SMALL.items() if k in known and name.startswith("clmorph")},
        "training": {"steps": 2, "batch_size": 2, "checkpoint_every": 2},
    }
    first = []
    data = volumes()
    if max(build(name, from_dict(tree).network.settings).divisor) > 16:
        pytest.skip("its divisor is larger than these volumes")
    for run, device in enumerate((CPU, GPU)):
        fit(from_dict(tree), data, tmp_path / str(run), device=device)
        lines = (tmp_path / str(run) / "log.jsonl").read_text(encoding="utf-8").splitlines()
        first.append([json.loads(line)["loss"] for line in lines])
    assert first[0][0] == pytest.approx(first[1][0], rel=0.05)


@needs_gpu
@pytest.mark.parametrize(
    "options",
    [(), ("--refine", "10"), ("--refine", "5", "--similarity", "mind")],
    ids=["network", "refinement", "mind"],
)
def test_a_segmentation_is_the_same_on_both(options, clmorph, tiny_model, scan, tmp_path):
    found = {}
    for device in ("cpu", "cuda"):
        output = tmp_path / device
        ran = clmorph("segment", scan, "--model", tiny_model, "-o", output, "--device", device, *options)
        assert ran.code == 0, ran.err
        assert json.loads((output / "report.json").read_text(encoding="utf-8"))["device"] == device
        found[device] = sitk.ReadImage(str(output / "labels.nii.gz"))
    assert min(dice_per_label(found["cuda"], found["cpu"], (1, 2, 3)).values()) > 0.98


@needs_gpu
@pytest.mark.parametrize("name", ["hippocampus", "brain", "heart"])
def test_shipped_networks_answer_as_on_the_cpu(name):
    fields = []
    noise = (torch.rand(1, 1, 16, 32, 32, generator=torch.Generator().manual_seed(seed)) for seed in range(2))
    images = [torch.nn.functional.avg_pool3d(image, 5, stride=1, padding=2) for image in noise]
    for device in (CPU, GPU):
        model = load_model(name, device=device)
        with torch.inference_mode():
            fields.append(model.network(*(image.to(device) for image in images)).displacement.cpu())
    assert fields[0].abs().max() > 0.1
    assert (fields[0] - fields[1]).abs().mean() < 0.05  # voxels; convolutions on a GPU keep ten bits
