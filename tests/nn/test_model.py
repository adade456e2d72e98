"""VQModel and its networks: shapes, names, heads, the methods that users call."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from jitted import apply, drawn, init

from vq_jax import nn, ops


def pictures(*shape):
    return np.random.default_rng(0).uniform(-1.0, 1.0, shape).astype(np.float32)


def small_model(head="picture", channels=3, downsamples=1):
    width = {"channels": 8, "residual_channels": 4, "num_res_blocks": 1, "num_downsamples": downsamples}
    return nn.VQModel(
        nn.ResidualEncoder(latent_channels=6, **width),
        nn.VectorQuantizerEMA(16, 6),
        nn.ResidualDecoder(out_channels=ops.head_channels(head, channels), **width),
        head=head,
    )


def shapes_of(model, images):
    """Shapes and dtypes of variables, reconstruction, codes and latents, without computing them."""

    def parts(key, images):
        out, variables = model.init_with_output(key, images)
        return variables, out.reconstruction, out.indices, out.latents

    return jax.eval_shape(parts, jax.random.key(0), images)


@pytest.mark.parametrize("spatial", [(16,), (16, 8), (4, 8, 8)])
def test_residual_model_takes_any_number_of_spatial_axes(spatial):
    model = small_model(downsamples=2)
    images = pictures(2, *spatial, 3)
    out = apply(model, drawn(model, images), images)
    codes = tuple(size // 4 for size in spatial)
    assert out.reconstruction.shape == images.shape and out.reconstruction.dtype == jnp.float32
    assert out.indices.shape == (2, *codes) == (2, *model.code_specs((*spatial, 3)).array_shape)


def test_encode_decode_and_lookup_are_the_parts_of_the_call():
    model = small_model()
    images = pictures(2, 8, 8, 3)
    variables = drawn(model, images, std=0.2)
    out = apply(model, variables, images)
    indices = apply(model, variables, images, method="encode")
    np.testing.assert_array_equal(indices, out.indices)
    # the call decodes z + (q - z); `decode` decodes q
    np.testing.assert_allclose(
        apply(model, variables, indices, method="decode"), out.reconstruction, atol=1e-5
    )
    latents = apply(model, variables, images, method="encode_latents")
    np.testing.assert_array_equal(latents, out.latents)
    passed_by = apply(model, variables, images, quantize=False)
    np.testing.assert_array_equal(
        apply(model, variables, latents, method="decode_latents"), passed_by.reconstruction
    )
    assert passed_by.indices is None and float(passed_by.loss) == 0.0
    assert apply(model, variables, indices, method="lookup").shape == latents.shape


def test_the_recipe_has_its_published_shapes(getkey):
    model = nn.VQModel(nn.ResidualEncoder(), nn.VectorQuantizer(512, 64), nn.ResidualDecoder())
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    params = jax.tree.map(lambda leaf: leaf.shape, shapes["params"])
    assert params["encoder"]["Conv_0"]["kernel"] == (4, 4, 3, 64)
    assert params["encoder"]["Conv_1"]["kernel"] == (4, 4, 64, 128)
    assert params["encoder"]["Conv_3"]["kernel"] == (1, 1, 128, 64)
    assert params["decoder"]["DoubleConvTranspose_1"]["kernel"] == (4, 4, 64, 3)
    assert params["quantizer"]["embedding"] == (512, 64)


def test_double_conv_transpose_has_the_parameters_and_result_of_flax(getkey):
    x = np.random.default_rng(0).standard_normal((2, 5, 6, 3), np.float32)
    plain = linen.ConvTranspose(7, (4, 4), strides=(2, 2))
    variables = init(plain, getkey(), x)
    ours = nn.DoubleConvTranspose(7)
    assert jax.tree.map(jnp.shape, init(ours, getkey(), x)) == jax.tree.map(jnp.shape, variables)
    np.testing.assert_allclose(apply(ours, variables, x), apply(plain, variables, x), atol=1e-5)


def test_mlp_model_is_784_256_128_64_and_back():
    model = nn.VQModel(nn.MLPEncoder(), nn.VectorQuantizerEMA(512, 4), nn.MLPDecoder())
    images = pictures(2, 28, 28, 1)
    variables, reconstruction, indices, _ = shapes_of(model, images)
    kernels = [
        variables["params"][part][f"Dense_{layer}"]["kernel"].shape
        for part in ("encoder", "decoder")
        for layer in range(3)
    ]
    assert kernels == [(784, 256), (256, 128), (128, 64), (64, 128), (128, 256), (256, 784)]
    assert reconstruction.shape == images.shape and indices.shape == (2, 16)


def test_mlp_takes_any_picture_shape():
    shape = (2, 6, 5, 3)
    model = nn.VQModel(
        nn.MLPEncoder((20,), num_latents=1, latent_channels=8),
        nn.VectorQuantizer(10, 8),
        nn.MLPDecoder(shape, (20,)),
    )
    images = pictures(3, *shape)
    _, reconstruction, indices, _ = shapes_of(model, images)
    assert reconstruction.shape == images.shape and indices.shape == (3, 1)


@pytest.mark.parametrize("head", ops.HEADS)
def test_every_head_gives_pictures_in_range(head):
    model = small_model(head=head)
    images = pictures(2, 8, 8, 3)
    out = apply(model, drawn(model, images), images)
    assert out.reconstruction.shape == images.shape
    if head != "picture":
        assert np.abs(out.reconstruction).max() <= 1.0


@pytest.mark.parametrize("head", ops.HEADS)
def test_the_only_picture_shape_has_the_pictures_channels(head):
    decoder = nn.MLPDecoder((8, 6, ops.head_channels(head, 3)))
    model = nn.VQModel(nn.MLPEncoder(), nn.VectorQuantizerEMA(16, 4), decoder, head=head)
    assert model.image_shape == (8, 6, 3) and small_model(head).image_shape is None


def test_compute_dtype_leaves_parameters_and_output_in_float32():
    model = nn.VQModel(
        nn.ResidualEncoder(8, 4, 1, 1, 6, dtype=jnp.bfloat16),
        nn.VectorQuantizerEMA(16, 6),
        nn.ResidualDecoder(8, 4, 1, 1, 3, dtype=jnp.bfloat16),
    )
    variables, reconstruction, _, latents = shapes_of(model, pictures(2, 8, 8, 3))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert latents.dtype == jnp.bfloat16 and reconstruction.dtype == jnp.float32


def test_uint8_pictures_are_refused_with_what_to_do(getkey):
    with pytest.raises(ValueError, match="normalize_pictures"):
        jax.eval_shape(small_model().init, getkey(), jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.uint8))


def test_an_unknown_head_is_refused():
    with pytest.raises(ValueError, match="head must be one of"):
        small_model(head="gaussian")


def test_a_model_is_a_submodule_of_any_module(getkey):
    class Classifier(linen.Module):
        tokenizer: nn.VQModel

        @linen.compact
        def __call__(self, images):
            out = self.tokenizer(images, train=True)
            return linen.Dense(3)(out.latents.mean(axis=(1, 2))), out.loss

    images = pictures(2, 8, 8, 3)
    classifier = Classifier(small_model())
    variables = init(classifier, getkey(), images)
    (logits, _), updates = apply(classifier, variables, images, mutable=("codebook",))
    assert logits.shape == (2, 3)
    assert np.asarray(updates["codebook"]["tokenizer"]["quantizer"]["cluster_size"]).sum() > 0
