"""Groups of channels against the quantizers of the groups alone; the rest is in the contract test."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jitted import apply, init

from vq_jax import nn, ops

WIDTH = 3


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def of_group(variables, number):
    return {name: tree[f"groups_{number}"] for name, tree in variables.items()}


INNER = {
    "ema": nn.VectorQuantizerEMA(8, WIDTH, revive_threshold=0.5),
    "gradient": nn.VectorQuantizer(8, WIDTH, revive_threshold=0.5, entropy_weight=0.1),
    "fsq": nn.FSQ((5, 3, 4)),
}


@pytest.mark.parametrize("name", INNER)
def test_each_group_is_its_quantizer_alone(name, getkey):
    quantizer, z = nn.GroupedQuantizer(INNER[name], 3), normal(4, 5, 9)
    variables = init(quantizer, getkey(), z)
    out = apply(quantizer, variables, z)
    alone = [apply(INNER[name], of_group(variables, g), z[..., 3 * g : 3 * g + 3]) for g in range(3)]
    assert out.indices.shape == (4, 5, 3)
    for number, single in enumerate(alone):
        np.testing.assert_array_equal(out.indices[..., number], single.indices)
        np.testing.assert_array_equal(out.quantized[..., 3 * number : 3 * number + 3], single.quantized)
        for metric, value in single.metrics.items():
            np.testing.assert_allclose(out.metrics[f"{metric}/{number}"], value, rtol=1e-6)
    np.testing.assert_allclose(out.loss, np.mean([single.loss for single in alone]), rtol=1e-6)
    for metric in alone[0].metrics:
        mean = np.mean([single.metrics[metric] for single in alone])
        np.testing.assert_allclose(out.metrics[metric], mean, rtol=1e-6)


def test_the_codes_stand_for_the_nearest_vector_of_each_group(getkey):
    quantizer, z = nn.GroupedQuantizer(nn.VectorQuantizer(6, 2), 2), normal(3, 7, 4)
    variables = init(quantizer, getkey(), z)
    out = apply(quantizer, variables, z)
    expected = np.empty((3, 7, 2), np.int32)
    for number in range(2):
        table = np.asarray(variables["params"][f"groups_{number}"]["embedding"], np.float64)
        part = z[..., 2 * number : 2 * number + 2].astype(np.float64)
        expected[..., number] = ((part[..., None, :] - table) ** 2).sum(-1).argmin(-1)
    np.testing.assert_array_equal(out.indices, expected)
    # With equal widths, the mean of the groups' commitment losses is that of the whole latent.
    commitment = np.mean((z - np.asarray(out.quantized)) ** 2)
    np.testing.assert_allclose(out.metrics["commitment_loss"], commitment, rtol=1e-5)


def test_groups_start_differently_and_revive_on_their_own(getkey):
    inner = nn.VectorQuantizerEMA(8, 2, revive_threshold=0.5)
    quantizer, z = nn.GroupedQuantizer(inner, 2), np.repeat(normal(8, 4, 1, 2), 2, axis=-2).reshape(8, 4, 4)
    variables = init(quantizer, getkey(), z)
    first, second = (variables["codebook"][f"groups_{g}"]["embedding"] for g in range(2))
    assert np.abs(first - second).max() > 0.1
    z[..., 2:] = 0.0  # one vector for all: all codes of the second group but one are unused
    out, moved = apply(
        quantizer, variables, z, train=True, mutable=("codebook",), rngs={"quantizer": jax.random.key(0)}
    )
    assert float(out.metrics["revived/1"]) == 7.0 > float(out.metrics["revived/0"])
    assert float(out.metrics["revived"]) == float(out.metrics["revived/0"] + out.metrics["revived/1"])
    np.testing.assert_array_equal(moved["codebook"]["groups_1"]["embedding"], np.zeros((8, 2)))


def test_revivals_of_parameters_are_nested_like_the_parameters(getkey):
    quantizer, z = nn.GroupedQuantizer(INNER["gradient"], 2), normal(2, 2, 6)
    variables = init(quantizer, getkey(), z)
    out, _ = apply(
        quantizer, variables, z, train=True, mutable=("codebook",), rngs={"quantizer": jax.random.key(0)}
    )
    shapes = jax.tree.map(lambda revival: revival.vectors.shape, out.revival, is_leaf=is_revival)
    assert shapes == jax.tree.map(jnp.shape, variables["params"])


def is_revival(node):
    return isinstance(node, nn.Revival)


@pytest.mark.parametrize("name", ["ema", "gradient"])
def test_groups_are_fitted_by_kmeans_each(name, getkey):
    quantizer = nn.GroupedQuantizer(INNER[name], 2)
    z = np.concatenate([normal(2, 64, WIDTH), 5.0 + normal(2, 64, WIDTH, seed=1)], axis=-1)
    variables = init(quantizer, getkey(), z)
    params, codebook = quantizer.fit(
        jax.random.key(0), variables.get("params", {}), variables["codebook"], jnp.asarray(z)
    )
    new = {"params": params, "codebook": codebook} if params else {"codebook": codebook}
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, variables)
    before, after = (apply(quantizer, some, z).metrics["commitment_loss"] for some in (variables, new))
    assert float(after) < 0.5 < float(before)


def test_groups_of_groups_have_the_codes_of_all_group_by_group(getkey):
    inner = nn.GroupedQuantizer(nn.FSQ((3, 5)), 2)
    quantizer, z = nn.GroupedQuantizer(inner, 3), normal(2, 4, 12)
    out = apply(quantizer, {}, z)
    assert quantizer.code_spec((4, 12)) == nn.CodeSpec((4,), 15, 6) and out.indices.shape == (2, 4, 6)
    flat = apply(nn.GroupedQuantizer(nn.FSQ((3, 5)), 6), {}, z)
    np.testing.assert_array_equal(out.indices, flat.indices)
    np.testing.assert_array_equal(apply(quantizer, {}, out.indices, method="lookup"), out.quantized)
    for number in range(6):
        assert float(out.metrics[f"usage/{number}"]) == float(flat.metrics[f"usage/{number}"])


def test_one_group_is_the_quantizer_itself():
    quantizer, z = nn.GroupedQuantizer(nn.FSQ((5, 3)), 1), normal(2, 4, 2)
    out, alone = apply(quantizer, {}, z), apply(nn.FSQ((5, 3)), {}, z)
    np.testing.assert_array_equal(out.indices, alone.indices)
    assert quantizer.code_spec((4, 2)) == nn.CodeSpec((4,), 15) and set(out.metrics) == set(alone.metrics)
    np.testing.assert_array_equal(apply(quantizer, {}, out.indices, method="lookup"), out.quantized)


class TwoGrids(nn.VectorQuantizerEMA):
    """One that gives a tuple of grids."""

    def code_spec(self, latent_shape):
        """Two specs."""
        return (nn.CodeSpec((1,), 8), nn.CodeSpec((2,), 8))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: nn.GroupedQuantizer(nn.FSQ((3,)), 0), "GroupedQuantizer.num_groups must be at least 1, got"),
        (
            lambda: nn.GroupedQuantizer(nn.FSQ((3, 3)), 2).apply({}, jnp.zeros((2, 5))),
            r"a number of channels that divides into num_groups = 2, got latents of shape \(2, 5\): give the",
        ),
        (
            lambda: nn.GroupedQuantizer(nn.FSQ((3, 3)), 2).apply({}, jnp.zeros((2, 6))),
            r"shape \(2, 6\) into 2 groups. For each group: FSQ expected latents with 2 channels",
        ),
        (
            lambda: nn.GroupedQuantizer(nn.FSQ((3, 3)), 2).apply(
                {}, jnp.zeros((2, 4, 3), jnp.int32), method="lookup"
            ),
            r"expected 2 codes per position, along the last axis, got codes of shape \(2, 4, 3\): were they",
        ),
        (
            lambda: nn.GroupedQuantizer(TwoGrids(8, 4), 2).code_spec((4, 8)),
            "expected a quantizer with one grid of codes, got TwoGrids, which has 2",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_mean_gradient_of_the_losses_reaches_each_codebook(getkey):
    quantizer, z = nn.GroupedQuantizer(nn.VectorQuantizer(4, 2), 2), normal(5, 4)
    variables = init(quantizer, getkey(), z)

    def loss(params):
        return quantizer.apply({**variables, "params": params}, jnp.asarray(z)).loss

    gradient = jax.jit(jax.grad(loss))(variables["params"])
    for number in range(2):
        table = variables["params"][f"groups_{number}"]["embedding"]
        part = z[:, 2 * number : 2 * number + 2]
        indices = np.asarray(ops.nearest_code(jnp.asarray(part), table))
        expected = np.zeros((4, 2))
        np.add.at(expected, indices, 2 * (np.asarray(table)[indices] - part) / part.size / 2)
        np.testing.assert_allclose(gradient[f"groups_{number}"]["embedding"], expected, atol=1e-6)
