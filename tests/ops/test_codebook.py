"""Codebook arithmetic against plain NumPy and worked cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax import ops
from vq_jax.ops import codebook

SEARCHES = {
    "blocked": codebook._nearest_blocked,
    "argmin": codebook._nearest_argmin,
    "by rows": codebook._nearest_by_rows,
    "public": ops.nearest_code,
}


def numpy_distances(z, codes):
    z, codes = np.asarray(z, np.float64), np.asarray(codes, np.float64)
    return ((z[:, None, :] - codes[None, :, :]) ** 2).sum(-1)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_squared_distances_match_numpy(getkey, dtype):
    z = jax.random.normal(getkey(), (20, 7), dtype)
    codes = jax.random.normal(getkey(), (11, 7), dtype)
    distances = ops.squared_distances(z, codes)
    assert distances.dtype == jnp.float32
    # float32 rounding of sums of about 40
    np.testing.assert_allclose(distances, numpy_distances(z, codes), atol=2e-5)


def test_squared_distances_are_never_negative(getkey):
    z = 100.0 + 1e-3 * jax.random.normal(getkey(), (50, 8))
    assert float(ops.squared_distances(z, z).min()) >= 0.0


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize(
    "rows,width,size", [(1, 3, 1), (7, 5, 4), (1030, 6, 33), (2500, 4, 1500), (1, 8, 2048)]
)
def test_nearest_code_is_the_nearest(getkey, name, rows, width, size):
    z = jax.random.normal(getkey(), (rows, width))
    codes = jax.random.normal(getkey(), (size, width))
    indices = np.asarray(jax.jit(SEARCHES[name])(z, codes))
    distances = numpy_distances(z, codes)
    assert indices.dtype == np.int32 and indices.shape == (rows,)
    chosen = distances[np.arange(rows), indices]
    # a near tie may go either way in float32
    assert np.all(chosen <= distances.min(1) + 1e-4)
    assert np.mean(indices == distances.argmin(1)) > 0.999 or rows < 1000


@pytest.mark.parametrize("name", SEARCHES)
def test_the_lowest_index_wins_a_tie(name):
    codes = jnp.tile(jnp.array([[0.0, 0.0], [1.0, 1.0]]), (600, 1))  # beyond one block of codes
    z = jnp.array([[0.9, 0.9], [0.1, 0.0]])
    assert SEARCHES[name](z, codes).tolist() == [1, 0]


@pytest.mark.parametrize("name", SEARCHES)
def test_a_nan_row_gets_an_index_in_range(name):
    z = jnp.array([[jnp.nan, 0.0], [1.0, 0.0]])
    codes = jnp.array([[0.0, 0.0], [1.0, 0.0]])
    indices = SEARCHES[name](z, codes)
    assert 0 <= int(indices[0]) < 2 and int(indices[1]) == 1


def test_row_blocks_of_a_sharded_batch_need_no_gather(getkey):
    from vq_jax.train.sharding import batch_sharding, make_mesh

    mesh = make_mesh()
    z = jax.device_put(jax.random.normal(getkey(), (4096, 8)), batch_sharding(mesh))
    codes = jax.random.normal(getkey(), (16, 8))
    compiled = jax.jit(ops.nearest_code).lower(z, codes).compile()
    assert "all-gather" not in compiled.as_text()
    np.testing.assert_array_equal(
        compiled(z, codes), codebook._nearest_argmin(jnp.asarray(np.asarray(z)), codes)
    )


def test_nearest_code_passes_no_gradient(getkey):
    z, codes = jax.random.normal(getkey(), (6, 3)), jax.random.normal(getkey(), (4, 3))
    grads = jax.grad(lambda z, codes: jnp.sum(codes[ops.nearest_code(z, codes)]) + 0.0 * jnp.sum(z), (0, 1))(
        z, codes
    )
    assert float(jnp.abs(grads[0]).max()) == 0.0


def test_straight_through_is_the_code_forward_and_the_identity_backward(getkey):
    z, q = jax.random.normal(getkey(), (5, 3)), jax.random.normal(getkey(), (5, 3))
    weight = jax.random.normal(getkey(), (5, 3))
    # z + (q - z) rounds twice
    np.testing.assert_allclose(ops.straight_through(z, q), q, atol=1e-6)
    grads = jax.grad(lambda z, q: jnp.sum(weight * ops.straight_through(z, q)), (0, 1))(z, q)
    np.testing.assert_array_equal(grads[0], weight)
    np.testing.assert_array_equal(grads[1], jnp.zeros_like(q))


def test_code_statistics_match_numpy_on_every_backend_path(getkey):
    z = jax.random.normal(getkey(), (100, 5))
    indices = jax.random.randint(getkey(), (100,), 0, 12)
    counts, sums = ops.code_statistics(z, indices, 12)
    expected = np.zeros((12, 5))
    np.add.at(expected, np.asarray(indices), np.asarray(z, np.float64))
    np.testing.assert_array_equal(counts, np.bincount(np.asarray(indices), minlength=12))
    np.testing.assert_allclose(sums, expected, atol=1e-5)  # float32 sums of about ten
    assert float(counts.sum()) == 100.0
    grad = jax.grad(lambda z: jnp.sum(ops.code_statistics(z, indices, 12)[1]))(z)
    assert float(jnp.abs(grad).max()) == 0.0


def test_the_first_average_is_the_batch_and_later_ones_are_debiased():
    averages = ops.CodeAverages(jnp.zeros((2,)), jnp.zeros((2, 1)), jnp.ones(()))
    decay, hidden = 0.9, np.zeros(2)
    for step, counts in enumerate(([4.0, 0.0], [2.0, 2.0], [0.0, 6.0]), start=1):
        counts = np.array(counts, np.float32)
        sums = jnp.asarray(counts[:, None] * 3.0)
        averages = ops.update_averages(averages, jnp.asarray(counts), sums, decay)
        hidden = decay * hidden + (1 - decay) * counts
        # rounding of 1 - decay^t
        np.testing.assert_allclose(averages.cluster_size, hidden / (1 - decay**step), rtol=1e-5)
    np.testing.assert_allclose(averages.zero_weight, decay**3, rtol=1e-6)


def test_codebook_from_averages_smooth_counts_and_keep_their_total():
    size, total, epsilon = np.array([3.0, 0.0, 5.0]), np.array([[6.0], [0.0], [-5.0]]), 1e-2
    averages = ops.CodeAverages(
        jnp.asarray(size, jnp.float32), jnp.asarray(total, jnp.float32), jnp.zeros(())
    )
    smoothed = (size + epsilon) / (8.0 + 3 * epsilon) * 8.0
    assert smoothed.sum() == pytest.approx(8.0)
    np.testing.assert_allclose(
        ops.codebook_from_averages(averages, epsilon), total / smoothed[:, None], rtol=1e-6
    )


@pytest.mark.parametrize("rows,num", [(64, 16), (64, 64), (50, 13)])
def test_sampled_vectors_are_distinct_rows(getkey, rows, num):
    z = jnp.arange(rows, dtype=jnp.float32)[:, None]
    drawn = [np.asarray(ops.sample_vectors(getkey(), z, num))[:, 0] for _ in range(20)]
    for sample in drawn:
        assert len(set(sample.tolist())) == num
    # over many draws every place of the sample meets early and late rows
    assert np.stack(drawn).min(0).max() < rows / 2 < np.stack(drawn).max(0).min()


def test_more_samples_than_rows_repeat_rows(getkey):
    z = jnp.arange(3, dtype=jnp.float32)[:, None]
    assert set(np.asarray(ops.sample_vectors(getkey(), z, 10))[:, 0].tolist()) == {0.0, 1.0, 2.0}


def test_perplexity_lies_between_one_and_the_codebook_size():
    assert float(ops.perplexity(jnp.array([0.0, 9.0, 0.0]))) == pytest.approx(1.0, abs=1e-5)
    assert float(ops.perplexity(jnp.full((8,), 3.0))) == pytest.approx(8.0, rel=1e-5)
    assert 1.0 < float(ops.perplexity(jnp.array([1.0, 5.0, 2.0]))) < 3.0


def test_usage_does_not_depend_on_the_order_of_codes(getkey):
    counts = jnp.array([0.0, 3.0, 0.0, 1.0])
    shuffled = jax.random.permutation(getkey(), counts)
    assert float(ops.usage(counts)) == float(ops.usage(shuffled)) == 0.5


def test_entropy_loss_is_lowest_for_certain_and_even_use():
    codes = jnp.array([[0.0], [1.0], [2.0], [3.0]])
    even = ops.entropy_loss(codes, codes, 0.01)
    one = ops.entropy_loss(jnp.zeros((4, 1)), codes, 0.01)
    unsure = ops.entropy_loss(jnp.full((4, 1), 1.5), codes, 0.01)
    assert float(even) == pytest.approx(-np.log(4), abs=1e-4)
    assert float(one) == pytest.approx(0.0, abs=1e-4)
    assert float(even) < float(unsure)


def test_entropy_loss_matches_numpy(getkey):
    z, codes = jax.random.normal(getkey(), (9, 4)), jax.random.normal(getkey(), (5, 4))
    logits = -numpy_distances(z, codes) / 0.7
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    mean = p.mean(0)
    expected = -(p * np.log(p)).sum(1).mean() + (mean * np.log(mean)).sum()
    assert float(ops.entropy_loss(z, codes, 0.7)) == pytest.approx(expected, abs=1e-4)


def test_kmeans_finds_separated_clusters(getkey):
    centres = 10.0 * jax.random.normal(getkey(), (16, 6))
    labels = jnp.tile(jnp.arange(16), 32)
    points = centres[labels] + 0.01 * jax.random.normal(getkey(), (512, 6))
    found, counts = ops.kmeans(getkey(), points, 32, 20)
    assert float(counts.sum()) == 512.0
    distances = numpy_distances(centres, found)
    assert distances.min(1).max() < 0.01


def test_kmeans_lowers_the_error_of_its_start(getkey):
    points = jax.random.normal(getkey(), (400, 3))
    key = getkey()
    errors = [
        numpy_distances(points, ops.kmeans(key, points, 20, rounds)[0]).min(1).mean() for rounds in (0, 1, 8)
    ]
    assert errors[0] > errors[1] > errors[2]


def test_normalized_vectors_have_length_one_and_zero_stays_finite():
    x = jnp.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(ops.normalize_vectors(x), [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)
    grad = jax.grad(lambda x: jnp.sum(ops.normalize_vectors(x)))(x)
    assert bool(jnp.isfinite(grad).all())
