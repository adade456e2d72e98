"""Pictures of perturbed codes: how well a decoder bears the mistakes that a prior will make."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from vq_jax import ops
from vq_jax.nn import VQModel
from vq_jax.types import Array, CodeSpec, CodeSpecs, Float, Int, Params, UInt8

RATE = 0.5
"""Share of the codes that are replaced, each drawn by itself."""
SHARE = 64
"""A code is replaced by one of the nearest K / SHARE of a codebook of K, at least one."""
_MOST_CODES = 2**16
_BLOCK = 512  # rows of distances computed at once


def neighbours(codebook_size: int) -> int:
    """How many nearest codes one is drawn from."""
    return max(1, codebook_size // SHARE)


def check_perturbable(specs: CodeSpecs) -> CodeSpec:
    """Returns the spec of codes that can be perturbed.

    Raises:
      ValueError: they are several grids, several a position, one alone, or more than 2^16.
    """
    if not isinstance(specs, CodeSpec) or specs.codes_per_position > 1:
        raise ValueError(
            "expected one code a position to replace it by a near one, the tokenizer has several"
        )
    if not 2 <= specs.codebook_size <= _MOST_CODES:
        raise ValueError(
            f"expected a codebook of 2 to {_MOST_CODES} codes to find the nearest of each, got "
            f"{specs.codebook_size}"
        )
    return specs


def nearest_others(codebook: Float[Array, "K D"], number: int) -> Int[Array, "K M"]:
    """Returns the nearest M = `number` other codes of each code, the nearest first, int32.

    Args:
      codebook: the vectors of the codes.
      number: how many, below K.
    """
    codebook = codebook.astype(jnp.float32)
    norms = jnp.sum(jnp.square(codebook), axis=1)

    def of_one(row: Array) -> Array:
        products = jnp.matmul(codebook, codebook[row], precision=jax.lax.Precision.HIGHEST)
        distances = (norms - 2.0 * products).at[row].set(jnp.inf)
        return jax.lax.top_k(-distances, number)[1].astype(jnp.int32)

    rows = jnp.arange(len(codebook), dtype=jnp.int32)
    found: Array = jax.lax.map(of_one, rows, batch_size=min(_BLOCK, len(codebook)))
    return found


def perturbed_codes(
    codes: Int[Array, "B *S"], table: Int[Array, "K M"], first: Int[Array, ""], rate: float = RATE
) -> Int[Array, "B *S"]:
    """Replaces codes by near ones, each with a probability and by one of the nearest as the table lists them.

    The draw depends on the number of the picture alone, not on how pictures are batched.

    Args:
      codes: of pictures.
      table: of `nearest_others`.
      first: number of the first picture, int32.
      rate: probability that a code is replaced.
    """

    def of_picture(grid: Array, number: Array) -> Array:
        chosen, which = jax.random.split(jax.random.fold_in(jax.random.key(0), number))
        rank = jax.random.randint(which, grid.shape, 0, table.shape[1], jnp.int32)
        return jnp.where(jax.random.bernoulli(chosen, rate, grid.shape), table[grid, rank], grid)

    replaced: Array = jax.vmap(of_picture)(codes, first + jnp.arange(len(codes), dtype=jnp.int32))
    return replaced


def codes_table(params: Params, codebook: Params, *, model: VQModel, spec: CodeSpec) -> Int[Array, "K M"]:
    """Returns the nearest other codes of each code of a tokenizer, see `neighbours`."""
    every = jnp.arange(spec.codebook_size, dtype=jnp.int32)[None]
    vectors: Any = model.apply({"params": params, "codebook": codebook}, every, method="lookup")
    return nearest_others(vectors[0], neighbours(spec.codebook_size))


def perturbation_step(
    params: Params,
    codebook: Params,
    batch: Mapping[str, Array],
    table: Int[Array, "K M"],
    first: Int[Array, ""],
    *,
    model: VQModel,
) -> UInt8[Array, "B *S C"]:
    """Encodes pictures, perturbs their codes and decodes them, in evaluation mode.

    The Frechet distance between such pictures and the originals is the figure pFID of the reference, which
    counts a code among its own neighbours; here a replaced code is always another one. Rate and number of
    neighbours are ours: figures compare only where both are the same.

    Args:
      params: parameters of the model.
      codebook: its codebook collection.
      batch: `image` uint8 or float in [-1, 1], [B, *S, C].
      table: of `codes_table`.
      first: number of the first picture in the set, int32.
      model: the network.

    References:
      Qiu et al. 2025, Robust Latent Matters: Boosting Image Generation with Sampling Error Synthesis,
      arXiv:2503.08354.
    """
    apply = functools.partial(model.apply, {"params": params, "codebook": codebook})
    images = ops.normalize_pictures(batch["image"])
    codes: Any = apply(images, method="encode")
    made: Any = apply(perturbed_codes(codes, table, first), method="decode")
    return ops.to_uint8(made)


def perturbation(spec: CodeSpec) -> str:
    """What was done to the codes, in words."""
    near = neighbours(spec.codebook_size)
    whom = "the nearest other one" if near == 1 else f"one of the {near} nearest others"
    return f"{RATE:.0%} of the codes, drawn at random, replaced by {whom} of {spec.codebook_size}"
