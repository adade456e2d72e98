"""Open-MAGVIT2's network: its own layers against NumPy, shapes, recomputation."""

import jax
import jax.numpy as jnp
import numpy as np
from jitted import apply, drawn

from vq_jax import nn, ops
from vq_jax.nn.backbones.magvit2_cnn import AdaptiveGroupNorm

WIDTH = {"channels": 8, "channel_multipliers": (1, 2), "num_res_blocks": 1}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def test_channels_move_into_space_row_by_row():
    x = normal(2, 3, 4, 8)
    out = np.asarray(ops.from_patches(jnp.asarray(x), 2))
    assert out.shape == (2, 6, 8, 2)
    for row in range(2):
        for column in range(2):
            first = 2 * (2 * row + column)
            np.testing.assert_array_equal(out[:, row::2, column::2], x[..., first : first + 2])
    frames = jnp.asarray(normal(1, 2, 3, 2, 16))
    assert ops.from_patches(frames, 2).shape == (1, 4, 6, 4, 2)
    np.testing.assert_array_equal(ops.from_patches(frames, 2)[:, 1::2, ::2, 1::2], frames[..., 10:12])


def test_features_are_scaled_and_shifted_by_the_latents_statistics():
    x, latents = normal(2, 4, 4, 64), normal(2, 3, 2, 5, seed=1)
    module = AdaptiveGroupNorm()
    variables = drawn(module, x, latents, std=1.0)
    groups = x.reshape(2, 16, 32, 2).astype(np.float64)
    mean, variance = (f(groups, axis=(1, 3), keepdims=True) for f in (np.mean, np.var))
    plain = ((groups - mean) / np.sqrt(variance + 1e-6)).reshape(x.shape)
    flat = latents.reshape(2, 6, 5)
    params = jax.tree.map(np.asarray, variables["params"])
    scale = np.sqrt(flat.var(1, ddof=1) + 1e-6) @ params["gamma"]["kernel"] + params["gamma"]["bias"]
    shift = flat.mean(1) @ params["beta"]["kernel"] + params["beta"]["bias"]
    expected = plain * scale[:, None, None] + shift[:, None, None]
    np.testing.assert_allclose(apply(module, variables, x, latents), expected, rtol=1e-4, atol=1e-4)


def test_a_single_code_has_a_deviation_of_zero():
    module, x, latents = AdaptiveGroupNorm(), normal(2, 1, 1, 64), normal(2, 1, 1, 5)
    assert np.isfinite(apply(module, drawn(module, x, latents), x, latents)).all()


def test_recomputation_changes_no_result():
    x = normal(1, 4, 4, 3)
    plain, again = (
        nn.VQModel(
            nn.MAGVIT2Encoder(**WIDTH, latent_channels=4, remat=remat),
            nn.FSQ((5, 5, 3, 3)),
            nn.MAGVIT2Decoder(**WIDTH, remat=remat),
        )
        for remat in (False, True)
    )
    variables = drawn(plain, x)
    assert jax.tree.structure(variables) == jax.tree.structure(drawn(again, x))
    out = apply(plain, variables, x)
    assert out.reconstruction.shape == x.shape and out.indices.shape == (1, 2, 2)
    np.testing.assert_allclose(out.reconstruction, apply(again, variables, x).reconstruction, atol=1e-5)
