"""Tokenizers that move the last frame: steps on several devices, and a run with a discriminator."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh

from vq_jax import load
from vq_jax.configs import (
    DataConfig,
    DiscriminatorConfig,
    ExperimentConfig,
    Losses,
    MotionVQVAE,
    OptimizerConfig,
    TrainingConfig,
    VectorQuantizerEMAConfig,
)
from vq_jax.data import open_source
from vq_jax.evaluate import psnr
from vq_jax.train import jit_train_step, make_optimizer, shard_local_batch, train
from vq_jax.train.sharding import AXES, init_state_sharded
from vq_jax.train.state import init_state

SHAPE = (4, 16, 16, 1)
MODEL = MotionVQVAE(
    image_channels=1,
    channels=8,
    residual_channels=4,
    num_res_blocks=1,
    quantizer=VectorQuantizerEMAConfig(codebook_size=16, code_dim=4),
)


def mesh_of(devices, axis_type=AxisType.Auto):
    grid = np.array(jax.devices()[:devices]).reshape(devices, 1)
    return Mesh(grid, AXES, axis_types=(axis_type,) * 2)


@functools.cache
def stepped(devices):
    """The state after three steps on clips that move, and the metrics of each."""
    networks = {"model": MODEL.build(), "optimizer": make_optimizer(OptimizerConfig(learning_rate=1e-3), 100)}
    mesh = mesh_of(devices)
    state = init_state_sharded(jax.random.key(0), SHAPE, mesh, **networks)
    step = jit_train_step(mesh, losses=Losses(), **networks)
    first = np.random.default_rng(0).integers(0, 256, (8, *SHAPE[1:]), np.uint8)
    clips = np.stack([np.roll(first, frame, axis=(1, 2)) for frame in range(SHAPE[0])], axis=1)
    history = []
    for _ in range(3):
        state, metrics = step(state, shard_local_batch({"image": clips}, mesh), jax.random.key(1), None)
        history.append(jax.device_get(metrics))
    return state, history


@pytest.mark.ci
def test_steps_on_four_devices_are_those_of_one():
    (_, expected), (_, found) = stepped(1), stepped(4)
    for one, four in zip(expected, found, strict=True):
        for name in one:  # sums over the batch in another order
            np.testing.assert_allclose(one[name], four[name], rtol=1e-4, atol=1e-5, err_msg=name)
    assert expected[-1]["loss"] < expected[0]["loss"]


@pytest.mark.ci
def test_a_step_is_taken_over_a_mesh_whose_axes_are_explicit():
    networks = {"model": MODEL.build(), "optimizer": make_optimizer(OptimizerConfig(learning_rate=1e-3), 100)}
    mesh = mesh_of(4, AxisType.Explicit)
    state = jax.eval_shape(lambda: init_state(jax.random.key(0), SHAPE, **networks))
    batch = {"image": np.zeros((8, *SHAPE), np.uint8)}
    step = jit_train_step(mesh, losses=Losses(), **networks)
    with jax.set_mesh(mesh):
        new, _ = step.eval_shape(state, batch, jax.eval_shape(lambda: jax.random.key(1)), None)
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, state)


def run_config(**training):
    return ExperimentConfig(
        name="motion",
        model=MODEL,
        data=DataConfig(source="moving-fashion", frames=4, image_size=32, batch_size=4, test_limit=8),
        losses=Losses(adversarial_weight=0.1, disc_start=1),
        discriminator=DiscriminatorConfig(channels=4, num_layers=1, frames=2, by_frame=True),
        training=TrainingConfig(
            **{"steps": 3, "log_every": 1, "eval_every": 3, "image_every": 3, "save_every": 3, **training}
        ),
    )


@pytest.mark.ci
def test_an_interrupted_run_ends_with_the_same_weights_and_its_tokenizer_is_used(tmp_path):
    def stop(step, row):
        if step == 2:
            raise KeyboardInterrupt

    train(run_config(), tmp_path / "whole")
    config = run_config(save_every=1)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "again", callbacks=[stop])
    assert train(config, tmp_path / "again").step == 3
    tokenizer, again = load(tmp_path / "whole"), load(tmp_path / "again")
    jax.tree.map(np.testing.assert_array_equal, tokenizer.variables, again.variables)

    clip = open_source("moving-fashion", "test", run_config().data, 1)[0]["image"][:, :32, :32]
    codes = tokenizer.encode(clip)
    assert codes.shape == (4, 4, 4, 2)
    found = tokenizer.reconstruct(clip)
    np.testing.assert_array_equal(tokenizer.decode(codes[None])[0], found)
    assert psnr(found, clip) > 5  # after three steps it is a picture at all
