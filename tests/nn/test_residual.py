"""Residual quantization against a loop over its stages; what every quantizer does is in the contract test."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jitted import apply, init

from vq_jax import nn, ops

STAGES = 3


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


INNER = {
    "ema": nn.VectorQuantizerEMA(8, 4),
    "gradient": nn.VectorQuantizer(8, 4),
    "fsq": nn.FSQ((5, 3, 4, 4)),
}
EMA = nn.VectorQuantizerEMA(8, 4, revive_threshold=0.5)


def of_stage(variables, number):
    return {name: tree[f"stages_{number}"] for name, tree in variables.items()}


def trained(quantizer, variables, z, key=0):
    rngs = {"quantizer": jax.random.key(key)}
    return apply(quantizer, variables, z, train=True, mutable=("codebook",), rngs=rngs)


@pytest.mark.parametrize("name", INNER)
def test_each_stage_quantizes_what_is_left_over(name, getkey):
    quantizer, z = nn.ResidualQuantizer(INNER[name], STAGES), normal(4, 5, 4)
    variables = init(quantizer, getkey(), z)
    out = apply(quantizer, variables, z)
    residual, total, losses, usage = z, np.zeros_like(z), [], []
    for number in range(STAGES):
        single = apply(INNER[name], of_stage(variables, number), residual)
        np.testing.assert_array_equal(out.indices[..., number], single.indices)
        losses.append(single.loss)
        usage.append(single.metrics["usage"])
        total, residual = total + single.quantized, residual - single.quantized
        first = apply(quantizer, variables, out.indices[..., : number + 1], method="lookup")
        np.testing.assert_allclose(first, total, atol=1e-6)
    np.testing.assert_allclose(out.quantized, total, atol=1e-6)
    np.testing.assert_allclose(out.loss, np.sum(losses), rtol=1e-5)
    np.testing.assert_allclose([out.metrics[f"usage/{number}"] for number in range(STAGES)], usage)
    np.testing.assert_allclose(out.metrics["usage"], np.mean(usage), rtol=1e-6)


def test_the_loss_is_the_distance_of_the_latents_to_the_sums_of_the_first_stages(getkey):
    quantizer, z = nn.ResidualQuantizer(nn.VectorQuantizerEMA(8, 4, commitment_weight=0.5), 3), normal(6, 4)
    variables = init(quantizer, getkey(), z)
    out = apply(quantizer, variables, z)
    expected = sum(
        0.5 * np.mean((z - np.asarray(apply(quantizer, variables, out.indices[:, :n], method="lookup"))) ** 2)
        for n in (1, 2, 3)
    )
    np.testing.assert_allclose(out.loss, expected, rtol=1e-5)


@pytest.mark.parametrize("gradient, times", [("stages", 3.0), ("whole", 1.0)])
def test_the_gradient_of_the_output_is_the_sum_of_the_stages_or_the_identity(gradient, times, getkey):
    quantizer = nn.ResidualQuantizer(INNER["ema"], STAGES, output_gradient=gradient)
    z, weight = normal(6, 4), normal(6, 4, seed=1)
    variables = init(quantizer, getkey(), z)
    found = jax.jit(jax.grad(lambda z: (weight * quantizer.apply(variables, z).quantized).sum()))(
        jnp.asarray(z)
    )
    np.testing.assert_allclose(found, times * weight, rtol=1e-6)


def test_a_shared_codebook_follows_the_latents_of_all_stages_in_one_update(getkey):
    quantizer, z = nn.ResidualQuantizer(EMA, STAGES, shared=True), normal(8, 6, 4)
    variables = init(quantizer, getkey(), z)
    assert list(variables["codebook"]) == ["stages_0"]
    out, moved = trained(quantizer, variables, z)
    alone = nn.ResidualQuantizer(EMA, STAGES)
    three = {"codebook": {f"stages_{i}": variables["codebook"]["stages_0"] for i in range(STAGES)}}
    apart = apply(alone, three, z)
    np.testing.assert_array_equal(out.indices, apart.indices)
    np.testing.assert_allclose(out.loss, apart.loss, rtol=1e-6)
    counts = np.bincount(np.asarray(out.indices).ravel(), minlength=8)
    dead = counts < 0.5
    expected = np.where(dead, 0.5, counts)
    np.testing.assert_array_equal(moved["codebook"]["stages_0"]["cluster_size"], expected)
    assert float(out.metrics["revived"]) == dead.sum()
    residuals, residual = [], z
    for n in range(STAGES):
        residuals.append(residual)
        residual = z - np.asarray(apply(alone, three, apart.indices[..., : n + 1], method="lookup"))
    sums = np.zeros((8, 4))
    for n in range(STAGES):
        np.add.at(sums, np.asarray(out.indices)[..., n].ravel(), residuals[n].reshape(-1, 4))
    found = np.asarray(moved["codebook"]["stages_0"]["embedding_sum"])
    np.testing.assert_allclose(found[~dead], sums[~dead], atol=1e-5)


def test_a_shared_codebook_learns_by_gradient_from_all_stages(getkey):
    inner = nn.VectorQuantizer(4, 2, revive_threshold=0.5)
    quantizer, z = nn.ResidualQuantizer(inner, 2, shared=True), normal(6, 2)
    variables = init(quantizer, getkey(), z)
    gradient = jax.jit(
        jax.grad(lambda params: quantizer.apply({**variables, "params": params}, jnp.asarray(z)).loss)
    )(variables["params"])["stages_0"]["embedding"]
    table, expected, residual = np.asarray(variables["params"]["stages_0"]["embedding"]), 0.0, z
    for _ in range(2):
        indices = np.asarray(ops.nearest_code(jnp.asarray(residual), jnp.asarray(table)))
        part = np.zeros((4, 2))
        np.add.at(part, indices, 2 * (table[indices] - residual) / z.size)
        expected, residual = expected + part, residual - table[indices]
    np.testing.assert_allclose(gradient, expected, atol=1e-6)
    out, _ = trained(quantizer, variables, z)
    assert out.revival["stages_0"]["embedding"].mask.shape == (4,)


def test_stages_are_left_out_in_training_by_one_draw_for_all(getkey):
    inner = nn.ResidualQuantizer(INNER["gradient"], 4, min_stages=2)
    quantizer, z = nn.GroupedQuantizer(inner, 2), normal(4, 5, 8)
    variables = init(quantizer, getkey(), z)
    whole = apply(quantizer, variables, z)
    seen = set()
    for key in range(12):
        out, _ = trained(quantizer, variables, z, key)
        np.testing.assert_array_equal(out.indices, whole.indices)  # of all stages
        kept = []
        for group in range(2):
            of_group = {name: tree[f"groups_{group}"] for name, tree in variables.items()}
            codes = whole.indices[..., 4 * group : 4 * group + 4]
            sums = [apply(inner, of_group, codes[..., :n], method="lookup") for n in (2, 3, 4)]
            part = out.quantized[..., 4 * group : 4 * group + 4]
            (match,) = [n for n, vectors in enumerate(sums, 2) if np.allclose(vectors, part, atol=1e-6)]
            kept.append(match)
        assert kept[0] == kept[1]
        assert (float(out.loss) < float(whole.loss)) == (kept[0] < 4)
        seen.add(kept[0])
    assert seen == {2, 3, 4}
    np.testing.assert_allclose(
        whole.quantized, apply(quantizer, variables, whole.indices, method="lookup"), atol=1e-6
    )


def test_stages_left_out_get_no_gradient_and_need_a_key(getkey):
    quantizer = nn.ResidualQuantizer(INNER["gradient"], 3, min_stages=1)
    z = jnp.asarray(normal(5, 4))
    variables = init(quantizer, getkey(), z)

    @jax.jit
    def norms(key):
        def loss(params):
            options = {"train": True, "mutable": ["codebook"], "rngs": {"quantizer": key}}
            return quantizer.apply({**variables, "params": params}, z, **options)[0].loss

        return jax.tree.map(lambda x: jnp.abs(x).sum(), jax.grad(loss)(variables["params"]))

    learns = set()
    for key in range(10):
        found = norms(jax.random.key(key))
        learns.add(tuple(bool(found[f"stages_{n}"]["embedding"] > 0) for n in range(3)))
    assert learns == {(True, False, False), (True, True, False), (True, True, True)}
    with pytest.raises(ValueError, match=r"min_stages = 1\) and needs a key for it: give rngs="):
        quantizer.apply(variables, z, train=True, mutable=["codebook"])


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("name", ["ema", "gradient"])
def test_stages_are_fitted_to_what_is_left_over(name, shared, getkey):
    quantizer = nn.ResidualQuantizer(INNER[name], 2, shared=shared)
    z = 3.0 * jnp.asarray(normal(2, 64, 4))
    variables = init(quantizer, getkey(), z)
    params, codebook = quantizer.fit(jax.random.key(0), variables.get("params", {}), variables["codebook"], z)
    new = {"params": params, "codebook": codebook} if params else {"codebook": codebook}
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, variables)
    codes = apply(quantizer, new, z).indices
    errors = [
        float(jnp.mean((z - apply(quantizer, new, codes[..., :n], method="lookup")) ** 2)) for n in (1, 2)
    ]
    assert errors[1] < 0.8 * errors[0] < 4.0


def test_stages_of_groups_have_the_codes_of_all_stage_by_stage():
    inner = nn.GroupedQuantizer(nn.FSQ((3, 5)), 2)
    quantizer, z = nn.ResidualQuantizer(inner, 3), normal(2, 4, 4)
    out = apply(quantizer, {}, z)
    assert quantizer.code_spec((4, 4)) == nn.CodeSpec((4,), 15, 6) and out.indices.shape == (2, 4, 6)
    np.testing.assert_array_equal(out.indices[..., :2], apply(inner, {}, z).indices)
    np.testing.assert_allclose(
        apply(quantizer, {}, out.indices[..., :2], method="lookup"), apply(inner, {}, z).quantized, atol=1e-6
    )
    with pytest.raises(ValueError, match="has 3 stages and expected codes"):
        apply(quantizer, {}, out.indices[..., :3], method="lookup")


def test_one_stage_is_the_quantizer_itself():
    quantizer, z = nn.ResidualQuantizer(nn.FSQ((5, 3)), 1), normal(2, 4, 2)
    out, alone = apply(quantizer, {}, z), apply(nn.FSQ((5, 3)), {}, z)
    np.testing.assert_array_equal(out.indices, alone.indices)
    assert quantizer.code_spec((4, 2)) == nn.CodeSpec((4,), 15) and set(out.metrics) == set(alone.metrics)
    np.testing.assert_array_equal(apply(quantizer, {}, out.indices, method="lookup"), out.quantized)


@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 4, 0)])
def test_more_stages_than_there_are_are_refused(shape):
    quantizer = nn.ResidualQuantizer(nn.FSQ((3, 3)), 4)
    with pytest.raises(
        ValueError, match=r"has 4 stages and expected codes \[B, ..., 4\], or of fewer stages"
    ):
        quantizer.apply({}, jnp.zeros(shape, jnp.int32), method="lookup")


@pytest.mark.parametrize(
    "inner, fields, message",
    [
        (nn.FSQ((3,)), {"num_stages": 0}, "ResidualQuantizer.num_stages must be at least 1, got 0"),
        (
            nn.FSQ((3,)),
            {"num_stages": 2, "min_stages": 3},
            "min_stages must be at most num_stages = 2, got 3",
        ),
        (nn.FSQ((3,)), {"num_stages": 2, "min_stages": 0}, "min_stages must be at least 1, got 0"),
        (
            nn.FSQ((3,)),
            {"num_stages": 2, "shared": True},
            "shared needs a quantizer with a codebook of vecto",
        ),
        (
            nn.FSQ((3,)),
            {"num_stages": 2, "output_gradient": "sum"},
            "must be one of stages, whole, got 'sum'",
        ),
    ],
)
def test_fields_that_do_not_fit_are_refused(inner, fields, message):
    with pytest.raises(ValueError, match=message):
        nn.ResidualQuantizer(inner, **fields)
