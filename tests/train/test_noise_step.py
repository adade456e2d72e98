"""Training of a noise generator: what changes, what does not, devices, learning, and its configuration."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jitted import apply, copied, init
from test_sharding import mesh_of

from vq_jax import nn, train
from vq_jax.configs import (
    GPTArchitecture,
    Losses,
    NoiseArchitecture,
    NoiseConfig,
    OptimizerConfig,
    PriorConfig,
    TrainingConfig,
)
from vq_jax.configs.serialize import from_dict, to_dict
from vq_jax.generate import sample_noise
from vq_jax.train.jit import jit_noise_step
from vq_jax.train.sharding import replicate, replicated

GRID, CLASSES = (3, 3), 8
LOSSES = Losses(adversarial_weight=1.0, adaptive=False, adversarial="non_saturating", r1_weight=0.1)


@functools.cache
def networks():
    generator, discriminator = (
        train.make_optimizer(OptimizerConfig(learning_rate=learning_rate, b1=0.5, b2=0.99), 1000)
        for learning_rate in (1e-3, 2e-3)
    )
    return {
        "model": nn.NoiseGenerator(8, GRID, 4, noise_dim=4, width=16, num_blocks=1, num_classes=CLASSES),
        "optimizer": generator,
        "discriminator_model": nn.MLPDiscriminator((64, 32), num_classes=CLASSES),
        "discriminator_optimizer": discriminator,
    }


@functools.cache
def tokenizer():
    """A model with random weights whose codes are far apart, so that a picture determines its codes."""
    width = {"channels": 16, "residual_channels": 8, "num_res_blocks": 1, "num_downsamples": 1}
    model = nn.VQModel(
        nn.ResidualEncoder(**width, latent_channels=4),
        nn.VectorQuantizer(8, 4),
        nn.ResidualDecoder(**width, out_channels=1),
    )
    variables = init(model, jax.random.key(1), np.zeros((1, 6, 6, 1), np.float32))
    codebook = jnp.asarray(np.random.default_rng(2).standard_normal((8, 4), np.float32))
    quantizer = jax.tree.map(lambda _: codebook, variables["params"]["quantizer"])
    return model, {**variables, "params": {**variables["params"], "quantizer": quantizer}}


@functools.cache
def first_state():
    return jax.jit(lambda key: train.init_noise(key, (6, 6, 1), ema=True, **networks()))(jax.random.key(0))


@functools.cache
def step_on(devices):
    model, variables = tokenizer()
    mesh = mesh_of(devices)
    options = {"losses": LOSSES, "ema_decay": 0.98, **networks()}
    step, frozen = jit_noise_step(mesh, tokenizer_model=model, **options), replicate(variables, mesh)
    return mesh, lambda state, batch, rng: step(state, batch, rng, frozen)


@functools.cache
def batch():
    codes = np.random.default_rng(0).integers(0, 8, (CLASSES, *GRID), np.int32)
    return {"codes": codes, "label": np.arange(CLASSES, dtype=np.int32)}


def run(devices, steps, state=None):
    mesh, step = step_on(devices)
    state = jax.device_put(copied(first_state() if state is None else state), replicated(mesh))
    rng, given = jax.device_put(jax.random.key(3), replicated(mesh)), train.shard_local_batch(batch(), mesh)
    for _ in range(steps):
        state, metrics = step(state, given, rng)
    return jax.device_get(state), jax.device_get(metrics)


@pytest.mark.ci
def test_a_step_changes_both_networks_and_four_devices_are_one():
    (state, metrics), (spread, spread_metrics) = run(1, 2), run(4, 2)
    before = first_state()
    assert int(state.generator.step) == int(state.discriminator.step) == 2
    for network in ("generator", "discriminator"):
        olds, news, others = (getattr(tree, network).params for tree in (before, state, spread))
        changed = [
            np.abs(old - new).max() > 1e-5
            for old, new in zip(*map(jax.tree.leaves, (olds, news)), strict=True)
        ]
        assert sum(changed) >= len(changed) - 1  # the hinge loss may leave the last bias where it is
        for new, other in zip(*map(jax.tree.leaves, (news, others)), strict=True):
            # Adam turns a gradient into its sign at first, whatever its size, and roundings with it
            np.testing.assert_allclose(new, other, atol=2e-4)
    for name, value in metrics.items():
        np.testing.assert_allclose(value, spread_metrics[name], rtol=1e-3, atol=1e-4, err_msg=name)
    weighted = metrics["adversarial_loss"] + metrics["quantizer_loss"]
    np.testing.assert_allclose(metrics["loss"], weighted, rtol=1e-5)


@pytest.mark.ci
def test_it_learns_the_grid_of_each_of_eight_classes():
    model, variables = tokenizer()
    state, metrics = run(1, 1000)
    condition = nn.Condition(jnp.asarray(batch()["label"]))
    params = {"params": state.generator.eval_params}
    keywords = {"tokenizer_model": model, "tokenizer_variables": variables}
    equal = [
        (
            sample_noise(networks()["model"], params, jax.random.key(i), condition, **keywords)
            == batch()["codes"]
        )
        for i in range(4)
    ]
    assert np.mean(equal) > 0.98  # 1 in 8 by chance
    # the discriminator cannot tell real pictures from generated ones: its loss is at its floor
    np.testing.assert_allclose(metrics["discriminator/loss"], 2.0 * np.log(2.0), atol=0.02)


def test_pictures_are_judged_by_their_label():
    """Real pictures are reconstructions, and a discriminator with classes gets the label."""
    model, variables = tokenizer()
    losses = []
    mesh, step = step_on(1)
    for shift in (0, 1):
        labels = (np.arange(CLASSES, dtype=np.int32) + shift) % CLASSES
        state = jax.device_put(copied(first_state()), replicated(mesh))
        given = train.shard_local_batch({**batch(), "label": labels}, mesh)
        losses.append(step(state, given, jax.device_put(jax.random.key(0), replicated(mesh)))[1])
    assert losses[0]["discriminator/logits_real"] != losses[1]["discriminator/logits_real"]
    pictures = apply(model, variables, batch()["codes"], method="decode")
    discriminator = first_state().discriminator
    params = {"params": discriminator.params}
    logits = apply(networks()["discriminator_model"], params, pictures, batch()["label"])
    np.testing.assert_allclose(losses[0]["discriminator/logits_real"], np.mean(logits), rtol=1e-5)


def test_the_configuration_goes_through_json():
    config = NoiseConfig("noise", tokenizer="runs/a", prior=NoiseArchitecture(width=8))
    assert from_dict(to_dict(config)) == config


@pytest.mark.parametrize(
    "fields,message",
    [
        ({"losses": Losses()}, "losses.adversarial_weight must be positive"),
        ({"losses": Losses(adversarial_weight=1.0)}, "losses.adaptive balances a reconstruction loss"),
        (
            {"losses": dataclasses.replace(LOSSES, perceptual_weight=1.0)},
            "losses.perceptual_weight has no effect",
        ),
        (
            {"losses": dataclasses.replace(LOSSES, adversarial_ramp=5)},
            "losses.adversarial_ramp has no effect",
        ),
        ({"training": TrainingConfig(accumulate=2)}, "training.accumulate must be 1"),
        ({"prior": GPTArchitecture()}, "prior must be of the class NoiseArchitecture, got GPTArchitecture"),
    ],
)
def test_what_has_no_effect_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        NoiseConfig("noise", **fields)


def test_a_plain_prior_configuration_refuses_a_noise_generator():
    with pytest.raises(ValueError, match="a PriorConfig cannot train a NoiseArchitecture"):
        PriorConfig("noise", prior=NoiseArchitecture())
