"""Quantizers against a NumPy oracle, and the rules of when a codebook may change."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jitted import apply, init

from vq_jax import nn

KINDS = [nn.VectorQuantizer, nn.VectorQuantizerEMA]


def numpy_nearest(z, codes):
    flat = np.asarray(z, np.float64).reshape(-1, codes.shape[1])
    distances = ((flat[:, None, :] - np.asarray(codes, np.float64)[None]) ** 2).sum(-1)
    return distances.argmin(1), flat


def codes_of(quantizer, variables):
    return np.asarray(apply(quantizer, variables, method="codebook"))


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def trained(quantizer, variables, z, rng=None):
    """Output and changed codebook of one training pass."""
    rngs = None if rng is None else {"quantizer": rng}
    return apply(quantizer, variables, z, train=True, mutable=("codebook",), rngs=rngs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spatial", [(), (5,), (3, 4), (2, 3, 2)])
def test_output_is_the_nearest_code_for_any_number_of_spatial_axes(getkey, kind, spatial):
    quantizer = kind(codebook_size=9, code_dim=4)
    z = normal(2, *spatial, 4)
    variables = init(quantizer, getkey(), z)
    out = apply(quantizer, variables, z)
    codes = codes_of(quantizer, variables)
    nearest, _ = numpy_nearest(z, codes)
    assert out.indices.shape == (2, *spatial) and out.indices.dtype == jnp.int32
    np.testing.assert_array_equal(np.asarray(out.indices).reshape(-1), nearest)
    # straight-through adds and subtracts z, which rounds
    np.testing.assert_allclose(out.quantized, codes[nearest].reshape(z.shape), atol=1e-6)
    np.testing.assert_array_equal(
        apply(quantizer, variables, out.indices, method="lookup"), codes[nearest].reshape(z.shape)
    )


def test_gradient_quantizer_loss_puts_beta_on_the_commitment_term(getkey):
    quantizer = nn.VectorQuantizer(9, 4, commitment_weight=0.25, codebook_weight=2.0)
    z = normal(2, 3, 4)
    variables = init(quantizer, getkey(), z)

    def loss(params, z):
        return quantizer.apply({**variables, "params": params}, z).loss

    value, (params_grad, z_grad) = jax.jit(jax.value_and_grad(loss, (0, 1)))(variables["params"], z)
    codes = codes_of(quantizer, variables)
    nearest, flat = numpy_nearest(z, codes)
    difference = codes[nearest] - flat
    assert float(value) == pytest.approx(2.25 * np.mean(difference**2), rel=1e-5)
    np.testing.assert_allclose(
        np.reshape(z_grad, (-1, 4)), -0.25 * 2 * difference / difference.size, atol=1e-6
    )
    expected = np.zeros((9, 4))
    np.add.at(expected, nearest, 2.0 * 2 * difference / difference.size)
    np.testing.assert_allclose(params_grad["embedding"], expected, atol=1e-6)


def test_gradient_passes_straight_through_the_quantizer(getkey):
    quantizer = nn.VectorQuantizerEMA(9, 4, commitment_weight=0.0)
    z, weight = normal(2, 3, 4), normal(2, 3, 4, seed=1)
    variables = init(quantizer, getkey(), z)
    grad = jax.jit(jax.grad(lambda z: jnp.sum(weight * quantizer.apply(variables, z).quantized)))(z)
    np.testing.assert_allclose(grad, weight, rtol=1e-6)


def test_ema_updates_match_numpy(getkey):
    decay, epsilon = 0.9, 1e-3
    quantizer = nn.VectorQuantizerEMA(6, 3, decay=decay, epsilon=epsilon)
    z = normal(4, 5, 3)
    variables = init(quantizer, getkey(), z)
    codes = codes_of(quantizer, variables).astype(np.float64)
    size, total = np.zeros(6), np.zeros((6, 3))
    for step in range(1, 6):
        z = normal(4, 5, 3, seed=step)
        _, updates = trained(quantizer, variables, z)
        variables = {**variables, **updates}
        nearest, flat = numpy_nearest(z, codes)
        counts, sums = np.bincount(nearest, minlength=6), np.zeros((6, 3))
        np.add.at(sums, nearest, flat)
        size = decay * size + (1 - decay) * counts
        total = decay * total + (1 - decay) * sums
        n, m = size / (1 - decay**step), total / (1 - decay**step)
        codes = m / ((n + epsilon) / (n.sum() + 6 * epsilon) * n.sum())[:, None]
        np.testing.assert_allclose(codes_of(quantizer, variables), codes, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(variables["codebook"]["cluster_size"], n, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(variables["codebook"]["embedding_sum"], m, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_codebook_moves_only_in_training_with_the_collection_mutable(getkey, kind):
    quantizer = kind(8, 4)
    z = normal(3, 5, 4)
    variables = init(quantizer, getkey(), z)
    assert np.asarray(variables["codebook"]["cluster_size"]).sum() == 0.0  # init counts nothing
    _, evaluated = apply(quantizer, variables, z, mutable=("codebook",))
    for before, after in zip(
        jax.tree.leaves(variables["codebook"]), jax.tree.leaves(evaluated["codebook"]), strict=True
    ):
        np.testing.assert_array_equal(before, after)
    apply(quantizer, variables, z, train=True)  # no mutable collection: no error, no change
    _, updates = trained(quantizer, variables, z)
    assert np.asarray(updates["codebook"]["cluster_size"]).sum() == pytest.approx(15.0)


@pytest.mark.parametrize("kind", KINDS)
def test_latents_of_any_dtype_are_compared_in_float32(getkey, kind):
    quantizer = kind(64, 8)
    z = normal(4, 16, 8).astype(jnp.bfloat16)
    variables = init(quantizer, getkey(), z)
    out = apply(quantizer, variables, z)
    exact = apply(quantizer, variables, z.astype(np.float32))
    assert out.quantized.dtype == jnp.bfloat16 and out.loss.dtype == jnp.float32
    np.testing.assert_array_equal(out.indices, exact.indices)
    assert float(out.loss) == float(exact.loss)


@pytest.mark.parametrize("kind", KINDS)
def test_normalized_codes_have_length_one_before_and_after_an_update(getkey, kind):
    quantizer = kind(8, 4, normalize=True)
    z = np.float32(5.0) * normal(3, 20, 4)
    variables = init(quantizer, getkey(), z)
    out, updates = trained(quantizer, variables, z)
    for codes in (codes_of(quantizer, variables), codes_of(quantizer, {**variables, **updates})):
        np.testing.assert_allclose(np.linalg.norm(codes, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(out.quantized, axis=-1), 1.0, rtol=1e-5)
    nearest, _ = numpy_nearest(z / np.linalg.norm(z, axis=-1, keepdims=True), codes_of(quantizer, variables))
    np.testing.assert_array_equal(np.reshape(out.indices, -1), nearest)


def clusters(rows=512):
    """Sixteen distant clusters, and an initial codebook near one of them."""
    centres = 20.0 + 10.0 * normal(16, 6)
    return (centres[np.arange(rows) % 16] + 0.05 * normal(rows, 6, seed=1)).astype(np.float32)


def used_after_training(getkey, quantizer, steps=30):
    z = clusters()
    variables = init(quantizer, getkey(), z)
    for _ in range(steps):
        _, updates = trained(quantizer, variables, z, getkey())
        variables = {**variables, **updates}
    return variables, apply(quantizer, variables, z).metrics


def test_revival_brings_usage_to_all_codes_and_without_it_some_stay_dead(getkey):
    revived = nn.VectorQuantizerEMA(16, 6, decay=0.9, revive_threshold=1.0)
    _, metrics = used_after_training(getkey, revived)
    assert float(metrics["usage"]) == 1.0
    _, metrics = used_after_training(getkey, nn.VectorQuantizerEMA(16, 6, decay=0.9))
    assert float(metrics["usage"]) < 1.0


def test_revival_replaces_dead_codes_by_latents_and_resets_their_statistics(getkey):
    quantizer = nn.VectorQuantizerEMA(16, 6, revive_threshold=1.0)
    z = clusters()
    variables = init(quantizer, getkey(), z)
    key = getkey()
    out, updates = trained(quantizer, variables, z, key)
    counts = np.bincount(np.asarray(out.indices).reshape(-1), minlength=16)
    dead = counts < 1
    state = jax.tree.map(np.asarray, updates["codebook"])
    assert dead.sum() == float(out.metrics["revived"]) > 0
    for code in state["embedding"][dead]:
        assert np.abs(np.asarray(z) - code).sum(-1).min() == 0.0
    np.testing.assert_array_equal(
        state["embedding_sum"][dead], state["embedding"][dead] * state["cluster_size"][dead, None]
    )
    assert state["cluster_size"][dead].min() >= 1.0
    _, again = trained(quantizer, variables, z, key)
    np.testing.assert_array_equal(again["codebook"]["embedding"], state["embedding"])


def test_gradient_quantizer_requests_the_revival_of_dead_rows(getkey):
    quantizer = nn.VectorQuantizer(16, 6, revive_threshold=1.0)
    z = clusters()
    variables = init(quantizer, getkey(), z)
    out, _ = trained(quantizer, variables, z, getkey())
    counts = np.bincount(np.asarray(out.indices).reshape(-1), minlength=16)
    np.testing.assert_array_equal(out.revival["embedding"].mask, counts < 1)
    assert not apply(nn.VectorQuantizer(16, 6), variables, z, train=True).revival


@pytest.mark.parametrize("kind", KINDS)
def test_fit_sets_the_codebook_by_kmeans(getkey, kind):
    quantizer = kind(16, 6)
    z = clusters()
    variables = init(quantizer, getkey(), z)
    before = np.square(np.asarray(apply(quantizer, variables, z).quantized) - z).mean()
    params, codebook = jax.jit(quantizer.fit)(
        getkey(), variables.get("params", {}), variables["codebook"], z.reshape(2, 256, 6)
    )
    fitted = {"params": params, "codebook": codebook}
    assert jax.tree.structure(fitted["codebook"]) == jax.tree.structure(variables["codebook"])
    after = np.square(np.asarray(apply(quantizer, fitted, z).quantized) - z).mean()
    assert after < 0.2 * before
    assert np.asarray(codebook["cluster_size"]).sum() == pytest.approx(256.0)  # the vectors of one batch
    # the first update keeps what was fitted
    out, updates = trained(quantizer, fitted, z)
    moved = codes_of(quantizer, {**fitted, **updates}) - codes_of(quantizer, fitted)
    used = np.unique(np.asarray(out.indices))
    assert np.abs(moved[used]).max() < 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_entropy_term_is_off_by_default_and_adds_to_the_loss_when_on(getkey, kind):
    z = normal(3, 5, 4)
    off, on = kind(8, 4), kind(8, 4, entropy_weight=0.3, entropy_temperature=0.5)
    variables = init(off, getkey(), z)
    without, with_term = apply(off, variables, z), apply(on, variables, z)
    assert "entropy_loss" not in without.metrics
    assert float(with_term.loss) == pytest.approx(
        float(without.loss) + 0.3 * float(with_term.metrics["entropy_loss"]), rel=1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_width_is_refused_with_both_numbers(getkey, kind):
    with pytest.raises(ValueError, match=r"code_dim = 4, got shape \(2, 3, 5\)"):
        jax.eval_shape(kind(8, 4).init, getkey(), jax.ShapeDtypeStruct((2, 3, 5), jnp.float32))


@pytest.mark.parametrize(
    "fields,message",
    [
        ({"codebook_size": 0}, "codebook_size must be at least 1, got 0"),
        ({"code_dim": 0}, "code_dim must be at least 1, got 0"),
        ({"commitment_weight": -1.0}, "commitment_weight must be at least 0"),
        ({"decay": 1.0}, r"decay must lie in \[0, 1\), got 1.0"),
        ({"revive_threshold": -0.1}, "revive_threshold must be at least 0"),
        ({"entropy_temperature": 0.0}, "entropy_temperature must be positive"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_bad_fields_are_refused_when_the_module_is_made(kind, fields, message):
    with pytest.raises(ValueError, match=message):
        kind(**{"codebook_size": 8, "code_dim": 4, **fields})


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_call_under_jit_does_not_compile_again(getkey, kind):
    chex.clear_trace_counter()  # which counts by function name
    quantizer = kind(8, 4, revive_threshold=0.1)
    z = normal(3, 5, 4)
    variables = init(quantizer, getkey(), z)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(variables, z, rng):
        return quantizer.apply(variables, z, train=True, mutable=["codebook"], rngs={"quantizer": rng})

    for _ in range(3):
        _, updates = step(variables, z, getkey())
        variables = {**variables, **updates}
