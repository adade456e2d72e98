"""A VQ-GAN that computes in bfloat16: it trains, and its codes are those of float32."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from test_sharding import mesh_of

from vq_jax import ops
from vq_jax.architectures import ResidualVQVAE
from vq_jax.config import DataConfig, DiscriminatorConfig, Losses, OptimizerConfig
from vq_jax.data import open_source, train_batches
from vq_jax.data import test_batches as held_out_batches
from vq_jax.train import init_state, make_optimizer, put_batch
from vq_jax.train.sharding import jit_train_step

STEPS, SIZE = 100, 16


def test_codes_after_training_in_bfloat16_are_those_of_float32():
    model = ResidualVQVAE(
        channels=16,
        residual_channels=8,
        upsampling="nearest",
        codebook_size=32,
        code_dim=8,
        revive_threshold=0.03,
    )
    discriminator = DiscriminatorConfig(channels=8, num_layers=1)
    networks = {
        "model": model.build(dtype=jnp.bfloat16),
        "optimizer": make_optimizer(OptimizerConfig(learning_rate=2e-3, b1=0.5), STEPS),
        "discriminator_model": discriminator.build(jnp.bfloat16),
        "discriminator_optimizer": make_optimizer(discriminator.optimizer, STEPS),
    }
    losses = Losses(reconstruction="l1", adversarial_weight=0.5, adversarial_start=50, adversarial_ramp=25)
    data = DataConfig(image_size=SIZE, batch_size=8, crops_per_picture=64, test_limit=64)
    mesh, history = mesh_of(1), []
    state = jax.jit(lambda key: init_state(key, (SIZE, SIZE, 3), **networks))(jax.random.key(0))
    step = jit_train_step(mesh, losses=losses, **networks)
    with train_batches(open_source("photos", "train", data, 3), data, seed=0) as batches:
        for _ in range(STEPS):
            inputs = put_batch({"image": next(batches)["image"]}, mesh)
            state, metrics = step(state, inputs, jax.random.key(1), None)
            history.append(metrics)
    for number, metrics in enumerate(jax.device_get(history)):
        assert all(np.isfinite(value) for value in metrics.values()), number
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(state.generator.params))
    (batch,) = held_out_batches(open_source("photos", "test", data, 3), data, batch_size=64, limit=64)
    images = ops.normalize_pictures(jnp.asarray(batch["image"]))
    variables = {"params": state.generator.params, "codebook": state.generator.codebook}
    fast, exact = (
        np.asarray(
            jax.jit(functools.partial(model.build(dtype=dtype).apply, method="encode"))(variables, images)
        )
        for dtype in (jnp.bfloat16, jnp.float32)
    )
    assert len(np.unique(exact)) > 10
    # A latent between two codes falls to the other one now and then: 8 bits of mantissa, seven layers.
    assert np.mean(fast == exact) >= 0.99
