"""What a caller of the quantizers or of the steps has forgotten is said, and costs no codebook."""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from library_cases import BYTES, KEY, floats

from vq_jax import nn, train
from vq_jax.nn.quantizers import base

QUANTIZERS = {
    "ema": nn.VectorQuantizerEMA(8, 4, revive_threshold=0.5, entropy_weight=0.1),
    "gradient": nn.VectorQuantizer(8, 4, revive_threshold=0.5, entropy_weight=0.1),
    "fsq": nn.FSQ((3,) * 4),
    "lfq": nn.LFQ(4, batch_entropy="full"),
    "gumbel": nn.GumbelQuantizer(8, 4),
    "random_projection": nn.RandomProjectionQuantizer(8, 4),
}
every = pytest.mark.parametrize("name", QUANTIZERS)
codebooks = pytest.mark.parametrize("name", ["ema", "gradient"])


@functools.cache
def variables(name):
    return jax.jit(QUANTIZERS[name].init)(KEY, floats(6, 4))


def trained(name, latents, **options):
    options = {"mutable": ["codebook"], "rngs": {"quantizer": KEY}, **options}
    return QUANTIZERS[name].apply(variables(name), latents, train=True, **options)


@every
def test_integer_latents_are_refused(name):
    with pytest.raises(ValueError, match="expected float latents, got int32: give it the encoder's outputs"):
        QUANTIZERS[name].apply(variables(name), jnp.zeros((6, 4), jnp.int32))


@every
def test_an_empty_batch_changes_nothing_and_is_finite(name):
    out, updates = trained(name, jnp.zeros((0, 4)))
    jax.tree.map(np.testing.assert_array_equal, updates, {k: variables(name)[k] for k in updates})
    assert out.quantized.shape == (0, 4) and out.indices.shape == (0,)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((out.loss, out.metrics)))


@codebooks
def test_a_missing_key_is_named(name):
    with pytest.raises(ValueError, match=r'replaces dead codes .* give rngs=\{"quantizer": key\} to apply'):
        jax.eval_shape(lambda: trained(name, jnp.zeros((6, 4)), rngs={}))


@codebooks
def test_training_that_changes_no_codebook_is_said_once(name, caplog):
    base._say_unchanged.cache_clear()
    with caplog.at_level(logging.WARNING, "vq_jax"):
        for _ in range(2):
            jax.eval_shape(lambda: trained(name, jnp.zeros((6, 4)), mutable=False).loss)
    assert [record.getMessage().split()[0] for record in caplog.records] == [type(QUANTIZERS[name]).__name__]
    assert 'mutable=["codebook"]' in caplog.text


class OwnDecoder(linen.Module):
    @linen.compact
    def __call__(self, latents, *, train=False):
        return linen.Dense(3, name="out")(linen.Dense(4, name="first")(latents))


class NestedDecoder(linen.Module):
    last_layer = "inner/out"

    @linen.compact
    def __call__(self, latents, *, train=False):
        return OwnDecoder(name="inner")(latents)


class MisnamedDecoder(OwnDecoder):
    last_layer = "conv_out"


def step_with(decoder, **fields):
    optimizer, judge = train.make_optimizer(train.OptimizerConfig(), 9), nn.PatchDiscriminator(4, 1)
    model = nn.VQModel(OwnEncoder(), nn.FSQ((3,) * 4), decoder)
    networks = {"model": model, "optimizer": optimizer}

    def step(rng, images):
        state = train.init_state(
            rng,
            images.shape[1:],
            discriminator_model=judge,
            discriminator_optimizer=optimizer,
            **networks,
        )
        losses = train.Losses(adversarial_weight=0.1, **fields)
        given = {"losses": losses, "discriminator_model": judge, **networks}
        return train.generator_step(state.generator, state.discriminator, {"image": images}, rng, **given)

    return jax.eval_shape(step, KEY, BYTES)


class OwnEncoder(linen.Module):
    @linen.compact
    def __call__(self, images, *, train=False):
        return linen.Dense(4)(images)


@pytest.mark.parametrize("decoder, got", [(OwnDecoder, "None"), (MisnamedDecoder, "'conv_out'")])
def test_a_decoder_without_its_last_layer_is_refused_by_the_adaptive_weight_alone(decoder, got):
    message = rf"{decoder.__name__}.last_layer, the name of the last of the decoder's layers \(first, out\)"
    with pytest.raises(ValueError, match=rf"{message} with a kernel, got {got}: define it, or set"):
        step_with(decoder())
    step_with(decoder(), adaptive=False)


def test_a_last_layer_may_be_nested():
    step_with(NestedDecoder())
