"""The encoder and decoder on patches."""

import jax
import numpy as np
import pytest
from jitted import apply, init

from vq_jax import nn, ops

SMALL = {"channels": 8, "residual_channels": 4, "num_res_blocks": 1}


def test_untrained_networks_project_patches_on_the_latents_and_back(getkey):
    images = np.random.default_rng(0).standard_normal((2, 8, 12, 3), np.float32)
    encoder = nn.PatchEncoder(patch_size=2, latent_channels=12, **SMALL)
    variables = init(encoder, getkey(), images)
    latents = apply(encoder, variables, images)
    assert latents.shape == (2, 4, 6, 12) and encoder.strides(2) == (2, 2)
    basis = np.asarray(variables["params"]["linear"]["kernel"])
    np.testing.assert_allclose(basis @ basis.T, np.eye(12), atol=1e-5)  # orthogonal: float32 sums of 12
    # 12 values a patch, 12 channels a latent: nothing is lost.
    back = ops.from_patches(latents @ basis.T, 2)
    np.testing.assert_allclose(back, images, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 6, 2), (1, 5, 7, 3), (1, 4, 4, 6, 1)])
def test_any_number_of_axes_and_sizes_that_are_no_multiple(shape, getkey):
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    encoder = nn.PatchEncoder(patch_size=2, latent_channels=5, **SMALL)
    decoder = nn.PatchDecoder(patch_size=2, out_channels=shape[-1], **SMALL)
    latents = apply(encoder, init(encoder, getkey(), images), images)
    assert latents.shape == (1, *(-(-length // 2) for length in shape[1:-1]), 5)
    decoded = apply(decoder, init(decoder, getkey(), latents), latents)
    assert decoded.shape == (1, *(-(-length // 2) * 2 for length in shape[1:-1]), shape[-1])


def test_all_parameters_learn_and_the_surroundings_of_a_patch_are_seen(getkey):
    images = np.random.default_rng(0).standard_normal((1, 8, 8, 1), np.float32)
    encoder = nn.PatchEncoder(patch_size=2, latent_channels=3, **SMALL)
    decoder = nn.PatchDecoder(patch_size=2, out_channels=1, **SMALL)
    latents = np.random.default_rng(1).standard_normal((1, 4, 4, 3), np.float32)
    for module, inputs in ((encoder, images), (decoder, latents)):
        variables = jax.tree.map(lambda leaf: leaf + 0.05, init(module, getkey(), inputs))
        loss = jax.jit(lambda v, x, m=module: (m.apply(v, x)[0, 0, 0] ** 2).sum())
        to_params, to_inputs = jax.jit(jax.grad(loss, argnums=(0, 1)))(variables, inputs)
        assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(to_params))
        assert np.abs(to_inputs[0, -4 if module is encoder else -3, 0]).max() > 0
