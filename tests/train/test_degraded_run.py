"""A tokenizer that learns to restore degraded pictures."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from runs import rows_of, small_config

from vq_jax.configs import MLPVQVAE, GaussianNoiseConfig, MixConfig
from vq_jax.evaluate import psnr
from vq_jax.runs.grids import comparison_grid
from vq_jax.train import train
from vq_jax.train.tasks.base import open_task
from vq_jax.train.tasks.tokenizer import abstract_inputs

NOISE = GaussianNoiseConfig((60.0, 60.0))


def degraded_config(degradation=NOISE, **training):
    config = small_config(**training)
    return dataclasses.replace(config, data=dataclasses.replace(config.data, degradation=degradation))


def test_a_step_is_planned_with_the_target_beside_the_picture(tmp_path):
    task = open_task(degraded_config(), epath.Path(tmp_path / "run"))
    pictures, *_ = abstract_inputs(task.config, task.mesh)
    with task.batches(0) as batches:
        batch = next(batches)
    assert pictures.keys() == {"image", "target"} <= batch.keys()
    assert all(batch[name].shape == pictures[name].shape for name in pictures)
    assert (np.asarray(batch["image"]) != np.asarray(batch["target"])).any()


ONE_SIZE = MLPVQVAE(image_channels=3, image_size=(16, 16), hidden_features=(8,))


@pytest.mark.parametrize("model", [small_config().model, ONE_SIZE], ids=["any-size", "one-size"])
def test_pictures_shown_are_degraded_once_for_all(model, tmp_path):
    config = dataclasses.replace(degraded_config(), model=model)
    first, again = (open_task(config, epath.Path(tmp_path / "run")).validation for _ in range(2))
    assert len(first.given) == len(first.pictures)
    for given, same, picture in zip(first.given, again.given, first.pictures, strict=True):
        np.testing.assert_array_equal(given, same)
        assert 30 < (given.astype(float) - picture).std() < 70


@pytest.mark.ci
def test_figures_compare_with_the_clean_pictures_and_the_grid_has_three_rows(tmp_path):
    task = open_task(degraded_config(), epath.Path(tmp_path / "run"))
    state = task.init_state()
    figures, _ = task.validation.figures(state.generator, quantize=True)
    reconstruct, clean = [], []
    for batch in task.validation._batches:
        output = task.model.apply(
            {"params": state.generator.eval_params, "codebook": state.generator.codebook},
            jnp.asarray(batch["image"][batch["valid"]], jnp.float32) / 127.5 - 1,
        )
        reconstruct += list(np.asarray(jnp.clip(output.reconstruction, -1, 1)))
        clean += list(batch["target"][batch["valid"]])
    errors = [np.mean(np.square((a + 1) / 2 - b / 255)) for a, b in zip(reconstruct, clean, strict=True)]
    assert figures["psnr"] == pytest.approx(np.mean(-10 * np.log10(errors)), abs=1e-3)
    decoded = task.validation.reconstructions(state.generator, quantize=True)
    assert psnr(task.validation.given[0], task.validation.pictures[0]) < 20
    shown = comparison_grid(task.validation.given, decoded, task.validation.pictures)
    np.testing.assert_array_equal(task.draw(state, 1), shown)


@pytest.mark.ci
def test_a_degraded_run_resumes_to_the_same_bits(tmp_path):
    config = degraded_config(MixConfig(), steps=8)
    train(config, tmp_path / "whole")
    short = dataclasses.replace(config, training=dataclasses.replace(config.training, steps=4))
    train(short, tmp_path / "parts")
    train(config, tmp_path / "parts")
    whole = {row["step"]: row for row in rows_of(tmp_path / "whole")}
    parts = {row["step"]: row for row in rows_of(tmp_path / "parts")}
    assert whole.keys() == parts.keys() and all(parts[step] == whole[step] for step in whole if step > 4)
    assert "what the model was given" in (tmp_path / "whole" / "report.md").read_text()
