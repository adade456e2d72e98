"""Assignments of latents to all codes at once (IBQ), one block of the codebook after the other.

The products of N latents and K codes are never held whole: as in an online softmax, the forward pass keeps
the log of each row's summed exponentials and a mean, and the backward pass computes the products anew.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from vq_jax.ops.codebook import look_up
from vq_jax.ops.meshes import auto_axes, rows_of
from vq_jax.types import Array, Float, Int

_PRECISION = jax.lax.Precision.HIGHEST  # as for distances: bfloat16 products would flip codes
_BLOCK_PRODUCTS = 2**24  # held at once, of latents on all devices
_CPU_BLOCK_PRODUCTS = 2**20  # stay in a core's cache
_SHORTEST_BLOCK = 1024
_EPSILON = 1e-5  # in the log of the mean assignments, as in the authors' code


@auto_axes(lambda z, codebook: rows_of(z))
def largest_product(z: Float[Array, "N D"], codebook: Float[Array, "K D"]) -> Int[Array, " N"]:
    """Finds the code whose vector has the largest inner product with each latent.

    That is the nearest code only where all vectors of the codebook have the same length. The lowest code wins
    a tie; a row with a NaN gets some code in range.

    Args:
      z: latents, any float dtype; multiplied in float32.
      codebook: any float dtype.

    Returns:
      int32 codes in [0, K). No gradient flows.
    """
    z = jax.lax.stop_gradient(z).astype(jnp.float32)
    codebook = jax.lax.stop_gradient(codebook).astype(jnp.float32)
    size = codebook.shape[0]

    def better(found: tuple[Array, Array], codes: Array, start: Array) -> tuple[tuple[Array, Array], None]:
        products = _products(z, codes, start, size)
        largest = jnp.max(products, axis=1)
        # The first position equal to the maximum: XLA's CPU argmax is over ten times slower.
        position = jax.lax.broadcasted_iota(jnp.int32, products.shape, 1)
        first = jnp.min(jnp.where(products == largest[:, None], position, size), axis=1)
        higher = largest > found[0]
        return (jnp.where(higher, largest, found[0]), jnp.where(higher, start + first, found[1])), None

    lowest = jnp.full_like(z[:, 0], -jnp.inf)
    (_, indices), _ = _over_blocks(better, (lowest, jnp.zeros_like(lowest, jnp.int32)), z, codebook)
    return indices


@auto_axes(lambda z, codebook: (rows_of(z), rows_of(z)))
def propagate_indices(
    z: Float[Array, "N D"], codebook: Float[Array, "K D"]
) -> tuple[Float[Array, "N D"], Int[Array, " N"]]:
    """Quantizes by the largest inner product, with the gradient of a softmax over all codes (Shi et al. 2024,
    arXiv:2412.02692, section 3.2).

    With p = softmax(z E') and the one-hot assignment h, the output is q = (h + p - sg(p)) E: its value is the
    vector of the code, and its gradient reaches the latents through p, and all vectors of the codebook.

    Args:
      z: latents, float32.
      codebook: E, float32.

    Returns:
      q, float32, and int32 codes, those of `largest_product`.
    """
    indices = largest_product(z, codebook)
    return _propagated(z, _spread_like(z, codebook), indices), indices


@jax.custom_vjp
def _propagated(z: Array, codebook: Array, indices: Array) -> Array:
    return look_up(codebook, indices)


def _propagated_forward(z: Array, codebook: Array, indices: Array) -> tuple[Array, Any]:
    log_sum, mean = _softmax_mean(
        z, codebook, 1.0, lambda p, _, codes: jnp.matmul(p, codes, precision=_PRECISION), z
    )
    return look_up(codebook, indices), (z, codebook, indices, log_sum, mean)


def _propagated_backward(kept: Any, cotangent: Array) -> tuple[Array, Array, None]:
    z, codebook, indices, log_sum, mean = kept
    centre = jnp.sum(cotangent * mean, axis=1, keepdims=True)  # the mean of <g, e> over the codes

    def block(of_z: Array, codes: Array, start: Array) -> tuple[Array, Array]:
        p = jnp.exp(_products(z, codes, start, codebook.shape[0]) - log_sum)
        of_products = p * (jnp.matmul(cotangent, codes.T, precision=_PRECISION) - centre)
        return _pulled(of_z, of_products, z, codes)

    of_z, of_codes = _over_blocks(block, jnp.zeros_like(z), z, codebook)
    return of_z, of_codes.at[indices].add(cotangent), None


_propagated.defvjp(_propagated_forward, _propagated_backward)


@auto_axes(lambda *_: PartitionSpec())
def product_entropy(
    z: Float[Array, "N D"], codebook: Float[Array, "K D"], temperature: float
) -> Float[Array, ""]:
    """Mean entropy of the assignments softmax(z E' / temperature) minus the entropy of their mean: what
    `entropy_loss` is for distances, computed in blocks, as are its gradients to latents and codebook.
    """
    return _entropy(z, _spread_like(z, codebook), temperature)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _entropy(z: Array, codebook: Array, temperature: float) -> Array:
    return _entropy_forward(z, codebook, temperature)[0]


def _entropy_forward(z: Array, codebook: Array, temperature: float) -> tuple[Array, Any]:
    log_sum, mean = _softmax_mean(
        z,
        codebook,
        temperature,
        lambda p, logits, _: jnp.sum(p * _finite(logits), axis=1, keepdims=True),
        z[:, :1],
    )

    def block(carry: tuple[()], codes: Array, start: Array) -> tuple[tuple[()], Array]:
        logits = _products(z, codes, start, codebook.shape[0]) / temperature
        return carry, jnp.mean(jnp.exp(logits - log_sum), axis=0)

    _, shares = _over_blocks(block, (), z, codebook)
    entropy = jnp.mean(log_sum - mean) + jnp.sum(shares * jnp.log(shares + _EPSILON))
    return entropy, (z, codebook, log_sum, mean, shares)


def _entropy_backward(temperature: float, kept: Any, cotangent: Array) -> tuple[Array, Array]:
    z, codebook, log_sum, mean, shares = kept
    # The derivative to the mean assignments, block by block.
    pulls = jnp.log(shares + _EPSILON) + shares / (shares + _EPSILON)
    pulls = jnp.pad(pulls, (0, pulls.shape[0]))  # no block ends beyond it

    def assigned(codes: Array, start: Array) -> tuple[Array, Array, Array]:
        logits = _products(z, codes, start, codebook.shape[0]) / temperature
        pull = jax.lax.dynamic_slice_in_dim(pulls, start, codes.shape[0])[None]
        return jnp.exp(logits - log_sum), logits, pull

    def add(total: Array, codes: Array, start: Array) -> tuple[Array, None]:
        p, _, pull = assigned(codes, start)
        return total + jnp.sum(p * pull, axis=1, keepdims=True), None

    centre, _ = _over_blocks(add, jnp.zeros_like(log_sum), z, codebook)
    scale = cotangent / (temperature * z.shape[0])

    def block(of_z: Array, codes: Array, start: Array) -> tuple[Array, Array]:
        p, logits, pull = assigned(codes, start)
        return _pulled(of_z, scale * p * (pull - centre - _finite(logits) + mean), z, codes)

    return _over_blocks(block, jnp.zeros_like(z), z, codebook)


_entropy.defvjp(_entropy_forward, _entropy_backward)


def _softmax_mean(
    z: Array,
    codebook: Array,
    temperature: float,
    weigh: Callable[[Array, Array, Array], Array],
    like: Array,
) -> tuple[Array, Array]:
    """Each row's log of summed exponentials [N, 1], and a mean weighted by the assignments.

    Args:
      z: latents.
      codebook: vectors of the codes.
      temperature: divides the products.
      weigh: from weights [N, L], logits [N, L] and codes [L, D] of a block to the weighted sum of what is
        averaged.
      like: an array of the shape of the mean.
    """

    def block(state: tuple[Array, Array, Array], codes: Array, start: Array) -> tuple[Any, None]:
        largest, total, mean = state
        logits = _products(z, codes, start, codebook.shape[0]) / temperature
        higher = jnp.maximum(largest, jnp.max(logits, axis=1, keepdims=True))
        weights, shrink = jnp.exp(logits - higher), jnp.exp(largest - higher)
        total = total * shrink + jnp.sum(weights, axis=1, keepdims=True)
        return (higher, total, mean * shrink + weigh(weights, logits, codes)), None

    lowest = jnp.full_like(z[:, :1], -jnp.inf)
    first = (lowest, jnp.zeros_like(lowest), jnp.zeros_like(like))
    (largest, total, mean), _ = _over_blocks(block, first, z, codebook)
    return largest + jnp.log(total), mean / total


def _spread_like(z: Array, codebook: Array) -> Array:
    """Under `jax.shard_map`, the codebook as an array that may differ between devices, as latents do.

    A custom gradient must be spread like its input; the sum over devices is that of the addition.
    """
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return codebook
    return codebook + jnp.zeros_like(z, shape=codebook.shape)


def _over_blocks(function: Callable[..., Any], carry: Any, z: Array, codebook: Array) -> tuple[Any, Any]:
    """Scans `function(carry, codes [L, D], number of the first)` over blocks of the codebook.

    Returns:
      The last carry, and what the function returns for the L codes of each block, joined to [K, ...].
    """
    size, rows = codebook.shape[0], z.shape[0]

    def scan(length: int, carry: Any, codebook: Array) -> tuple[Any, Any]:
        count = -(-size // length)
        padded = jnp.pad(codebook, ((0, count * length - size), (0, 0)))
        blocks = (padded.reshape(count, length, -1), length * jnp.arange(count, dtype=jnp.int32))
        carry, found = jax.lax.scan(lambda carry, block: function(carry, *block), carry, blocks)
        return carry, jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:size], found)

    def length(products: int) -> int:
        fitting = products // max(rows, 1) if isinstance(rows, int) else 0  # left open by jax.export
        return min(max(_SHORTEST_BLOCK, fitting), size)

    on_cpu, elsewhere = length(_CPU_BLOCK_PRODUCTS), length(_BLOCK_PRODUCTS)
    if on_cpu == elsewhere:
        return scan(elsewhere, carry, codebook)
    return jax.lax.platform_dependent(
        carry,
        codebook,
        cpu=functools.partial(scan, on_cpu),
        default=functools.partial(scan, elsewhere),
    )


def _products(z: Array, codes: Array, start: Array, size: int) -> Array:
    """Inner products with a block of codes; minus infinity beyond the codebook's end."""
    number = start + jnp.arange(codes.shape[0], dtype=jnp.int32)
    products = jnp.matmul(z, codes.T, precision=_PRECISION)
    return jnp.where((number < size)[None], products, -jnp.inf)


def _finite(logits: Array) -> Array:
    return jnp.where(logits == -jnp.inf, 0.0, logits)


def _pulled(of_z: Array, of_products: Array, z: Array, codes: Array) -> tuple[Array, Array]:
    """Adds what products pull back to the latents, and returns what they pull back to the codes."""
    of_z = of_z + jnp.matmul(of_products, codes, precision=_PRECISION)
    return of_z, jnp.matmul(of_products.T, z, precision=_PRECISION)
