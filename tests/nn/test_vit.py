"""The vision transformers of BSQ-ViT against NumPy: what every architecture does is in tests/configs."""

import operator

import jax
import numpy as np
import pytest
from jitted import apply, drawn
from scipy.special import erf, softmax

from vq_jax import nn
from vq_jax.configs import ViTVQ

SMALL = {"patch_size": 2, "width": 8, "num_layers": 2, "num_heads": 2, "mlp_features": 12}


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def dense(x, params):
    return x @ params["kernel"] + params.get("bias", 0)


def norm(x, params):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt(centred.var(-1, keepdims=True) + 1e-5) * params["scale"] + params["bias"]


def transformed(x, params, num_layers):
    """Tokens [B, T, E] after positions, blocks and both normalisations."""
    x = norm(x + params["positions"], params["norm_in"])
    for number in range(num_layers):
        block = jax.tree.map(operator.itemgetter(number), params["blocks"])
        qkv = dense(norm(x, block["attention_norm"]), block["qkv"])
        q, k, v = (part.reshape(*x.shape[:2], 2, -1) for part in np.split(qkv, 3, axis=-1))
        weights = softmax(np.einsum("bqhf,bkhf->bhqk", q, k) / np.sqrt(q.shape[-1]), axis=-1)
        x = x + dense(np.einsum("bhqk,bkhf->bqhf", weights, v).reshape(x.shape), block["attention_out"])
        hidden = dense(norm(x, block["mlp_norm"]), block["up"])
        x = x + dense(hidden * (1 + erf(hidden / np.sqrt(2))) / 2, block["down"])
    return norm(x, params["norm_out"])


def patches(pictures):
    batch, height, width, channels = pictures.shape
    cut = pictures.reshape(batch, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    return cut.reshape(batch, (height // 2) * (width // 2), 4 * channels)


def test_encoder_and_decoder_are_those_of_the_formulas():
    encoder = nn.ViTEncoder(**SMALL, latent_channels=3)
    pictures = normal(2, 6, 4, 3)
    variables = drawn(encoder, pictures, std=0.5)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    x = dense(patches(pictures), params["embed"])
    latents = dense(transformed(x, params["layers"], 2), params["out"]).reshape(2, 3, 2, 3)
    np.testing.assert_allclose(apply(encoder, variables, pictures), latents, atol=1e-4)

    decoder = nn.ViTDecoder(image_shape=(6, 4, 3), **SMALL, head_features=10)
    latents = normal(2, 3, 2, 3)
    variables = drawn(decoder, latents, std=0.5)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    x = transformed(dense(latents.reshape(2, 6, 3), params["embed"]), params["layers"], 2)
    expected = dense(np.tanh(dense(x, params["hidden"])), params["out"])
    found = apply(decoder, variables, latents)
    assert found.shape == (2, 6, 4, 3)
    np.testing.assert_allclose(patches(np.asarray(found)), expected, atol=1e-4)


def test_recomputation_changes_no_result_and_no_parameter():
    pictures = normal(1, 4, 4, 3)
    plain, again = (nn.ViTEncoder(**SMALL, latent_channels=3, remat=remat) for remat in (False, True))
    variables = drawn(plain, pictures)
    assert jax.tree.map(np.shape, variables) == jax.tree.map(np.shape, drawn(again, pictures))
    np.testing.assert_allclose(
        apply(plain, variables, pictures), apply(again, variables, pictures), atol=1e-6
    )


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"num_heads": 5}, "model.width = 768 must be a multiple of model.num_heads = 5"),
        ({"image_size": (256, 252)}, r"model.image_size = \(256, 252\) must be .* model.patch_size = 8"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ViTVQ(**fields)


def test_pictures_of_another_size_are_refused_before_training():
    with pytest.raises(ValueError, match=r"model.image_size = \(256, 256\) must be the pictures' size.*64"):
        ViTVQ().check_image_size(64)
