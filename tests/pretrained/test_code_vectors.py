"""The vectors of single codes: added up, they are the latents of all codes of a position."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jitted import init
from made import tokenizer_config

from vq_jax.configs import GroupedQuantizerConfig, ResidualQuantizerConfig, VectorQuantizerConfig
from vq_jax.pretrained.build import build_model, image_shape
from vq_jax.pretrained.code_vectors import code_vectors
from vq_jax.pretrained.tokenizer import Tokenizer

INNER = VectorQuantizerConfig(codebook_size=8, code_dim=3)


@pytest.mark.parametrize(
    "quantizer",
    [
        INNER,
        GroupedQuantizerConfig(num_groups=2, inner=INNER),
        ResidualQuantizerConfig(num_stages=2, inner=INNER),
    ],
)
def test_a_latent_is_the_sum_of_what_its_codes_add_but_for_a_constant(quantizer):
    config = tokenizer_config()
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, quantizer=quantizer))
    model = build_model(config)
    variables = init(model, jax.random.key(0), np.zeros((1, *image_shape(config)), np.float32))
    tokenizer = Tokenizer(model, variables, config, 0)
    vectors = np.asarray(jax.jit(lambda: code_vectors(tokenizer))())
    specs = tokenizer.code_specs(8)
    depth = specs.codes_per_position
    assert vectors.shape == (depth, 8, quantizer.latent_channels)
    codes = np.random.default_rng(0).integers(0, 8, (1, *specs.array_shape), np.int32)
    latents = np.asarray(model.apply(variables, jnp.asarray(codes), method="lookup")).reshape(4, -1)
    summed = sum(vectors[q][codes.reshape(4, depth)[:, q]] for q in range(depth))
    rest = latents - summed
    np.testing.assert_allclose(rest, np.broadcast_to(rest[:1], rest.shape), atol=1e-6)
    assert np.ptp(latents, axis=0).min() > 0
