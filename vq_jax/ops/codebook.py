"""Codebook arithmetic: distances, nearest code, running averages, revival, usage.

Everything is computed in float32, whatever the inputs' dtype. Sums run over all rows, so that under `jit`
with a sharded batch they are sums over the global batch; under `jax.shard_map` and `jax.pmap` the functions
that take an `axis_name` sum over its devices.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from vq_jax.ops.meshes import auto_axes, rows_of
from vq_jax.types import Array, Bool, Float, Int, Key

AxisName = str | tuple[str, ...]
# float32 products on TPU are otherwise made of bfloat16 ones, which flips nearest codes.
_PRECISION = jax.lax.Precision.HIGHEST
_CPU_BLOCK = 1024  # rows and codes whose distances stay in a core's cache
_GPU_BLOCK_BYTES = 2**28  # largest piece of the distance matrix that is held at once
_MOST_COUNTS = 2**22  # codes of which each has a count of its own


def normalize_vectors(x: Float[Array, "... D"]) -> Float[Array, "... D"]:
    """Scales vectors to length one, in float32; a zero vector stays zero, with a finite gradient."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), 1e-12))


@auto_axes(lambda z, codebook: rows_of(z))
def squared_distances(z: Float[Array, "N D"], codebook: Float[Array, "K D"]) -> Float[Array, "N K"]:
    """Computes the squared Euclidean distance of every vector to every vector of the codebook, float32.

    Computed as |z|^2 - 2 z.e + |e|^2 and clipped at zero, since rounding can make it negative. Holds all
    N x K distances; `nearest_code` does not.
    """
    z, codebook = z.astype(jnp.float32), codebook.astype(jnp.float32)
    z_norms = jnp.sum(z * z, axis=1)
    code_norms = jnp.sum(codebook * codebook, axis=1)
    products = jnp.matmul(z, codebook.T, precision=_PRECISION)
    return jnp.maximum(z_norms[:, None] - 2.0 * products + code_norms[None, :], 0.0)


@auto_axes(lambda z, codebook: rows_of(z))
def nearest_code(z: Float[Array, "N D"], codebook: Float[Array, "K D"]) -> Int[Array, " N"]:
    """Finds the code whose vector is nearest to each latent (van den Oord et al. 2017, eq. 1).

    The lowest code wins a tie. The search depends on the backend it is compiled for: on CPU in blocks that
    fit the cache, on TPU one argmin that the compiler fuses with the product, elsewhere in row blocks, so
    that N x K distances are never held at once where that would be large. All give the same code except
    for rounding in near ties. A row with a NaN gets some code in range.

    Args:
      z: latents, any float dtype; compared in float32.
      codebook: any float dtype.

    Returns:
      int32 codes in [0, K). No gradient flows.
    """
    z = jax.lax.stop_gradient(z).astype(jnp.float32)
    codebook = jax.lax.stop_gradient(codebook).astype(jnp.float32)
    return jax.lax.platform_dependent(
        z, codebook, cpu=_nearest_blocked, tpu=_nearest_argmin, default=_nearest_by_rows
    )


def _scores(z: Float[Array, "N D"], codebook: Float[Array, "K D"]) -> Float[Array, "N K"]:
    # |z|^2 is the same for all codes of a row: left out, which also rounds less.
    norms = jnp.sum(codebook * codebook, axis=1)
    return norms[None, :] - 2.0 * jnp.matmul(z, codebook.T, precision=_PRECISION)


def _nearest_argmin(z: Float[Array, "N D"], codebook: Float[Array, "K D"]) -> Int[Array, " N"]:
    return jnp.argmin(_scores(z, codebook), axis=1).astype(jnp.int32)


