"""Masked sampling: all codes in parallel, in a few steps that each decide some of them."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from vq_jax import ops
from vq_jax.configs.sampling import MaskedOptions
from vq_jax.generate.common import check_known, check_labels, doubled, fold_in, of_rows, shard, with_null
from vq_jax.generate.options import TracedOptions, trace_options
from vq_jax.nn.priors import Condition, MaskGIT
from vq_jax.ops.meshes import auto_axes
from vq_jax.types import Array, Bool, Float, Int, Key, Params

DEFAULTS = MaskedOptions()
# codes int32 [R, *s] and mask bool [R, *s] to logits [R, *s, K]
MaskedLogits = Callable[[Array, Array], Array]


def sample_masked(
    logits_of: MaskedLogits,
    rng: Key[Array, "*R"],
    shape: tuple[int, ...],
    *,
    options: MaskedOptions | TracedOptions = DEFAULTS,
    codes: Int[Array, "B *s"] | None = None,
    known: Bool[Array, "B *s"] | None = None,
    sharding: NamedSharding | None = None,
    trace: bool = False,
) -> Int[Array, "B *s"] | tuple[Int[Array, "B *s"], Int[Array, "T B *s"]]:
    """Draws grids of codes from any function that gives logits at masked positions.

    Each step draws a code at every masked position, decides some of them and leaves the rest masked;
    after step t `ops.masked_count(schedule, n, t, steps)` of the n positions to decide are left. A
    decided or known code never changes. One `jax.lax.scan` over the steps. Pure; call it under `jit`.

    Args:
      logits_of: codes int32 [R, *s] (without meaning where masked) and mask bool [R, *s] to logits
        [R, *s, K]. R is the batch B, or 2 B with guidance: the second half must be computed without the
        condition.
      rng: key, or one for each grid [B]; step t draws with `fold_in(rng, t)`.
      shape: of the codes, batch first.
      options: temperature, filters, guidance, whose schedule runs over the steps, how many steps there are
        and what each decides; those of `trace_options` may hold traced numbers.
      codes: int32, given codes where `known` is true.
      known: positions that keep their given codes.
      sharding: of the codes, over a mesh.
      trace: also return the codes after every step, -1 where they are still masked.

    Returns:
      int32 codes; with `trace` also those after each step.

    Raises:
      ValueError: codes and known are not both given or not of `shape`, or there are more steps than
        positions.

    References:
      Chang et al. 2022, MaskGIT, arXiv:2202.04200, section 3.2. Besnier et al. 2025, arXiv:2503.17076
      (Halton order).
    """
    check_known(shape, codes, known)
    options = trace_options(options, MaskedOptions)
    batch, total, steps = shape[0], math.prod(shape[1:]), options.structure.steps
    if steps > total:
        raise ValueError(f"expected at most {total} steps for a grid of {total} positions, got {steps}")
    masked = jnp.ones((batch, total), bool)
    current = jnp.zeros((batch, total), jnp.int32)
    if codes is not None and known is not None:
        masked = ~known.reshape(batch, total)
        current = jnp.where(masked, 0, codes.reshape(batch, total).astype(jnp.int32))
    current, masked = shard(current, sharding), shard(masked, sharding)
    left = _counts_left(options.structure, jnp.sum(masked, axis=1, dtype=jnp.int32), total)  # [T, B]

    def body(carry: tuple[Array, Array], x: tuple[Array, Array]) -> tuple[tuple[Array, Array], Any]:
        current, masked = carry
        step, keep = x
        draw_rng, noise_rng = jnp.moveaxis(of_rows(jax.random.split, fold_in(rng, step)), -1, 0)
        both = (doubled(part.reshape(shape), options.guided) for part in (current, masked))
        logits = logits_of(*both).reshape(batch * (2 if options.guided else 1), total, -1)
        logits = options.guide(logits, step.astype(jnp.float32) / max(steps - 1, 1))
        drawn = options.draw(draw_rng, logits)
        progress = (step + 1).astype(jnp.float32) / steps
        rank = _rank(options, noise_rng, logits, drawn, masked, progress, shape[1:])
        current = jnp.where(masked, drawn, current)
        masked = masked & (rank < keep[:, None])
        shown = jnp.where(masked, -1, current) if trace else None
        return (current, masked), shown

    (current, _), shown = jax.lax.scan(body, (current, masked), (jnp.arange(steps, dtype=jnp.int32), left))
    result = shard(current.reshape(shape), sharding)
    return (result, shown.reshape(steps, *shape)) if trace else result


def _counts_left(options: MaskedOptions, unknown: Int[Array, " B"], total: int) -> Int[Array, "T B"]:
    """How many positions each grid has masked after each step; the table is made at trace time."""
    schedule, steps = options.mask_schedule, options.steps
    table = np.array(
        [
            [ops.masked_count(schedule, count, step + 1, steps) for count in range(total + 1)]
            for step in range(steps)
        ],
        np.int32,
    )
    return jnp.asarray(table)[:, unknown]


def _rank(
    options: TracedOptions,
    rng: Array,
    logits: Float[Array, "B N K"],
    drawn: Int[Array, "B N"],
    masked: Bool[Array, "B N"],
    progress: Float[Array, ""],
    grid: tuple[int, ...],
) -> Int[Array, "B N"]:
    """Ranks the masked positions of each grid: 0 is the last that should be decided."""
    if options.structure.order == "halton":
        place = np.empty(masked.shape[1], np.float32)
        place[ops.halton_order(grid)] = np.arange(masked.shape[1])
        score = jnp.broadcast_to(-place[None], masked.shape)
    else:
        log_p = jax.nn.log_softmax(logits, axis=-1)
        score = jnp.take_along_axis(log_p, drawn[..., None], axis=-1)[..., 0]
        noise = of_rows(lambda rng, like: jax.random.gumbel(rng, like.shape, jnp.float32), rng, score)
        score = score + options.value("noise") * (1.0 - progress) * noise
    score = jnp.where(masked, score, jnp.inf)
    # ranks, and not a threshold: equal scores must not decide more than their number
    return jnp.argsort(jnp.argsort(score, axis=1), axis=1).astype(jnp.int32)


def sample_maskgit(
    model: MaskGIT,
    variables: Params,
    rng: Key[Array, "*R"],
    condition: Condition | None = None,
    *,
    num: int | None = None,
    options: MaskedOptions | TracedOptions = DEFAULTS,
    codes: Int[Array, "B *s"] | None = None,
    known: Bool[Array, "B *s"] | None = None,
    sharding: NamedSharding | None = None,
    trace: bool = False,
) -> Int[Array, "B *s"] | tuple[Int[Array, "B *s"], Int[Array, "T B *s"]]:
    """Draws grids of codes from a MaskGIT, compiled once for each batch size and kind of options.

    Args:
      model: the prior.
      variables: its parameters.
      rng: key, or one for each grid [B]; the same key and arguments give the same codes.
      condition: labels int32 [B]; None for an unconditional prior.
      num: grids to draw, B; that of the condition or the codes when absent.
      options: temperature, filters, guidance, how many steps there are and what each decides.
      codes: int32 [B, *model.code_shape], given codes where `known` is true.
      known: bool of the same shape; positions that keep their given codes.
      sharding: of the batch over a mesh.
      trace: also return the codes after every step, -1 where they are still masked.

    Returns:
      int32 codes; with `trace` also those after each step, [T, B, *s].

    Raises:
      ValueError: a shape, a label or an option does not fit the model: guidance needs a prior trained
        with class dropout.
    """
    traced = trace_options(options, MaskedOptions)
    batch = check_labels(model, condition, num, codes, guided=traced.guided)
    check_known((batch, *model.code_shape), codes, known)
    return _sample_maskgit(model, batch, sharding, trace, variables, rng, condition, traced, codes, known)


@auto_axes(lambda *_: PartitionSpec())
@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _sample_maskgit(
    model: MaskGIT,
    batch: int,
    sharding: NamedSharding | None,
    trace: bool,
    variables: Params,
    rng: Array,
    condition: Condition | None,
    options: TracedOptions,
    codes: Array | None,
    known: Array | None,
) -> Array | tuple[Array, Array]:
    condition = with_null(model, condition, options.guided)

    def logits_of(codes: Array, mask: Array) -> Array:
        logits: Any = model.apply(variables, codes, condition, mask=mask)
        return logits

    return sample_masked(
        logits_of,
        rng,
        (batch, *model.code_shape),
        options=options,
        codes=codes,
        known=known,
        sharding=sharding,
        trace=trace,
    )


def fill_masked(
    model: MaskGIT,
    variables: Params,
    rng: Key[Array, "*R"],
    condition: Condition | None,
    codes: Int[Array, "B *s"],
    known: Bool[Array, "B *s"],
    *,
    options: MaskedOptions | TracedOptions,
    candidates: int,
) -> Int[Array, "B *s"]:
    """Draws the codes that are not known from a prior that sees all known ones; it needs no `candidates`."""
    sample_rng = of_rows(jax.random.split, rng)[..., 0]  # as an autoregressive prior does
    filled: Any = sample_maskgit(
        model, variables, sample_rng, condition, options=options, codes=codes, known=known
    )
    return filled


def adapt_steps(options: MaskedOptions, model: MaskGIT) -> MaskedOptions:
    """Lowers the steps to the number of codes of a picture: a step decides at least one."""
    return dataclasses.replace(options, steps=min(options.steps, math.prod(model.code_shape)))
