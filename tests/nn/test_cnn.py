"""The convolutional networks of VQGAN and MaskGIT: published sizes, shapes, recomputation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jitted import apply, drawn
from optimised import OPTIMISED

import vq_jax
from vq_jax import nn
from vq_jax.configs.models import make_architecture


@functools.cache
def published(name):
    """Shapes of the model's parameters and results for two pictures of 64 x 32, without computing them."""
    model = vq_jax.create_model(name)

    def parts(key, images):
        out, variables = model.init_with_output(key, images)
        return variables["params"], out.indices, out.latents, out.reconstruction

    return jax.eval_shape(parts, jax.random.key(0), jax.ShapeDtypeStruct((2, 64, 32, 3), jnp.float32))


def shapes_of(model, *shape):
    """Shapes of the parameters, without computing them."""
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), images)["params"]


def small_model(family="cnn", remat=False, multipliers=(2,), attention=False):
    """A model of one level, or several, by default without attention, which is never recomputed."""
    width = {"channels": 16, "channel_multipliers": multipliers, "num_res_blocks": 1, "remat": remat}
    if family == "maskgit":
        encoder, decoder = nn.MaskGITEncoder(**width, latent_channels=16), nn.MaskGITDecoder(**width)
    else:
        width = {**width, "attention_levels": (), "middle_attention": attention, "z_channels": 16}
        encoder, decoder = nn.CNNEncoder(**width, latent_channels=16), nn.CNNDecoder(**width)
    return nn.VQModel(encoder, nn.VectorQuantizer(16, 16), decoder)


@pytest.mark.parametrize(
    "name, parameters, tensors",
    [
        ("vqgan-f16", 72_141_699, 343),
        ("llamagen-vq16", 71_883_403, 343),
        ("maskgit-vqgan", 54_515_587, 168),
    ],
)
def test_the_published_models_have_their_published_numbers_of_parameters(name, parameters, tensors):
    leaves = jax.tree.leaves(published(name)[0])
    assert sum(leaf.size for leaf in leaves) == parameters
    assert len(leaves) == tensors


def test_the_halves_of_the_f16_network_have_their_published_sizes():
    params = published("vqgan-f16")[0]
    for part, layer, tensors, millions in (
        ("encoder", "quant_conv", 144, 29.30),
        ("decoder", "post_quant_conv", 194, 42.45),
    ):
        leaves = jax.tree.leaves({name: leaf for name, leaf in params[part].items() if name != layer})
        assert len(leaves) == tensors
        assert sum(leaf.size for leaf in leaves) / 1e6 == pytest.approx(millions, abs=0.005)


@pytest.mark.parametrize(
    "name, stride, code_dim",
    [
        ("vqgan-f4", 4, 256),
        ("vqgan-f8", 8, 256),
        ("vqgan-f16", 16, 256),
        ("llamagen-vq16", 16, 8),
        ("maskgit-vqgan", 16, 256),
    ],
)
def test_a_code_stands_for_as_many_pixels_as_the_name_says(name, stride, code_dim):
    _, indices, latents, reconstruction = published(name)
    assert indices.shape == (2, 64 // stride, 32 // stride)
    assert latents.shape == (*indices.shape, code_dim)
    assert reconstruction.shape == (2, 64, 32, 3)


def pictures(*shape):
    return np.random.default_rng(0).uniform(-1.0, 1.0, shape).astype(np.float32)


@pytest.mark.parametrize("family", ["cnn", "maskgit"])
def test_video_is_encoded_and_decoded_with_three_spatial_axes(family):
    model = small_model(family, multipliers=(1, 2), attention=True)
    video = pictures(1, 4, 8, 6, 3)
    variables = drawn(model, video)
    assert variables["params"]["decoder"]["conv_out"]["kernel"].shape == (3, 3, 3, 16, 3)
    out = apply(model, variables, video)
    assert out.indices.shape == (1, 2, 4, 3)
    assert out.reconstruction.shape == video.shape and np.isfinite(out.reconstruction).all()


def loss_of(model, params, images):
    out = model.apply({"params": params, "codebook": {}}, images, quantize=False)
    return jnp.mean(jnp.square(out.reconstruction - images)), out.reconstruction


@pytest.mark.ci
def test_recomputed_blocks_have_the_same_parameters_output_and_gradients():
    images = pictures(2, 24, 24, 3)  # so large that gradients are XLA's convolutions, quick to compile
    params = drawn(small_model(), images)["params"]
    results = []
    for remat in (False, True):
        model = small_model(remat=remat)
        assert jax.tree.map(jnp.shape, shapes_of(model, 24, 24, 3)) == jax.tree.map(jnp.shape, params)
        gradients = jax.value_and_grad(functools.partial(loss_of, model), has_aux=True)
        step = jax.jit(gradients, compiler_options=OPTIMISED)
        results.append(step(params, images))
    ((_, plain), plain_grads), ((_, again), again_grads) = results
    np.testing.assert_allclose(plain, again, atol=1e-6)
    largest = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(plain_grads))
    for a, b in zip(jax.tree.leaves(plain_grads), jax.tree.leaves(again_grads), strict=True):
        # relative to the largest: the gradient of a bias before a norm is rounding only
        np.testing.assert_allclose(a, b, atol=1e-5 * largest)