def _map_rows(function: Callable[[Array], Array], z: Float[Array, "N D"], rows: int) -> Int[Array, " N"]:
    """Applies `function` to blocks of about `rows` rows, one after the other.

    Block j takes rows j, j + blocks, j + 2 blocks, ...: a batch sharded along N stays so in every block.
    """
    num = z.shape[0]
    if not isinstance(num, int):  # a size left open by jax.export, which no mesh spreads
        blocks = (num + rows - 1) // rows
        padded = jnp.pad(z, ((0, blocks * rows - num), (0, 0)))
        return jax.lax.map(function, padded.reshape(blocks, rows, z.shape[1])).reshape(-1)[:num]
    blocks = max(1, -(-num // rows))
    if blocks == 1:
        return function(z)
    padded = jnp.pad(z, ((0, -num % blocks), (0, 0)))
    stacked = padded.reshape(-1, blocks, z.shape[1])
    indices = jax.lax.map(
        lambda j: function(jax.lax.dynamic_index_in_dim(stacked, j, axis=1, keepdims=False)),
        jnp.arange(blocks, dtype=jnp.int32),
    )
    return indices.T.reshape(-1)[:num]


def _nearest_by_rows(z: Float[Array, "N D"], codebook: Float[Array, "K D"]) -> Int[Array, " N"]:
    rows = max(1, _GPU_BLOCK_BYTES // (4 * codebook.shape[0]))
    return _map_rows(lambda block: _nearest_argmin(block, codebook), z, rows)


def _nearest_blocked(z: Float[Array, "N D"], codebook: Float[Array, "K D"]) -> Int[Array, " N"]:
    # Minimum, then the first position equal to it: XLA's CPU argmin is over ten times slower.
    size = codebook.shape[0]
    whole = size // _CPU_BLOCK  # blocks of full length

    def block_best(
        block: Float[Array, "M D"], codes: Float[Array, "L D"], start: int | Int[Array, ""]
    ) -> tuple[Float[Array, " M"], Int[Array, " M"]]:
        scores = _scores(block, codes)
        best = jnp.min(scores, axis=1)
        position = jax.lax.broadcasted_iota(jnp.int32, scores.shape, 1)
        first = jnp.min(jnp.where(scores == best[:, None], position, size), axis=1)
        return best, first + start

    def nearest(block: Float[Array, "M D"]) -> Int[Array, " M"]:
        found = block_best(block, codebook[:_CPU_BLOCK], 0)

        def better(
            found: tuple[Array, Array], codes: Float[Array, "L D"], start: int | Int[Array, ""]
        ) -> tuple[Array, Array]:
            (best, index), (other, other_index) = found, block_best(block, codes, start)
            return jnp.minimum(best, other), jnp.where(other < best, other_index, index)

        def turn(number: Int[Array, ""], found: tuple[Array, Array]) -> tuple[Array, Array]:
            start = number.astype(jnp.int32) * _CPU_BLOCK
            return better(found, jax.lax.dynamic_slice_in_dim(codebook, start, _CPU_BLOCK), start)

        # A loop: unrolled, a large codebook takes half a minute to compile, and all scores are kept.
        found = jax.lax.fori_loop(1, whole, turn, found) if whole > 1 else found
        if 0 < size - whole * _CPU_BLOCK < size:
            found = better(found, codebook[whole * _CPU_BLOCK :], whole * _CPU_BLOCK)
        return jnp.minimum(found[1], size - 1)  # a NaN row equals nothing

    return _map_rows(nearest, z, _CPU_BLOCK)


@auto_axes(lambda vectors, indices: rows_of(indices))
def look_up(vectors: Float[Array, "K ..."], indices: Int[Array, "..."]) -> Float[Array, "..."]:
    """Looks up rows of a table."""
    return vectors[indices]


@auto_axes(lambda *_: PartitionSpec())
def code_statistics(
    z: Float[Array, "N D"], indices: Int[Array, " N"], codebook_size: int, axis_name: AxisName | None = None
) -> tuple[Float[Array, " K"], Float[Array, "K D"]]:
    """Counts how often each code was chosen, and sums the latents that chose it.

    No gradient flows. On CPU a scatter-add; elsewhere a product with the one-hot assignments, which is
    faster there and gives the same bits every time.

    Args:
      z: latents, any float dtype.
      indices: the code of each.
      codebook_size: number of codes K.
      axis_name: axes of `jax.shard_map` or `jax.pmap` to sum over, where each device has its own rows.

    Returns:
      Counts and sums, float32.
    """
    z = jax.lax.stop_gradient(z).astype(jnp.float32)

    def scatter(z: Float[Array, "N D"], indices: Int[Array, " N"]) -> tuple[Array, Array]:
        counts = jnp.zeros((codebook_size,), jnp.float32).at[indices].add(1.0)
        sums = jnp.zeros((codebook_size, z.shape[1]), jnp.float32).at[indices].add(z)
        return counts, sums

    def one_hot(z: Float[Array, "N D"], indices: Int[Array, " N"]) -> tuple[Array, Array]:
        assigned = jax.nn.one_hot(indices, codebook_size, dtype=jnp.float32)
        return jnp.sum(assigned, axis=0), jnp.matmul(assigned.T, z, precision=_PRECISION)

    statistics = jax.lax.platform_dependent(z, indices, cpu=scatter, default=one_hot)
    return jax.lax.psum(statistics, axis_name) if axis_name else statistics


@auto_axes(lambda *_: PartitionSpec())
def code_counts(indices: Int[Array, " N"], codebook_size: int) -> Float[Array, " K"]:
    """Counts how often each code was chosen; unlike `code_statistics`, without an N x K product anywhere."""
    return jnp.zeros((codebook_size,), jnp.float32).at[indices].add(1.0)


class CodeAverages(NamedTuple):
    """Running averages behind an EMA codebook.

    `zero_weight` is the share of the averages' zero initial value still to be divided out: 1 at the
    start, decay^t after t updates. The averages are stored with it divided out.
    """

    cluster_size: Float[Array, " K"]
    embedding_sum: Float[Array, "K D"]
    zero_weight: Float[Array, ""]


def update_averages(
    averages: CodeAverages,
    counts: Float[Array, " K"],
    sums: Float[Array, "K D"],
    decay: float,
) -> CodeAverages:
    """One step of the running averages N_i and m_i (van den Oord et al. 2017, eqs. 6 and 7).

    Differs from the paper as its authors' code does: the averages start at zero and are debiased, so
    that the first step takes the batch's statistics whole.
    """
    new_weight = averages.zero_weight * decay
    keep = decay * (1.0 - averages.zero_weight) / (1.0 - new_weight)
    return CodeAverages(
        cluster_size=keep * averages.cluster_size + (1.0 - keep) * counts,
        embedding_sum=keep * averages.embedding_sum + (1.0 - keep) * sums,
        zero_weight=new_weight,
    )


def codebook_from_averages(averages: CodeAverages, epsilon: float) -> Float[Array, "K D"]:
    """Computes the codebook e_i = m_i / N_i (van den Oord et al. 2017, eq. 8), the counts Laplace-smoothed.

    Smoothed count: (N_i + epsilon) / (N + K epsilon) * N with N the total. The vector of a code that
    was never used is zero, since m_i = 0.
    """
    size = averages.cluster_size
    total = jnp.sum(size)
    smoothed = (size + epsilon) / (total + size.shape[0] * epsilon) * total
    return averages.embedding_sum / jnp.where(smoothed > 0.0, smoothed, 1.0)[:, None]  # zero before any use


@auto_axes(lambda *_: PartitionSpec())
def sample_vectors(
    rng: Key[Array, ""], z: Float[Array, "N D"], num: int, axis_name: AxisName | None = None
) -> Float[Array, "num D"]:
    """Draws rows of z, one from each of `num` equal strata of the rows, in rotated order.

    The rows are distinct if N >= num. Needs no sort, unlike a permutation. No gradient flows.

    Args:
      rng: key.
      z: any float dtype.
      num: how many.
      axis_name: axes of `jax.shard_map` or `jax.pmap` over whose devices the rows are spread; all devices
        get the same draws, those of the first device's key.
    """
    z = jax.lax.stop_gradient(z).astype(jnp.float32)
    if axis_name:
        drawn = sample_vectors(rng, jax.lax.all_gather(z, axis_name, tiled=True), num)
        first = jax.lax.axis_index(axis_name) == 0
        return jax.lax.psum(jnp.where(first, drawn, jnp.zeros_like(drawn)), axis_name)
    rows = z.shape[0]
    within_rng, rotation_rng = jax.random.split(rng)
    edges = np.arange(num + 1, dtype=np.int64) * rows // num
    start = jnp.asarray(edges[:-1], jnp.int32)
    width = jnp.asarray(np.maximum(np.diff(edges), 1), jnp.float32)
    within = jnp.floor(jax.random.uniform(within_rng, (num,), jnp.float32) * width).astype(jnp.int32)
    rotation = jax.random.randint(rotation_rng, (), 0, rows, jnp.int32)
    return z[(start + within + rotation) % rows]


def dead_codes(cluster_size: Float[Array, " K"], threshold: float) -> Bool[Array, " K"]:
    """Marks the codes that are used less than `threshold` times per step on average."""
    return cluster_size < threshold


def perplexity(counts: Float[Array, " K"]) -> Float[Array, ""]:
    """Computes exp of the entropy of the codes' frequencies: 1 if one code takes all, K if all are equal."""
    frequency = counts / jnp.maximum(jnp.sum(counts), 1.0)
    return jnp.exp(-jnp.sum(frequency * jnp.log(frequency + 1e-10)))


def usage(counts: Float[Array, " K"]) -> Float[Array, ""]:
    """Computes the share of the codes that were chosen at least once."""
    return jnp.mean((counts > 0).astype(jnp.float32))


@auto_axes(lambda *_: PartitionSpec())
def code_use(
    indices: Int[Array, " N"], codebook_size: int, axis_name: AxisName | None = None
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Computes `perplexity` and `usage` of codes; above 2^22 possible codes in memory of N numbers, not K.

    Args:
      indices: codes in [0, K).
      codebook_size: number of possible codes K.
      axis_name: axes of `jax.shard_map` or `jax.pmap` over whose devices the codes are spread.

    Returns:
      Perplexity and usage, float32.
    """
    if codebook_size <= _MOST_COUNTS:
        counts = code_counts(indices, codebook_size)
        counts = jax.lax.psum(counts, axis_name) if axis_name else counts
        return perplexity(counts), usage(counts)
    if axis_name:
        use = code_use(jax.lax.all_gather(indices, axis_name, tiled=True), codebook_size)
        return jax.lax.pmean(use, axis_name)  # they are equal, which only a sum says
    ordered = jnp.sort(indices)
    begins = ordered != jnp.concatenate([ordered[:1] - 1, ordered[:-1]])
    run = jnp.cumsum(begins, dtype=jnp.int32) - 1
    counts = jnp.zeros(indices.shape, jnp.float32).at[run].add(1.0)
    return perplexity(counts), jnp.sum((counts > 0).astype(jnp.float32)) / codebook_size


@auto_axes(lambda *_: PartitionSpec())
def entropy_loss(
    z: Float[Array, "N D"], codebook: Float[Array, "K D"], temperature: float
) -> Float[Array, ""]:
    """Mean entropy of the assignments minus the entropy of their mean: low if each latent is certain of its
    code and all codes are used equally (Chang et al. 2022, arXiv:2202.04200, code release).

    Assignments are the softmax of the negative squared distances over `temperature`. Gradients flow to
    latents and codebook. Holds all N x K assignments.
    """
    logits = -squared_distances(z, codebook) / temperature
    log_p = jax.nn.log_softmax(logits, axis=1)
    p = jnp.exp(log_p)
    mean_p = jnp.mean(p, axis=0)
    sample_entropy = -jnp.mean(jnp.sum(p * log_p, axis=1))
    mean_entropy = -jnp.sum(mean_p * jnp.log(mean_p + 1e-10))
    return sample_entropy - mean_entropy


@auto_axes(lambda *_, **__: PartitionSpec())
def kmeans(
    rng: Key[Array, ""],
    points: Float[Array, "N D"],
    num: int,
    iterations: int = 10,
    axis_name: AxisName | None = None,
) -> tuple[Float[Array, "K D"], Float[Array, " K"]]:
    """Runs Lloyd's k-means; returns the centres and how many points each has.

    Starts at points drawn by `sample_vectors`. A centre that lost all its points starts again at a new
    draw, except in the last iteration.

    Args:
      rng: key.
      points: float, N >= 1.
      num: number of centres K.
      iterations: rounds of assignment and averaging.
      axis_name: axes of `jax.shard_map` or `jax.pmap` over whose devices the points are spread; all devices
        have the same centres then.

    Returns:
      Centres (K, D) and counts (K,), float32.
    """
    start_rng, loop_rng = jax.random.split(rng)
    points = points.astype(jnp.float32)

    def round_(
        i: Int[Array, ""], carry: tuple[Float[Array, "K D"], Float[Array, " K"]]
    ) -> tuple[Float[Array, "K D"], Float[Array, " K"]]:
        centres, _ = carry
        counts, sums = code_statistics(points, nearest_code(points, centres), num, axis_name)
        drawn = sample_vectors(jax.random.fold_in(loop_rng, i), points, num, axis_name)
        mean = sums / jnp.maximum(counts, 1.0)[:, None]
        return jnp.where(counts[:, None] > 0, mean, drawn), counts

    centres = sample_vectors(start_rng, points, num, axis_name)
    centres, _ = jax.lax.fori_loop(0, iterations, round_, (centres, jnp.zeros(num, jnp.float32)))
    counts, _ = code_statistics(points, nearest_code(points, centres), num, axis_name)
    return centres, counts
