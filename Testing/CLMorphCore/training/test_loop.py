"""The training loop: it learns, resumes to the same weights, and applies each weight once."""

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from CLMorphCore.bundles import checkpoint
from CLMorphCore.bundles.config import Config, TrainingConfig, from_dict
from CLMorphCore.bundles.phantom import make_phantom
from CLMorphCore.errors import Diverged, InputError
from CLMorphCore.io.manifest import Subject
from CLMorphCore.networks import build
from CLMorphCore.training.batches import Batch
from CLMorphCore.training.learner import learner_of
from CLMorphCore.training.loop import done_fraction, learning_rate, train
from CLMorphCore.training.processes import ALONE

PYRAMID = {
    "network": {"name": "clmorph-pyramid", "channels": [4, 8, 8], "width": 8, "embedding": 8},
    "data": {"spacing_mm": [3.0, 3.0, 3.0], "affine": False},
    "loss": {"similarity": "lncc", "window_voxels": 5, "regulariser": "diffusion", "smooth": 0.2, "symmetric": True},
    "augment": {"flip": "none", "rotation_degrees": 2.0},
    "training": {"steps": 6, "batch_size": 2, "checkpoint_every": 3, "validate_every": 3, "schedule": "cosine"},
}
PAPER = {
    "network": {"channels": [4, 8, 8], "embedding": 8},
    "data": {"spacing_mm": [2.0, 2.0, 2.0], "affine": False},
    "training": {"steps": 4, "batch_size": 2, "checkpoint_every": 2, "validate_every": 4},
}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def subjects(atlas, tmp_path_factory):
    """Four made-up subjects with files: two to train on, two with labels to validate on."""
    folder = tmp_path_factory.mktemp("subjects")
    made = []
    for seed, split in enumerate(("train", "train", "validation", "validation")):
        phantom = make_phantom(atlas, seed=seed)
        files = [folder / f"{seed}-{kind}.nii.gz" for kind in ("image", "labels")]
        for image, file in zip((phantom.image, phantom.labels), files, strict=True):
            sitk.WriteImage(image, str(file))
        made.append(Subject(f"s{seed}", files[0], files[1], split))
    return made


def weights(run):
    return checkpoint.load(run / "model" / "weights.safetensors")[0]


def losses(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("tree", [PYRAMID, PAPER], ids=["pyramid", "paper"])
def test_a_resumed_training_ends_in_the_same_weights_bit_for_bit(tree, subjects, tmp_path):
    config = from_dict(tree)
    train(config, subjects, tmp_path / "whole", device=CPU)
    with pytest.raises(KeyboardInterrupt):  # one step after a checkpoint, so that this step is done again
        train(
            config,
            subjects,
            tmp_path / "parts",
            device=CPU,
            progress=interrupt_after(config.training.checkpoint_every + 1),
        )
    train(config, subjects, tmp_path / "parts", device=CPU, resume=True)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    names = ("step", "loss", "validation_dice")
    assert [[r.get(n) for n in names] for r in losses(tmp_path / "whole")] == [
        [r.get(n) for n in names] for r in losses(tmp_path / "parts")
    ]


def interrupt_after(step):
    def progress(text, fraction):
        if text.startswith(f"training {step}/"):
            raise KeyboardInterrupt

    return progress


def test_training_brings_the_images_together(subjects, tmp_path):
    config = from_dict(
        PYRAMID | {"training": PYRAMID["training"] | {"steps": 30, "validate_every": 30, "learning_rate": 3e-3}}
    )
    train(config, subjects, tmp_path / "run", device=CPU)
    similarity = [r["similarity"] for r in losses(tmp_path / "run") if "similarity" in r]
    assert np.mean(similarity[-8:]) < 0.97 * np.mean(similarity[:8])


def test_byol_trains_and_resumes_its_target_too(subjects, tmp_path):
    config = from_dict(PYRAMID | {"loss": PYRAMID["loss"] | {"contrastive": "byol"}})
    train(config, subjects, tmp_path / "run", device=CPU)
    state = checkpoint.load(tmp_path / "run" / "checkpoint.safetensors")[0]
    assert any(name.startswith("contrast.target.") for name in state)
    assert not any(name.startswith("contrast") for name in weights(tmp_path / "run"))


def test_validation_labels_are_never_trained_on(subjects, tmp_path):
    config = from_dict(PYRAMID)
    train(config, subjects, tmp_path / "with", device=CPU)
    train(config, subjects[:2], tmp_path / "without", device=CPU)
    first, second = weights(tmp_path / "with"), weights(tmp_path / "without")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_papers_settings_are_the_defaults():
    config = Config()
    assert (config.loss.smooth, config.loss.contrast, config.loss.contrastive) == (1.0, 0.01, "nt-xent")
    assert (config.loss.similarity, config.loss.regulariser) == ("mse", "kl")
    assert (config.training.batch_size, config.training.learning_rate) == (8, 3e-3)
    assert (config.augment.flip, config.augment.rotation_degrees, config.augment.crop) == ("y", 10.0, (160, 192, 160))
    assert config.network.name == "clmorph" and config.network.settings.probabilistic


def test_learning_rates():
    paper = TrainingConfig()
    assert [learning_rate(paper, s, 0.0) for s in (0, 79, 80, 160)] == pytest.approx([3e-3, 3e-3, 3e-4, 3e-5])
    cosine = TrainingConfig(steps=100, schedule="cosine")
    assert [learning_rate(cosine, 100 * s, s) for s in (0.5, 1.0)] == pytest.approx([1.5e-3, 0.0])
    slowly = replace(cosine, warm_up=3)
    assert [learning_rate(slowly, s, 0.0) for s in range(5)] == pytest.approx([75e-5, 15e-4, 225e-5, 3e-3, 3e-3])


def test_weights_diverging_are_reported(subjects, tmp_path):
    config = from_dict(PYRAMID | {"training": PYRAMID["training"] | {"learning_rate": 1e30}})
    with pytest.raises(Exception, match=r"diverged at step \d+.*lower training\.learning_rate"):
        train(config, subjects, tmp_path / "run", device=CPU)


def test_a_gradient_that_is_no_number_is_reported_before_the_weights_take_it_in():
    config = from_dict(PYRAMID)
    learner = learner_of(config, build(config.network.name, config.network.settings), CPU)
    before = {name: value.clone() for name, value in learner.network.state_dict().items()}
    next(learner.network.parameters()).register_hook(lambda gradient: gradient * torch.nan)
    batch = Batch(torch.randn(2, 1, 32, 32, 32), torch.randn(2, 1, 32, 32, 32))
    with pytest.raises(Diverged, match="diverged at step 7: a gradient that is no number; lower"):
        learner.step(batch, 1e-3, 7, ALONE)
    assert all(torch.equal(value, before[name]) for name, value in learner.network.state_dict().items())


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"network": {"name": "voxelmorph"}, "loss": {"symmetric": True}}, "needs a network with an inverse"),
        ({"network": {"name": "lddmm"}}, "lddmm has no weights to train; use it as it is: model=lddmm"),
    ],
    ids=["losses that do not fit", "no weights"],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_read(tree, said, tmp_path):
    with pytest.raises(InputError, match=said):
        train(from_dict(tree), [], tmp_path / "run", device=CPU)