@pytest.mark.parametrize("family", ["cnn", "maskgit"])
def test_recomputed_blocks_keep_less_for_the_backward_pass(family):
    kept = []
    params = shapes_of(small_model(family), 24, 24, 3)
    for remat in (False, True):
        model = small_model(family, remat)
        images = jax.ShapeDtypeStruct((2, 24, 24, 3), jnp.float32)
        forward = functools.partial(loss_of, model)
        pullback = jax.eval_shape(
            lambda params, images, forward=forward: jax.vjp(lambda p: forward(p, images)[0], params)[1],
            params,
            images,
        )
        kept.append(sum(leaf.size for leaf in jax.tree.leaves(pullback)))
    assert kept[1] < 0.7 * kept[0], kept


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"channels": 0}, "model.channels must be at least 1, got 0"),
        ({"channel_multipliers": (1, 0)}, r"model.channel_multipliers must be at least 1, got 0"),
        ({"num_res_blocks": 0}, "model.num_res_blocks must be at least 1, got 0"),
        ({"z_channels": 0}, "model.z_channels must be at least 1, got 0"),
        ({"attention_levels": (-1,)}, r"model.attention_levels must be at least 0, got -1"),
        (
            {"attention_levels": (5,)},
            r"model.attention_levels = \(5,\) must be below the 5 levels of model.channel_multipliers",
        ),
        ({"channel_multipliers": ()}, r"model.attention_levels = \(4,\) must be below the 0 levels"),
        ({"widths": (1, 2)}, "vqgan-f16 with the quantizer gradient has no field 'widths'"),
    ],
)
def test_a_wrong_field_of_the_network_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        make_architecture("vqgan-f16", **fields)


@pytest.mark.parametrize("name, stride", [("vqgan-f4", 4), ("vqgan-f16", 16), ("maskgit-vqgan", 16)])
def test_a_picture_that_does_not_divide_names_the_nearest_that_does(name, stride):
    architecture = make_architecture(name)
    architecture.check_image_size(10 * stride)
    with pytest.raises(ValueError, match=f"must be a multiple of {stride} .* the nearest is {10 * stride}"):
        architecture.check_image_size(10 * stride + 1)
    architecture.check_image_size((10 * stride, 3 * stride))
    with pytest.raises(ValueError, match=f"nearest is {10 * stride} x {3 * stride}"):
        architecture.check_image_size((10 * stride, 3 * stride + 1))


def test_maskgits_network_needs_a_level():
    with pytest.raises(ValueError, match="model.channel_multipliers must have at least one level"):
        make_architecture("maskgit-vqgan", channel_multipliers=())
