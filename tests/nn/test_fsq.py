"""Finite scalar quantization against a NumPy oracle; what every quantizer does is in the contract test."""

from statistics import NormalDist

import jax
import numpy as np
import pytest
from jitted import apply, init

from vq_jax import nn

VARIANTS = [
    {"levels": (8, 5, 5, 5)},
    {"levels": (7, 5, 3)},
    {"levels": (4, 6)},
    {"levels": (2, 3, 4, 5), "symmetric": True},
    {"levels": (5, 7), "bound": "sigmoid"},
    {"levels": (8, 4), "bound": "sigmoid"},
    {"levels": (2, 8), "symmetric": True, "bound": "sigmoid"},
    {"levels": (3, 8), "symmetric": True, "bound": "clip"},
    {"levels": (5, 8), "bound": "clip"},
]
every_variant = pytest.mark.parametrize("fields", VARIANTS)


def bound(z, kind):
    if kind == "clip":
        return np.clip(z, -1.0, 1.0)
    return np.tanh(z) if kind == "tanh" else 2.0 / (1.0 + np.exp(-1.6 * z)) - 1.0


def unbound(y, kind):
    return {"tanh": np.arctanh(y), "sigmoid": np.log((1 + y) / (1 - y)) / 1.6, "clip": y}[kind]


def oracle(z, levels, symmetric=False, bound_kind="tanh"):
    """The values by the papers' formulas, one channel after the other, float64."""
    values = np.empty(z.shape)
    for axis, size in enumerate(levels):
        x = z[..., axis].astype(np.float64)
        if symmetric:
            values[..., axis] = (
                2.0 / (size - 1) * np.floor((size - 1) * (bound(x, bound_kind) + 1) / 2 + 0.5) - 1
            )
            continue
        reach = (size - 1) * (1.001 if bound_kind == "tanh" else 1.0) / 2
        offset = 0.5 if size % 2 == 0 else 0.0
        y = offset / reach
        shift = unbound(y, bound_kind)
        values[..., axis] = np.round(bound(x + shift, bound_kind) * reach - offset) / (size // 2)
    return values


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


@every_variant
def test_values_are_those_of_the_papers(fields):
    z = np.float32(2.0) * normal(500, 4, len(fields["levels"]))
    out = apply(nn.FSQ(**fields), {}, z)
    expected = oracle(z, fields["levels"], fields.get("symmetric", False), fields.get("bound", "tanh"))
    # float32 may round a latent at the border of two levels to the other one
    differ = np.abs(np.asarray(out.quantized) - expected) > 1e-6
    assert differ.mean() < 1e-4


@every_variant
def test_every_code_is_reached_and_stands_for_the_digits_of_its_number(fields):
    levels = fields["levels"]
    quantizer = nn.FSQ(**fields)
    codes = np.arange(quantizer.codebook_size, dtype=np.int32)[None]
    points = np.asarray(apply(quantizer, {}, codes, method="lookup"))[0]
    assert len(np.unique(points, axis=0)) == quantizer.codebook_size
    strides = np.cumprod([1, *levels[:-1]])
    for axis, (size, stride) in enumerate(zip(levels, strides, strict=True)):
        digits = np.arange(len(points)) // stride % size
        ordered = np.sort(np.unique(points[:, axis]))
        assert len(ordered) == size and ordered[0] == -1.0
        np.testing.assert_array_equal(points[:, axis], ordered[digits])
    # Latents far out reach the outermost levels.
    z = np.array([[[-50.0] * len(levels), [50.0] * len(levels)]], np.float32)
    np.testing.assert_array_equal(apply(quantizer, {}, z).indices, [[0, quantizer.codebook_size - 1]])


@every_variant
def test_the_forward_pass_is_lookup_to_the_bit(fields):
    z = normal(500, 4, len(fields["levels"]))
    quantizer = nn.FSQ(**fields)
    out = apply(quantizer, {}, z)
    np.testing.assert_array_equal(out.quantized, apply(quantizer, {}, out.indices, method="lookup"))


def test_even_levels_are_offset_and_odd_ones_centred():
    zero, codes = np.zeros((1, 2), np.float32), np.arange(4, dtype=np.int32)
    assert apply(nn.FSQ((8, 5)), {}, zero).quantized.tolist() == [[0.0, 0.0]]
    points = apply(nn.FSQ((4,)), {}, codes, method="lookup")
    assert points.tolist() == [[-1.0], [-0.5], [0.0], [0.5]]
    points = apply(nn.FSQ((4,), symmetric=True), {}, codes, method="lookup")
    np.testing.assert_allclose(np.asarray(points)[:, 0], [-1.0, -1 / 3, 1 / 3, 1.0], atol=1e-6)


@every_variant
def test_the_gradient_is_that_of_the_bound(fields):
    levels, kind = fields["levels"], fields.get("bound", "tanh")
    z = normal(32, len(levels))
    quantizer = nn.FSQ(**fields)
    gradient = np.asarray(jax.jit(jax.grad(lambda z: quantizer.apply({}, z).quantized.sum()))(z))
    step = 1e-5
    for axis, size in enumerate(levels):
        scale, shift = 1.0, 0.0
        if not fields.get("symmetric"):
            reach = (size - 1) * (1.001 if kind == "tanh" else 1.0) / 2
            y = (0.5 if size % 2 == 0 else 0.0) / reach
            shift = unbound(y, kind)
            scale = reach / (size // 2)
        x = z[:, axis].astype(np.float64) + shift
        expected = scale * (bound(x + step, kind) - bound(x - step, kind)) / (2 * step)
        np.testing.assert_allclose(gradient[:, axis], expected, atol=1e-5)


def test_the_sigmoid_makes_gaussian_latents_nearly_uniform():
    # Of many levels the outermost ones, half as wide as the others, do not count.
    quantiles = [NormalDist().inv_cdf((i + 0.5) / 20000) for i in range(20000)]
    z = np.array(quantiles, np.float32)[:, None]
    perplexity = {
        bound: float(apply(nn.FSQ((255,), bound=bound), {}, z).metrics["perplexity"])
        for bound in ("tanh", "sigmoid")
    }
    assert perplexity["tanh"] < perplexity["sigmoid"] and perplexity["sigmoid"] > 250


def test_there_is_nothing_to_learn_and_the_loss_is_zero(getkey):
    z = normal(2, 3, 4)
    assert init(nn.FSQ((8, 5, 5, 5)), getkey(), z) == {}
    assert float(apply(nn.FSQ((8, 5, 5, 5)), {}, z).loss) == 0.0


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"levels": ()}, r"FSQ.levels must have a product below 2\^31 and not be empty, got \(\)"),
        ({"levels": (1, 5)}, r"FSQ.levels must be at least 2, got \(1, 5\)"),
        ({"levels": (2, 5)}, "must be at least 3 unless symmetric = True"),
        ({"levels": (256,) * 4}, r"product below 2\^31"),
        ({"levels": (5,), "bound": "clamp"}, "FSQ.bound must be one of tanh, sigmoid, clip, got 'clamp'"),
    ],
)
def test_fields_out_of_range_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        nn.FSQ(**fields)