def test_one_subject_makes_no_pair(subjects, tmp_path):
    with pytest.raises(InputError, match="1 subject with split train; expected at least 2"):
        train(from_dict(PYRAMID), subjects[:1], tmp_path / "run", device=CPU)
    assert not (tmp_path / "run").exists()


def test_other_settings_cannot_resume(subjects, tmp_path):
    config = from_dict(PYRAMID)
    train(config, subjects, tmp_path / "run", device=CPU)
    other = replace(config, loss=replace(config.loss, smooth=9.0))
    with pytest.raises(InputError, match="trained with other settings"):
        train(other, subjects, tmp_path / "run", device=CPU, resume=True)
    with pytest.raises(InputError, match="holds a training already; pass resume"):
        train(config, subjects, tmp_path / "run", device=CPU)


def test_a_checkpoint_from_before_a_setting_was_there_resumes(subjects, tmp_path):
    config = from_dict(PYRAMID)
    train(replace(config, training=replace(config.training, steps=3)), subjects, tmp_path / "run", device=CPU)
    tensors, header = checkpoint.load(tmp_path / "run" / "checkpoint.safetensors")
    del header["config"]["refinement"], header["config"]["loss"]["voxel_temperature"]
    checkpoint.save(tmp_path / "run" / "checkpoint.safetensors", tensors, header)
    train(config, subjects, tmp_path / "run", device=CPU, resume=True)
    assert [r["step"] for r in losses(tmp_path / "run") if "loss" in r] == [1, 2, 3, 4, 5, 6]


def test_minutes_end_a_training_before_its_steps_do(subjects, tmp_path):
    settings = PYRAMID["training"] | {"steps": 100_000, "minutes": 0.05}  # of several steps on a busy machine, too
    train(from_dict(PYRAMID | {"training": settings}), subjects, tmp_path / "run", device=CPU)
    steps = [r for r in losses(tmp_path / "run") if "loss" in r]
    assert 1 <= len(steps) < 1000 and steps[-1]["seconds"] >= 3.0
    assert steps[-1]["learning_rate"] < 0.5 * steps[0]["learning_rate"]  # the schedule follows the minutes
    assert checkpoint.load(tmp_path / "run" / "model" / "weights.safetensors")[1]["step"] == len(steps)


def test_whichever_is_more_of_steps_and_minutes_counts():
    settings = TrainingConfig(steps=100, minutes=1.0)
    assert [done_fraction(settings, *s) for s in ((10, 6.0), (10, 30.0), (0, 90.0))] == [0.1, 0.5, 1.0]
    assert done_fraction(TrainingConfig(steps=100), 10, 1e9) == 0.1
