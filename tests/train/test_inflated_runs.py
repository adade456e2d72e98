"""Runs of tokenizers of video that start from a tokenizer of pictures."""

import dataclasses

import cli_runs
import numpy as np
import pytest

from vq_jax import load
from vq_jax.configs import (
    DataConfig,
    ExperimentConfig,
    PatchVQVAE,
    TrainingConfig,
    VectorQuantizerEMAConfig,
    VideoVQVAE,
)
from vq_jax.configs.presets import load_preset
from vq_jax.data import open_source
from vq_jax.errors import UserError
from vq_jax.pretrained.build import build_model
from vq_jax.train import train
from vq_jax.train.initial_weights import initial_tokenizer


def config(**model):
    network = VideoVQVAE(
        channels=8,
        residual_channels=4,
        num_res_blocks=1,
        quantizer=VectorQuantizerEMAConfig(codebook_size=16, code_dim=4),
    )
    return ExperimentConfig(
        name="clips",
        model=dataclasses.replace(network, **model),
        data=DataConfig(source="moving-fashion", frames=5, image_size=32, batch_size=4, test_limit=4),
        training=TrainingConfig(steps=2, save_every=2, eval_every=2, inflate=str(cli_runs.trained_run())),
    )


def start(config, workdir):
    return initial_tokenizer(config, workdir, build_model(config), lambda: None)


def test_a_tokenizer_of_pictures_is_inflated(tmp_path):
    weights, pictures = start(config(), tmp_path), load(cli_runs.trained_run())
    kernel = np.asarray(weights.variables["params"]["encoder"]["blocks"]["Conv_1"]["kernel"])
    wanted = np.asarray(pictures.variables["params"]["encoder"]["blocks"]["Conv_1"]["kernel"])
    np.testing.assert_array_equal(kernel[-1], wanted)
    assert kernel.shape[0] == 3 and not kernel[:-1].any()


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"patch_size": 8}, "4 x 4 pixels in 3 channels a code, and clips has 8 x 8 pixels in 3 channels"),
        ({"channels": 4}, "of vqvae-patches, are not those of vqvae-video for pictures: params/decoder/"),
    ],
)
def test_other_tokenizers_are_refused(changed, message, tmp_path):
    with pytest.raises(UserError, match=message):
        start(config(**changed), tmp_path)


def test_what_a_run_starts_from_is_named_once_and_for_tokenizers():
    with pytest.raises(ValueError, match="both name what the run starts from"):
        TrainingConfig(init="a", inflate="b")
    prior = load_preset("prior-fashion")
    with pytest.raises(ValueError, match="training.inflate names a tokenizer .* trains a prior: omit it"):
        dataclasses.replace(prior, training=dataclasses.replace(prior.training, inflate="a"))


@pytest.mark.ci
def test_a_run_on_clips_goes_on_from_a_tokenizer_of_pictures_and_resumes_without_it(tmp_path, caplog):
    grey = config(image_channels=1)
    flat = PatchVQVAE(
        **{field.name: getattr(grey.model, field.name) for field in dataclasses.fields(PatchVQVAE)}
    )
    short = TrainingConfig(steps=2, save_every=2, eval_every=2)
    pictures = DataConfig(source="fashion", image_size=28, batch_size=4, test_limit=4)
    train(ExperimentConfig("pictures", flat, pictures, training=short), tmp_path / "pictures")
    clips = dataclasses.replace(grey, training=dataclasses.replace(short, inflate=str(tmp_path / "pictures")))
    train(clips, tmp_path / "clips")
    assert "Starting from the weights in" in caplog.text
    longer = dataclasses.replace(clips, training=dataclasses.replace(short, steps=4))
    train(longer, tmp_path / "clips")
    assert "--inflate has no effect" in caplog.text
    clip = open_source("moving-fashion", "test", grey.data, 1)[0]["image"]
    assert load(tmp_path / "clips").encode(clip[None]).shape == (1, 2, 16, 16)
