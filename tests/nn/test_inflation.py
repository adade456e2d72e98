"""Weights of models of pictures in causal models of video."""

import jax
import numpy as np
import pytest
from jitted import apply, drawn

from vq_jax import nn
from vq_jax.pretrained.build import create_model

SMALL = {"channels": 8, "num_res_blocks": 1, "code_dim": 6, "codebook_size": 16}
WIDER = {"channels": 8, "num_res_blocks": 1, "channel_multipliers": (1, 2, 2), "code_dim": 6}
PAIRS = {
    "vqvae-patches": (("vqvae-patches", SMALL), ("vqvae-video", SMALL)),
    "frame-wise": (("vqvae-video", SMALL | {"frame_stride": 1, "time_width": 1}), ("vqvae-video", SMALL)),
    "magvit2-video": (
        ("magvit2-video", WIDER | {"time_width": 1, "time_levels": ()}),
        ("magvit2-video", WIDER | {"time_levels": (0, 1)}),
    ),
}


def pictures(count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, 8, 12, 3)).astype(np.float32)


@pytest.mark.parametrize(
    "pair", ["vqvae-patches", "frame-wise", pytest.param("magvit2-video", marks=pytest.mark.ci)]
)
def test_one_frame_is_encoded_and_decoded_as_by_the_model_of_pictures(pair):
    flat, deep = (create_model(name, quantizer="ema", **fields) for name, fields in PAIRS[pair])
    given = pictures(2)
    variables = drawn(flat, given, std=0.12)
    inflated = nn.inflate(variables, jax.eval_shape(deep.init, jax.random.key(0), given))
    wanted, found = apply(flat, variables, given), apply(deep, inflated, given)
    np.testing.assert_array_equal(found.indices, wanted.indices)
    for part in ("latents", "reconstruction"):
        np.testing.assert_allclose(getattr(found, part), getattr(wanted, part), rtol=0, atol=1e-5)


def test_a_clip_that_stands_still_is_reconstructed_like_its_picture():
    flat, deep = (create_model(name, **fields) for name, fields in PAIRS["vqvae-patches"])
    given = pictures(1)
    variables = drawn(flat, given, std=0.12)
    clip = np.repeat(given[:, None], 9, axis=1)
    inflated = nn.inflate(variables, jax.eval_shape(deep.init, jax.random.key(0), clip))
    found, wanted = apply(deep, inflated, clip).reconstruction, apply(flat, variables, given).reconstruction
    np.testing.assert_allclose(found, np.repeat(wanted[:, None], 9, axis=1), atol=1e-5)


@pytest.mark.parametrize(
    "changed, message",
    [
        (
            {"channels": 16},
            r"decoder/.* has the shape \(.*\) in the model of pictures, and \(.*\) in that of",
        ),
        ({"code_dim": 12}, "codebook/quantizer/.* has the shape"),
        ({"num_res_blocks": 2}, "only the model of video has params/decoder/blocks/Conv_2"),
    ],
)
def test_other_networks_are_refused(changed, message):
    def shapes(name, **fields):
        return jax.eval_shape(create_model(name, **SMALL | fields).init, jax.random.key(0), pictures(1))

    flat = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes("vqvae-patches"))
    with pytest.raises(ValueError, match=message):
        nn.inflate(flat, shapes("vqvae-video", **changed))
