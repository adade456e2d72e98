"""Networks that restore pictures: where they begin, what fidelity mixes, and what of them learns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax.configs import (
    PatchVQVAE,
    ResidualQuantizerConfig,
    ResidualVQVAE,
    RestorerNetwork,
    VectorQuantizerEMAConfig,
)
from vq_jax.nn.restoration import PixelPath, enlarge
from vq_jax.pretrained.build import create_model

SMALL = RestorerNetwork(channels=8, residual_channels=4, num_res_blocks=1, fusion_channels=4, fusion_blocks=1)


def architecture(stages):
    inner = VectorQuantizerEMAConfig(codebook_size=16, code_dim=6)
    quantizer = ResidualQuantizerConfig(num_stages=stages, inner=inner) if stages > 1 else inner
    return PatchVQVAE(channels=8, residual_channels=4, num_res_blocks=1, quantizer=quantizer)


@functools.cache
def restorer(stages=1, scale=1, fusion=True):
    """A restorer over a tokenizer with random weights; their variables, and pictures."""
    network = RestorerNetwork(**{**vars(SMALL), "fusion": fusion})
    tokenizer, twin = architecture(stages).build(), architecture(stages).build()
    specs = tokenizer.code_specs((16, 16, 3))
    model = network.build(tokenizer, twin, specs, scale, jnp.float32)
    pictures = jax.random.uniform(jax.random.key(2), (2, 16 // scale, 16 // scale, 3), minval=-1, maxval=1)
    frozen = jax.jit(tokenizer.init)(jax.random.key(1), jnp.zeros((1, 16, 16, 3), jnp.float32))
    params = jax.jit(model.init)(jax.random.key(0), pictures)["params"]
    params = {**params, "encoder": frozen["params"]["encoder"]}
    return model, model.with_tokenizer(params, frozen), pictures


def restored(model, variables, pictures, **options):
    return jax.jit(lambda v, x: model.apply(v, x, **options))(variables, pictures)


@pytest.mark.parametrize("stages", [pytest.param(1, marks=pytest.mark.ci), 2])
def test_it_begins_with_the_codes_that_the_tokenizer_gives_the_picture_itself(stages):
    model, variables, pictures = restorer(stages)
    quiet = jax.tree.map(
        jnp.zeros_like, {f"heads_{n}": variables["params"][f"heads_{n}"] for n in range(stages)}
    )
    variables = {**variables, "params": {**variables["params"], **quiet}}
    tokenizer = {
        "params": variables["params"]["tokenizer"],
        "codebook": variables["codebook"]["tokenizer"],
    }
    expected = model.tokenizer.apply(tokenizer, pictures)
    found = restored(model, variables, pictures, fidelity=0.0)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.reconstruction, expected.reconstruction, atol=1e-5)  # one float32 pass


def test_fidelity_mixes_the_paths_beside_the_codes_and_0_has_none_of_them():
    model, variables, pictures = restorer()
    other = jax.tree.map(lambda leaf: leaf + 0.1, {n: variables["params"][n] for n in ("mixer", "pixels")})
    changed = {**variables, "params": {**variables["params"], **other}}
    at = {
        (name, weight): restored(model, given, pictures, fidelity=weight).reconstruction
        for name, given in (("first", variables), ("other", changed))
        for weight in (0.0, 1.0)
    }
    np.testing.assert_array_equal(at["first", 0.0], at["other", 0.0])
    assert float(jnp.abs(at["first", 1.0] - at["other", 1.0]).max()) > 0.01
    assert float(jnp.abs(at["first", 1.0] - at["first", 0.0]).max()) > 0.01


@pytest.mark.parametrize("start", [0.0, 0.5])
def test_the_path_after_the_decoder_starts_between_the_decoded_picture_and_the_input(start):
    images, decoded = (jax.random.normal(jax.random.key(n), (1, 8, 8, 3)) for n in range(2))
    path = PixelPath(patch_size=2, channels=4, num_blocks=1, start=start)
    change, _ = path.init_with_output(jax.random.key(3), images, decoded)
    np.testing.assert_array_equal(change, start * (images - decoded))


def test_a_later_code_is_predicted_after_the_true_earlier_one_in_training_only():
    model, variables, pictures = restorer(2)
    codes = jnp.zeros((2, 4, 4, 2), jnp.int32)
    first, second = (
        restored(model, variables, pictures, codes=codes.at[..., 0].set(code)) for code in (3, 5)
    )
    np.testing.assert_array_equal(first.logits[..., 0, :], second.logits[..., 0, :])
    assert float(jnp.abs(first.logits[..., 1, :] - second.logits[..., 1, :]).max()) > 1e-3
    np.testing.assert_array_equal(first.indices, second.indices)  # those predicted


def test_without_fusion_the_picture_is_that_of_the_codes_whatever_the_fidelity():
    model, variables, pictures = restorer(fusion=False)
    assert not {"mixer", "pixels"} & set(variables["params"])
    one, zero = (restored(model, variables, pictures, fidelity=weight) for weight in (1.0, 0.0))
    np.testing.assert_array_equal(one.reconstruction, zero.reconstruction)


def test_the_output_is_larger_by_the_scale():
    model, variables, pictures = restorer(scale=2)
    output = restored(model, variables, pictures)
    assert pictures.shape == (2, 8, 8, 3) and output.reconstruction.shape == (2, 16, 16, 3)
    assert output.logits.shape == (2, 4, 4, 1, 16)


def test_pictures_are_enlarged_as_pillow_enlarges_them():
    from PIL import Image

    picture = np.random.default_rng(0).random((8, 6), np.float32)
    expected = np.asarray(Image.fromarray(picture).resize((18, 24), Image.Resampling.BICUBIC))
    found = enlarge(jnp.asarray(picture)[None, ..., None], 3)[0, ..., 0]
    np.testing.assert_allclose(found, expected, atol=1e-5)  # weights of float32


def test_a_part_of_a_picture_is_enlarged_to_the_same_bits_wherever_it_lies():
    picture = jax.random.uniform(jax.random.key(0), (1, 40, 50, 3))
    whole, part = (jax.jit(enlarge, static_argnums=1)(given, 3) for given in (picture, picture[:, 7:30, 5:]))
    np.testing.assert_array_equal(part[:, 9:-9, 9:], whole[:, 21 + 9 : 90 - 9, 15 + 9 :])


FAMILIES = {
    "patches": PatchVQVAE(channels=8, residual_channels=4, num_res_blocks=1, patch_size=2),
    "residual": ResidualVQVAE(channels=8, residual_channels=4, num_res_blocks=1),
    "nearest": ResidualVQVAE(channels=8, num_res_blocks=0, num_downsamples=1, upsampling="nearest"),
}


@pytest.mark.parametrize(
    ("family", "kind", "scale"),
    [*((family, "restorer", 2) for family in FAMILIES), ("patches", "regressor", 1)],
)
def test_no_pixel_depends_on_what_is_out_of_reach(family, kind, scale):
    tokenizer, twin = FAMILIES[family].build(), FAMILIES[family].build()
    specs = tokenizer.code_specs((16, 16, 3))
    if kind == "restorer":
        model = SMALL.build(tokenizer, twin, specs, scale, jnp.float32)
    else:
        model = SMALL.build_regressor(twin, specs, scale, jnp.float32)
    pictures = jnp.zeros((1, 16 // scale, 192 // scale, 3), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), pictures)
    # Positive weights: what is seen is seen, behind every ReLU.
    weights = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.1, leaf.dtype), shapes)
    stride, reach = tokenizer.strides(2)[0], model.reach
    middle = 96 // scale
    one, other = (
        restored(model, weights, given).reconstruction
        for given in (pictures, pictures.at[:, :, middle : middle + 1].set(1.0))
    )
    changed = np.flatnonzero(np.abs(one - other).max((0, 1, 3)))
    first, last = 96 // stride * stride, (96 + scale - 1) // stride * stride + stride - 1
    assert first - reach <= changed.min() and changed.max() <= last + reach
    assert changed.max() - changed.min() > 2 * (reach - 2 * stride - 2 * scale)


@pytest.mark.parametrize(
    ("architecture", "fields", "expected"),
    [
        ("vqvae-mlp", {"image_size": (16, 16)}, "pictures of any size"),
        ("vqvae-patches", {"quantizer": "lfq", "bits": 18}, "at most 65536 codes"),
        ("vqvae-patches", {"quantizer": "multi_scale"}, "predicts one grid of codes"),
    ],
)
def test_a_tokenizer_that_cannot_serve_is_refused(architecture, fields, expected):
    model = create_model(architecture, **fields)
    specs = model.code_specs((16, 16, 3))
    with pytest.raises(ValueError, match=expected):
        SMALL.build(model, model, specs, 1, jnp.float32)
