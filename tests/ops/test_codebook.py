"""Codebook arithmetic against plain NumPy and worked cases."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, PartitionSpec

from vq_jax import ops
from vq_jax.ops import codebook

SEARCHES = {
    "blocked": jax.jit(codebook._nearest_blocked),
    "argmin": jax.jit(codebook._nearest_argmin),
    "by rows": jax.jit(codebook._nearest_by_rows),
    "public": jax.jit(ops.nearest_code),
}
code_statistics = jax.jit(ops.code_statistics, static_argnums=2)
entropy_loss = jax.jit(ops.entropy_loss, static_argnums=2)
kmeans = jax.jit(ops.kmeans, static_argnums=(2, 3))
perplexity = jax.jit(ops.perplexity)
sample_vectors = jax.jit(ops.sample_vectors, static_argnums=2)
squared_distances = jax.jit(ops.squared_distances)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def numpy_distances(z, codes):
    z, codes = np.asarray(z, np.float64), np.asarray(codes, np.float64)
    return ((z[:, None, :] - codes[None, :, :]) ** 2).sum(-1)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_squared_distances_match_numpy(dtype):
    z, codes = normal(20, 7).astype(dtype), normal(11, 7, seed=1).astype(dtype)
    distances = squared_distances(z, codes)
    assert distances.dtype == jnp.float32
    # float32 rounding of sums of about 40
    np.testing.assert_allclose(distances, numpy_distances(z, codes), atol=2e-5)


def test_squared_distances_are_never_negative():
    z = np.float32(100.0) + np.float32(1e-3) * normal(50, 8)
    assert np.asarray(squared_distances(z, z)).min() >= 0.0


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize(
    "rows,width,size", [(1, 3, 1), (7, 5, 4), (1030, 6, 33), (2500, 4, 1500), (1, 8, 2048)]
)
def test_nearest_code_is_the_nearest(name, rows, width, size):
    z, codes = normal(rows, width), normal(size, width, seed=1)
    indices = np.asarray(SEARCHES[name](z, codes))
    distances = numpy_distances(z, codes)
    assert indices.dtype == np.int32 and indices.shape == (rows,)
    chosen = distances[np.arange(rows), indices]
    # a near tie may go either way in float32
    assert np.all(chosen <= distances.min(1) + 1e-4)
    assert np.mean(indices == distances.argmin(1)) > 0.999 or rows < 1000


@pytest.mark.parametrize("name", SEARCHES)
def test_the_lowest_index_wins_a_tie(name):
    codes = np.tile(np.array([[0.0, 0.0], [1.0, 1.0]], np.float32), (600, 1))  # beyond one block of codes
    z = np.array([[0.9, 0.9], [0.1, 0.0]], np.float32)
    assert SEARCHES[name](z, codes).tolist() == [1, 0]


@pytest.mark.parametrize("name", SEARCHES)
def test_a_nan_row_gets_an_index_in_range(name):
    z = np.array([[np.nan, 0.0], [1.0, 0.0]], np.float32)
    codes = np.array([[0.0, 0.0], [1.0, 0.0]], np.float32)
    indices = SEARCHES[name](z, codes)
    assert 0 <= int(indices[0]) < 2 and int(indices[1]) == 1


def test_row_blocks_of_a_sharded_batch_need_no_gather():
    from vq_jax.train.sharding import batch_sharding, make_mesh

    mesh = make_mesh()
    whole, codes = normal(4096, 8), normal(16, 8, seed=1)
    z = jax.device_put(whole, batch_sharding(mesh))
    compiled = jax.jit(ops.nearest_code).lower(z, codes).compile()
    assert "all-gather" not in compiled.as_text()
    np.testing.assert_array_equal(compiled(z, codes), SEARCHES["argmin"](whole, codes))


def test_nearest_code_passes_no_gradient():
    z, codes = normal(6, 3), normal(4, 3, seed=1)

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def gradients(z, codes):
        return jnp.sum(codes[ops.nearest_code(z, codes)]) + 0.0 * jnp.sum(z)

    assert np.abs(gradients(z, codes)[0]).max() == 0.0


def test_straight_through_is_the_code_forward_and_the_identity_backward():
    z, q, weight = (normal(5, 3, seed=seed) for seed in range(3))

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
    def run(z, q):
        out = ops.straight_through(z, q)
        return jnp.sum(weight * out), out

    (_, out), grads = run(z, q)
    # z + (q - z) rounds twice
    np.testing.assert_allclose(out, q, atol=1e-6)
    np.testing.assert_array_equal(grads[0], weight)
    np.testing.assert_array_equal(grads[1], np.zeros_like(q))


def test_code_statistics_match_numpy_on_every_backend_path():
    z = normal(100, 5)
    indices = np.random.default_rng(1).integers(0, 12, 100, np.int32)
    counts, sums = code_statistics(z, indices, 12)
    expected = np.zeros((12, 5))
    np.add.at(expected, indices, np.asarray(z, np.float64))
    np.testing.assert_array_equal(counts, np.bincount(indices, minlength=12))
    np.testing.assert_allclose(sums, expected, atol=1e-5)  # float32 sums of about ten
    assert np.asarray(counts).sum() == 100.0
    grad = jax.jit(jax.grad(lambda z: jnp.sum(code_statistics(z, indices, 12)[1])))(z)
    assert np.abs(grad).max() == 0.0


def test_the_first_average_is_the_batch_and_later_ones_are_debiased():
    averages = ops.CodeAverages(
        np.zeros(2, np.float32), np.zeros((2, 1), np.float32), np.ones((), np.float32)
    )
    decay, hidden = 0.9, np.zeros(2)
    update = jax.jit(ops.update_averages, static_argnums=3)
    for step, counts in enumerate(([4.0, 0.0], [2.0, 2.0], [0.0, 6.0]), start=1):
        counts = np.array(counts, np.float32)
        averages = update(averages, counts, counts[:, None] * 3.0, decay)
        hidden = decay * hidden + (1 - decay) * counts
        # rounding of 1 - decay^t
        np.testing.assert_allclose(averages.cluster_size, hidden / (1 - decay**step), rtol=1e-5)
    np.testing.assert_allclose(averages.zero_weight, decay**3, rtol=1e-6)


def test_codebook_from_averages_smooth_counts_and_keep_their_total():
    size, total, epsilon = np.array([3.0, 0.0, 5.0]), np.array([[6.0], [0.0], [-5.0]]), 1e-2
    averages = ops.CodeAverages(size.astype(np.float32), total.astype(np.float32), np.zeros((), np.float32))
    smoothed = (size + epsilon) / (8.0 + 3 * epsilon) * 8.0
    assert smoothed.sum() == pytest.approx(8.0)
    np.testing.assert_allclose(
        jax.jit(ops.codebook_from_averages, static_argnums=1)(averages, epsilon),
        total / smoothed[:, None],
        rtol=1e-6,
    )


@pytest.mark.parametrize("rows,num", [(64, 16), (64, 64), (50, 13)])
def test_sampled_vectors_are_distinct_rows(getkey, rows, num):
    z = np.arange(rows, dtype=np.float32)[:, None]
    drawn = [np.asarray(sample_vectors(getkey(), z, num))[:, 0] for _ in range(20)]
    for sample in drawn:
        assert len(set(sample.tolist())) == num
    # over many draws every place of the sample meets early and late rows
    assert np.stack(drawn).min(0).max() < rows / 2 < np.stack(drawn).max(0).min()


def test_more_samples_than_rows_repeat_rows(getkey):
    z = np.arange(3, dtype=np.float32)[:, None]
    assert set(np.asarray(sample_vectors(getkey(), z, 10))[:, 0].tolist()) == {0.0, 1.0, 2.0}


def test_perplexity_lies_between_one_and_the_codebook_size():
    assert float(perplexity(np.array([0.0, 9.0, 0.0], np.float32))) == pytest.approx(1.0, abs=1e-5)
    assert float(perplexity(np.full(8, 3.0, np.float32))) == pytest.approx(8.0, rel=1e-5)
    assert 1.0 < float(perplexity(np.array([1.0, 5.0, 2.0], np.float32))) < 3.0


def test_usage_does_not_depend_on_the_order_of_codes():
    usage = jax.jit(ops.usage)
    counts = np.array([0.0, 3.0, 0.0, 1.0], np.float32)
    assert float(usage(counts)) == float(usage(counts[[3, 2, 0, 1]])) == 0.5


def test_entropy_loss_is_lowest_for_certain_and_even_use():
    codes = np.array([[0.0], [1.0], [2.0], [3.0]], np.float32)
    even = entropy_loss(codes, codes, 0.01)
    one = entropy_loss(np.zeros((4, 1), np.float32), codes, 0.01)
    unsure = entropy_loss(np.full((4, 1), 1.5, np.float32), codes, 0.01)
    assert float(even) == pytest.approx(-np.log(4), abs=1e-4)
    assert float(one) == pytest.approx(0.0, abs=1e-4)
    assert float(even) < float(unsure)


def test_entropy_loss_matches_numpy():
    z, codes = normal(9, 4), normal(5, 4, seed=1)
    logits = -numpy_distances(z, codes) / 0.7
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    mean = p.mean(0)
    expected = -(p * np.log(p)).sum(1).mean() + (mean * np.log(mean)).sum()
    assert float(entropy_loss(z, codes, 0.7)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("axis_name", [None, "data"])
def test_use_of_a_billion_codes_is_that_of_the_codes_that_occur(axis_name):
    indices = np.array([7, 2**30 - 1, 7, 0, 5, 5, 2**29, 7], np.int32)
    few = np.array([2, 3, 2, 0, 1, 1, 4, 2], np.int32)

    def use(size, codes):
        function = functools.partial(ops.code_use, codebook_size=size, axis_name=axis_name)
        if axis_name:
            mesh = Mesh(np.array(jax.devices()), ("data",), axis_types=(AxisType.Auto,))
            places = {"in_specs": PartitionSpec("data"), "out_specs": PartitionSpec()}
            function = jax.shard_map(function, mesh=mesh, **places)
        return [float(figure) for figure in jax.jit(function)(codes)]

    (many, share), (counted, whole) = use(2**30, indices), use(5, few)
    assert many == pytest.approx(counted, rel=1e-6)
    assert (share, whole) == (5 / 2**30, 1.0)


def test_kmeans_finds_separated_clusters():
    centres = np.float32(10.0) * normal(16, 6)
    points = np.tile(centres, (32, 1)) + np.float32(0.01) * normal(512, 6, seed=1)
    # From an unlucky start, with another key, k-means keeps missing a cluster.
    found, counts = kmeans(jax.random.key(8), points, 32, 20)
    assert np.asarray(counts).sum() == 512.0
    distances = numpy_distances(centres, found)
    assert distances.min(1).max() < 0.01


def test_kmeans_lowers_the_error_of_its_start(getkey):
    points = normal(400, 3)
    key = getkey()
    errors = [
        numpy_distances(points, kmeans(key, points, 20, rounds)[0]).min(1).mean() for rounds in (0, 1, 8)
    ]
    assert errors[0] > errors[1] > errors[2]


def test_normalized_vectors_have_length_one_and_zero_stays_finite():
    x = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    np.testing.assert_allclose(jax.jit(ops.normalize_vectors)(x), [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)
    grad = jax.jit(jax.grad(lambda x: jnp.sum(ops.normalize_vectors(x))))(x)
    assert np.isfinite(grad).all()
