"""The causal networks over time: what a frame sees, clips in parts, pictures, lengths, widths."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from jitted import apply, drawn

from vq_jax.configs.models import make_architecture
from vq_jax.nn.backbones.causal import frame_norm
from vq_jax.pretrained.build import create_model

SMALL = {
    "vqvae-video": {"channels": 8, "residual_channels": 4, "num_res_blocks": 1, "code_dim": 6},
    "magvit2-video": {
        "channels": 8,
        "channel_multipliers": (1, 2, 2),
        "num_res_blocks": 1,
        "time_levels": (0, 1),
    },
}

LARGE_IS_CI = ["vqvae-video", pytest.param("magvit2-video", marks=pytest.mark.ci)]


def clips(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


@functools.cache
def made(name, **fields):
    """A small model with 4 frames and 4 x 4 pixels a code, random variables, and clips of 13 frames."""
    model = create_model(name, **SMALL[name] | fields)
    given = clips(2, 13, 8, 12, 3)
    return model, drawn(model, given, std=0.12), given


@pytest.mark.parametrize("name", SMALL)
def test_what_comes_later_changes_no_bit_of_codes_and_frames(name):
    model, variables, given = made(name)
    out = apply(model, variables, given)
    assert out.indices.shape == (2, 4, 2, 3) and out.reconstruction.shape == given.shape
    other = given.copy()
    other[:, 9:] = clips(2, 4, 8, 12, 3, seed=1)
    changed = apply(model, variables, other)
    for a, b in ((out.indices[:, :3], changed.indices[:, :3]), (out.latents[:, :3], changed.latents[:, :3])):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(out.reconstruction[:, :9], changed.reconstruction[:, :9])
    assert np.all(np.abs(np.asarray(out.latents - changed.latents)[:, 3]).max(-1) > 1e-3)
    assert np.abs(out.reconstruction - changed.reconstruction)[:, 9:].max() > 1e-3
    # And a frame sees the ones before: the first one reaches the latents after it.
    other = given.copy()
    other[:, 0] = 0.5
    past = np.abs(np.asarray(apply(model, variables, other).latents - out.latents)).max((0, 2, 3, 4))
    assert past[1] > 1e-4


@pytest.mark.parametrize("name", LARGE_IS_CI)
def test_parts_of_a_clip_equal_the_whole(name):
    model, variables, _ = made(name)
    given = clips(1, 121, 8, 8, 3)
    whole = apply(model, variables, given, method="encode_latents")
    decoded = apply(model, variables, whole, method="decode_latents")

    def in_parts(x, method, ends):
        stream, parts = {}, []
        for first, last in zip((0, *ends), ends, strict=False):
            run = {"mutable": ("stream",), "method": method}
            part, stream = apply(model, {**variables, **stream}, x[:, first:last], **run)
            parts.append(part)
        return np.concatenate(parts, axis=1)

    latents = np.asarray(whole)
    for found, wanted in (
        (in_parts(given, "encode_latents", (1, 41, 81, 121)), whole),
        (in_parts(latents, "decode_latents", (1, 11, 21, 31)), decoded),
    ):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_a_part_that_continues_a_clip_has_whole_groups_of_frames():
    model, variables, given = made("vqvae-video")
    encode = functools.partial(model.apply, method="encode_latents", mutable=["stream"])
    _, stream = jax.eval_shape(encode, variables, given[:, :1])
    with pytest.raises(ValueError, match="continue a clip must be a multiple of 4, frames a code, got 5"):
        jax.eval_shape(encode, {**variables, **stream}, given[:, :5])


@pytest.mark.parametrize("name", LARGE_IS_CI)
def test_a_picture_is_a_clip_of_one_frame(name):
    model, variables, given = made(name)
    of_clip = apply(model, variables, given[:, :1])
    of_picture = apply(model, variables, given[:, 0])
    assert of_picture.indices.shape == (2, 2, 3) and of_picture.reconstruction.shape == (2, 8, 12, 3)
    np.testing.assert_array_equal(of_picture.indices, of_clip.indices[:, 0])
    np.testing.assert_allclose(of_picture.reconstruction, of_clip.reconstruction[:, 0], atol=1e-5)
    assert drawn(model, given[:, 0]).keys() == variables.keys()
    assert jax.tree.map(jnp.shape, drawn(model, given[:, 0])) == jax.tree.map(jnp.shape, variables)


@pytest.mark.parametrize("name", LARGE_IS_CI)
def test_lengths_are_one_frame_and_groups(name):
    model = made(name)[0]
    for frames, codes in ((1, 1), (5, 2), (17, 5), (121, 31)):
        assert model.code_specs((frames, 8, 12, 3)).shape == (codes, 2, 3)
    assert model.code_specs((8, 12, 3)).shape == (2, 3)
    assert model.strides(3) == (4, 4, 4) and model.strides(2) == (4, 4)
    assert model.padded_lengths((16, 9, 12)) == (17, 12, 12) and model.padded_lengths((17, 8, 8)) == (
        17,
        8,
        8,
    )
    assert model.padded_lengths((1, 4, 4)) == (1, 4, 4) and model.padded_lengths((9, 12)) == (12, 12)
    message = "1 \\+ a multiple of 4, the first frame and groups of 4, got 16; the nearest are 13 or 17"
    with pytest.raises(ValueError, match=message):
        model.code_specs((16, 8, 12, 3))
    with pytest.raises(ValueError, match="data.frames must be.* got 2; the nearest are 1 or 5"):
        make_architecture(name, **SMALL[name]).check_frames(2)
    with pytest.raises(ValueError, match="expected clips .* or pictures"):
        model.code_specs((8, 3))


@pytest.mark.parametrize("name", LARGE_IS_CI)
def test_the_frame_wise_variant_encodes_every_frame_on_its_own(name):
    alone = {
        "vqvae-video": {"frame_stride": 1, "time_width": 1},
        "magvit2-video": {"time_levels": (), "time_width": 1},
    }
    model, variables, given = made(name, **alone[name])
    whole = apply(model, variables, given, method="encode_latents")
    frames = apply(model, variables, given.reshape(-1, 8, 12, 3), method="encode_latents")
    assert whole.shape[1] == 13
    np.testing.assert_allclose(whole.reshape(frames.shape), frames, atol=1e-5)


@pytest.mark.parametrize("waves", ["clip", "frame"])
def test_at_first_a_latent_keeps_the_slowest_waves_of_its_patches_and_the_decoder_undoes_it(waves):
    fields = {
        "waves": waves,
        "patch_size": 4,
        "frame_stride": 2,
        "channels": 8,
        "residual_channels": 4,
        "num_res_blocks": 1,
    }
    model = create_model("vqvae-video", code_dim=32 * 3, **fields)
    given = clips(1, 5, 8, 8, 3)
    variables = jax.eval_shape(model.init, jax.random.key(0), given)
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), variables)
    with_paths = jax.jit(model.init)(jax.random.key(0), given)
    for part in ("encoder", "decoder"):
        variables["params"][part]["linear"] = with_paths["params"][part]["linear"]
    latents = apply(model, variables, given, method="encode_latents")
    np.testing.assert_allclose(apply(model, variables, latents, method="decode_latents"), given, atol=1e-5)
    other = given.copy()
    other[:, -1] = 0
    changed = np.any(apply(model, variables, other, method="encode_latents") != latents, axis=(0, 1, 2, 3))
    assert changed.sum() == {"clip": 96, "frame": 48}[waves]


class Norm(linen.Module):
    @linen.compact
    def __call__(self, x):
        return frame_norm(x, dtype=jnp.float32, name="norm")


def test_frames_are_normalised_by_their_own_statistics():
    x = clips(2, 3, 4, 4, 64)
    groups = x.astype(np.float64).reshape(2, 3, 16, 32, 2)
    mean, variance = (f(groups, axis=(2, 4), keepdims=True) for f in (np.mean, np.var))
    expected = ((groups - mean) / np.sqrt(variance + 1e-6)).reshape(x.shape)
    plain = {"params": {"norm": {"scale": np.ones(64, np.float32), "bias": np.zeros(64, np.float32)}}}
    np.testing.assert_allclose(apply(Norm(), plain, x), expected, atol=1e-5)


@pytest.mark.ci
def test_recomputation_changes_no_result():
    model, variables, given = made("magvit2-video")
    again, same, _ = made("magvit2-video", remat=True)
    assert jax.tree.map(jnp.shape, same) == jax.tree.map(jnp.shape, variables)
    whole = apply(again, variables, given, method="encode_latents")
    np.testing.assert_allclose(whole, apply(model, variables, given, method="encode_latents"), atol=1e-6)


def count(*kernels):
    return sum(np.prod(kernel) for kernel in kernels)


@pytest.mark.ci
def test_the_published_network_has_the_published_layout():
    """Widths 128, 256, 256, 512, four blocks a level and in the middle, 18 channels a latent."""
    model = create_model("magvit2-video")
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 17, 128, 128, 3)))["params"]
    assert model.code_specs((17, 128, 128, 3)).shape == (5, 16, 16)

    def block(i, o):
        return count((27, i, o), (27, o, o), (2, i), (2, o)) + (i != o) * i * o

    def level(i, o):
        return block(i, o) + 3 * block(o, o)

    down = sum(count((64, width, width), (width,)) for width in (128, 256, 256))
    encoder = (
        count((27, 3, 128)) + level(128, 128) + level(128, 256) + level(256, 256) + level(256, 512) + down
    )
    encoder += level(512, 512) + count((2, 512), (512, 18), (18,))
    up = sum(count((27, i, 4 * t * i), (4 * t * i,)) for i, t in ((512, 2), (256, 2), (256, 1)))
    norms = sum(2 * 19 * width for width in (512, 512, 256, 256))
    decoder = count((27, 18, 512), (512,)) + level(512, 512) * 2 + level(512, 256) + level(256, 256)
    decoder += level(256, 128) + up + norms + count((2, 128), (27, 128, 3), (3,))
    sizes = {name: sum(leaf.size for leaf in jax.tree.leaves(part)) for name, part in shapes.items()}
    assert sizes == {"encoder": encoder, "decoder": decoder}
    assert round(sum(sizes.values()), -5) == 376_000_000


@pytest.mark.parametrize("levels", [(2,), (0, 0)])
def test_levels_that_halve_the_frames_are_among_those_that_halve_their_size(levels):
    with pytest.raises(ValueError, match="model.time_levels = .* must be different levels below 2"):
        make_architecture("magvit2-video", channel_multipliers=(1, 2, 2), time_levels=levels)
