"""Networks that move the last decoded frame: what a frame sees, clips in parts, the loop, motion as codes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jitted import apply, drawn

from vq_jax import nn
from vq_jax.configs import (
    ExperimentConfig,
    MotionVQVAE,
    ResidualQuantizerConfig,
    SimVQConfig,
    VectorQuantizerEMAConfig,
)
from vq_jax.configs.quantizers import FSQConfig
from vq_jax.errors import UserError
from vq_jax.pretrained.tokenizer import Tokenizer

QUANTIZER = ResidualQuantizerConfig(
    num_stages=2, inner=VectorQuantizerEMAConfig(codebook_size=16, code_dim=6)
)
SMALL = {"patch_size": 4, "radius": 2, "channels": 8, "residual_channels": 4, "num_res_blocks": 1}


def clips(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


@functools.cache
def made(quantizer=QUANTIZER):
    """A small model, random variables, and clips of 13 frames."""
    model = MotionVQVAE(quantizer=quantizer, **SMALL).build()
    given = clips(2, 13, 8, 12, 3)
    return model, drawn(model, given, std=0.15), given


def test_what_comes_later_changes_no_bit_of_codes_and_frames():
    model, variables, given = made()
    out = apply(model, variables, given)
    assert out.indices.shape == (2, 13, 2, 3, 3) and out.reconstruction.shape == given.shape
    assert model.code_specs(given.shape[1:]) == nn.CodeSpec((13, 2, 3), 25, 3)
    other = given.copy()
    other[:, 9:] = clips(2, 4, 8, 12, 3, seed=1)
    changed = apply(model, variables, other)
    np.testing.assert_array_equal(out.indices[:, :9], changed.indices[:, :9])
    np.testing.assert_array_equal(out.reconstruction[:, :9], changed.reconstruction[:, :9])
    assert np.abs(out.reconstruction - changed.reconstruction)[:, 9].max() > 1e-3
    # And a frame sees the ones before.
    other = given.copy()
    other[:, 0] = 0.5
    past = np.abs(np.asarray(apply(model, variables, other).latents - out.latents)).max((0, 2, 3, 4))
    assert np.all(past > 1e-4)


def test_parts_of_a_clip_equal_the_whole():
    model, variables, _ = made()
    given = clips(1, 121, 8, 8, 3)
    codes = np.asarray(apply(model, variables, given, method="encode"))
    frames = apply(model, variables, codes, method="decode")

    def in_parts(x, method):
        stream, parts = {}, []
        for first, last in ((0, 1), (1, 41), (41, 81), (81, 121)):
            run = {"mutable": ("stream",), "method": method}
            part, stream = apply(model, {**variables, **stream}, x[:, first:last], **run)
            parts.append(part)
        return np.concatenate(parts, axis=1)

    np.testing.assert_array_equal(in_parts(given, "encode"), codes)
    np.testing.assert_allclose(in_parts(codes, "decode"), frames, rtol=0, atol=1e-5 * np.abs(frames).max())


def test_a_picture_is_a_clip_of_one_frame_and_sides_are_filled_up():
    model, variables, given = made()
    of_clip = apply(model, variables, given[:, :1])
    of_picture = apply(model, variables, given[:, 0])
    assert of_picture.indices.shape == (2, 2, 3, 3)
    np.testing.assert_array_equal(of_picture.indices, of_clip.indices[:, 0])
    np.testing.assert_allclose(of_picture.reconstruction, of_clip.reconstruction[:, 0], atol=1e-5)
    np.testing.assert_array_equal(of_picture.indices[..., 0], 12)  # no motion: there is nothing to move
    assert model.padded_lengths((5, 7, 12)) == (5, 8, 12) and model.strides(3) == (1, 4, 4)
    short = np.pad(given[:, :, :7], [(0, 0), (0, 0), (0, 1), (0, 0), (0, 0)], mode="edge")
    encoded = [apply(model, variables, x, method="encode") for x in (given[:, :, :7], short)]
    np.testing.assert_array_equal(*encoded)


@pytest.mark.parametrize("quantizer", [QUANTIZER, FSQConfig(levels=(3, 3, 3))])
def test_the_loop_the_forward_pass_and_the_codes_agree(quantizer):
    model, variables, given = made(quantizer)
    out = apply(model, variables, given)
    codes = apply(model, variables, given, method="encode")
    np.testing.assert_array_equal(codes, out.indices)
    decoded = apply(model, variables, codes, method="decode")
    scale = np.abs(decoded).max()  # far above 1 with random weights
    np.testing.assert_allclose(decoded, out.reconstruction, rtol=0, atol=1e-5 * scale)
    # In training all frames are decoded at once, each from the one before it as the loop made it.
    trained = apply(model, variables, given, train=True)
    np.testing.assert_allclose(trained.reconstruction, out.reconstruction, rtol=0, atol=1e-5 * scale)
    # Each frame is the decoder's step from the one before.
    vectors = apply(model, variables, codes, method="lookup")
    frame = apply(
        model,
        variables,
        vectors[:, 4],
        np.clip(decoded[:, 3], -1, 1),
        method=lambda model, *inputs: model.decoder.step(*inputs),
    )
    np.testing.assert_allclose(frame, decoded[:, 4], rtol=0, atol=1e-5 * scale)


def test_gradients_pass_through_a_frame_and_not_to_those_before_it():
    model, variables, given = made()

    def error(images, frame):
        out = model.apply(variables, images, train=True)
        return jnp.sum(jnp.square(out.reconstruction[:, frame]))

    gradient = np.asarray(jax.jit(jax.grad(error), static_argnums=1)(given, 5))
    assert np.abs(gradient[:, 5]).max() > 1e-3
    assert not np.any(np.delete(gradient, 5, axis=1))


@pytest.mark.ci
def test_in_bfloat16_frames_stay_float32_and_near_those_of_float32():
    exact, variables, given = made()
    model = MotionVQVAE(quantizer=QUANTIZER, **SMALL).build(dtype=jnp.bfloat16)
    codes = apply(exact, variables, given, method="encode")
    found = apply(model, variables, np.asarray(codes), method="decode")
    wanted = np.asarray(apply(exact, variables, np.asarray(codes), method="decode"))
    assert found.dtype == jnp.float32
    # Eight bits a number, over the layers of one frame; later ones start from what those before have made.
    np.testing.assert_allclose(found[:, 0], wanted[:, 0], rtol=0, atol=0.05 * np.abs(wanted[:, 0]).max())
    for train in (False, True):
        out = apply(model, variables, given, train=train)
        assert out.latents.dtype == jnp.bfloat16 and out.reconstruction.dtype == jnp.float32


def test_what_moves_is_coded_as_motion_and_the_last_frame_moved():
    model = MotionVQVAE(image_channels=1, quantizer=QUANTIZER, **SMALL | {"radius": 3}).build()
    given = np.full((1, 4, 16, 16, 1), -1, np.float32)
    given[0, 0, 4:9, 3:8, 0] = clips(5, 5)
    for frame in range(1, 4):
        given[0, frame] = np.roll(given[0, frame - 1], (1, 2), axis=(0, 1))
    # With vectors of zero nothing is added, so that the first frame has to be given to the decoder.
    variables = jax.tree.map(jnp.zeros_like, drawn(model, given))

    def rolled(model, frames, first):
        previous, codes = first, []
        for frame in frames:
            latents = model.encoder(frame, previous)
            quantized = model.quantizer(latents)
            previous = model.decoder.step(quantized.quantized, previous)
            codes.append(quantized.indices[..., 0])
        return previous, codes

    frames = jnp.asarray(given).swapaxes(0, 1)
    last, codes = model.apply(variables, frames[1:], frames[0], method=rolled)
    np.testing.assert_allclose(last, given[:, 3], atol=1e-6)
    assert all(code[0, 1, 1] == (3 - 1) * 7 + 3 - 2 for code in codes)  # from one row above, two to the left


def test_motion_and_the_other_codes_have_their_own_vectors():
    quantizer = nn.MotionQuantizer(nn.FSQ((3, 3)), 2)
    z = np.array([[[-2.4, 1.6, 0.9, -0.2], [7.0, 0.4, -0.9, 0.1]]], np.float32)
    out = apply(quantizer, {}, z)
    np.testing.assert_array_equal(out.quantized[..., :2], [[[-2, 2], [2, 0]]])
    np.testing.assert_array_equal(out.indices[..., 0], [[4, 22]])
    assert quantizer.code_spec((2, 4)) == nn.CodeSpec((2,), 25, 2)
    found = apply(quantizer, {}, np.asarray(out.indices), method="lookup")
    np.testing.assert_allclose(found, out.quantized, atol=1e-6)
    # A code above those of motion, which a prior may draw, stands for the last of them.
    large = nn.MotionQuantizer(nn.FSQ((8, 8)), 2)
    assert large.code_spec((2, 4)).codebook_size == 64
    beyond = apply(large, {}, np.array([[[63, 0], [24, 0]]], np.int32), method="lookup")
    np.testing.assert_array_equal(beyond[0, 0], beyond[0, 1])
    with pytest.raises(ValueError, match="MotionQuantizer expected 2 codes per position"):
        quantizer.apply({}, jnp.zeros((1, 2, 3), jnp.int32), method="lookup")


def test_the_first_stages_of_the_other_codes_decode_alone():
    model, variables, given = made()
    assert model.num_stages == 2
    codes = np.asarray(apply(model, variables, given, method="encode"))
    changed = codes.copy()
    changed[..., 2] = 0
    first, second = (apply(model, variables, each, stages=1, method="decode") for each in (codes, changed))
    np.testing.assert_array_equal(first, second)


def test_codes_beside_motion_are_neither_left_out_nor_folded():
    config = ExperimentConfig(
        name="motion", model=MotionVQVAE(quantizer=SimVQConfig(codebook_size=8, code_dim=4), **SMALL)
    )
    model = config.model.build()
    tokenizer = Tokenizer(model, drawn(model, clips(1, 1, 8, 8, 3)), config, 0)
    assert tokenizer.folded().config == config
    with pytest.raises(UserError, match="none of its codes can be left out"):
        tokenizer.keep_used(np.ones(25))


def test_heads_of_likelihoods_and_bytes_are_refused():
    with pytest.raises(ValueError, match="head must be picture, got 'bernoulli'"):
        MotionVQVAE(**SMALL).build(head="bernoulli")
    model, variables, _ = made()
    with pytest.raises(ValueError, match="radius must be at least 0 pixels, got -1"):
        nn.MotionQuantizer(nn.FSQ((3, 3)), -1)
    with pytest.raises(ValueError, match="expected float pictures"):
        model.apply(variables, jnp.zeros((1, 3, 8, 8, 3), jnp.uint8), method="encode_latents")
