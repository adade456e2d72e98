"""Masked sampling: all codes in parallel, in a few steps that each decide some of them."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from vq_jax import ops
from vq_jax.generate.common import check_known, check_labels, doubled, shard, with_null
from vq_jax.generate.options import DEFAULT_OPTIONS, SamplingOptions
from vq_jax.nn.priors import Condition, MaskGIT
from vq_jax.types import Array, Bool, Float, Int, Key, Params

ORDERS = ("confidence", "halton")

# codes int32 [R, *s] and mask bool [R, *s] to logits [R, *s, K]
MaskedLogits = Callable[[Array, Array], Array]


@dataclasses.dataclass(frozen=True)
class MaskedOptions:
    """Which codes a step of masked sampling decides.

    Attributes:
      steps: T; each of them evaluates the prior once.
      schedule: how many are left after each, one of `ops.MASK_SCHEDULES`, see `ops.masked_count`.
      order: `confidence` decides the codes whose drawn value is likeliest, after noise; `halton` those
        that come next in `ops.halton_order`, spread evenly over the grid.
      noise: scale of the Gumbel noise added to log-probabilities in the first step, falling linearly to
        0 in the last; `confidence` only.

    Raises:
      ValueError: a value is out of range.
    """

    steps: int = 12
    schedule: str = "cosine"
    order: str = "confidence"
    noise: Any = 4.5

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"expected at least one step, got {self.steps}")
        if self.schedule not in ops.MASK_SCHEDULES:
            raise ValueError(
                f"expected a mask schedule of {', '.join(ops.MASK_SCHEDULES)}, got {self.schedule!r}"
            )
        if self.order not in ORDERS:
            raise ValueError(f"expected an order of {', '.join(ORDERS)}, got {self.order!r}")
        if isinstance(self.noise, int | float) and not 0.0 <= self.noise < float("inf"):
            raise ValueError(f"expected noise of at least 0, got {self.noise}")


DEFAULT_MASKING = MaskedOptions()


def sample_masked(
    logits_of: MaskedLogits,
    rng: Key[Array, ""],
    shape: tuple[int, ...],
    *,
    options: SamplingOptions = DEFAULT_OPTIONS,
    masking: MaskedOptions = DEFAULT_MASKING,
    codes: Int[Array, "B *s"] | None = None,
    known: Bool[Array, "B *s"] | None = None,
    sharding: NamedSharding | None = None,
    trace: bool = False,
) -> Int[Array, "B *s"] | tuple[Int[Array, "B *s"], Int[Array, "T B *s"]]:
    """Draws grids of codes from any function that gives logits at masked positions.

    Each step draws a code at every masked position, decides some of them and leaves the rest masked;
    after step t `ops.masked_count(schedule, n, t, steps)` of the n positions to decide are left. A
    decided or known code never changes. One `jax.lax.scan` over the steps. Pure; to be called under
    `jit`.

    Args:
      logits_of: codes int32 [R, *s] (without meaning where masked) and mask bool [R, *s] to logits
        [R, *s, K]. R is the batch B, or 2 B with guidance: the second half is to be computed without
        the condition.
      rng: key; step t draws with `fold_in(rng, t)`.
      shape: of the codes, batch first.
      options: temperature, filters and guidance, whose schedule runs over the steps.
      masking: how many steps, and what each decides.
      codes: int32, given codes where `known` is true.
      known: positions that keep their given codes.
      sharding: of the codes, over a mesh.
      trace: give out the codes after every step too, -1 where they are still masked.

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
    batch, total, steps = shape[0], math.prod(shape[1:]), masking.steps
    if steps > total:
        raise ValueError(f"expected at most {total} steps for a grid of {total} positions, got {steps}")
    masked = jnp.ones((batch, total), bool)
    current = jnp.zeros((batch, total), jnp.int32)
    if codes is not None and known is not None:
        masked = ~known.reshape(batch, total)
        current = jnp.where(masked, 0, codes.reshape(batch, total).astype(jnp.int32))
    current, masked = shard(current, sharding), shard(masked, sharding)
    left = _counts_left(masking, jnp.sum(masked, axis=1, dtype=jnp.int32), total)  # [T, B]

    def body(carry: tuple[Array, Array], x: tuple[Array, Array]) -> tuple[tuple[Array, Array], Any]:
        current, masked = carry
        step, keep = x
        draw_rng, noise_rng = jax.random.split(jax.random.fold_in(rng, step))
        both = (doubled(part.reshape(shape), options.guided) for part in (current, masked))
        logits = logits_of(*both).reshape(batch * (2 if options.guided else 1), total, -1)
        logits = options.guide(logits, step.astype(jnp.float32) / max(steps - 1, 1))
        drawn = options.draw(draw_rng, logits)
        progress = (step + 1).astype(jnp.float32) / steps
        rank = _rank(masking, noise_rng, logits, drawn, masked, progress, shape[1:])
        current = jnp.where(masked, drawn, current)
        masked = masked & (rank < keep[:, None])
        shown = jnp.where(masked, -1, current) if trace else None
        return (current, masked), shown

    (current, _), shown = jax.lax.scan(body, (current, masked), (jnp.arange(steps), left))
    result = shard(current.reshape(shape), sharding)
    return (result, shown.reshape(steps, *shape)) if trace else result


def _counts_left(masking: MaskedOptions, unknown: Int[Array, " B"], total: int) -> Int[Array, "T B"]:
    """How many positions each grid has masked after each step; the table is made at trace time."""
    table = np.array(
        [
            [ops.masked_count(masking.schedule, count, step + 1, masking.steps) for count in range(total + 1)]
            for step in range(masking.steps)
        ],
        np.int32,
    )
    return jnp.asarray(table)[:, unknown]


def _rank(
    masking: MaskedOptions,
    rng: Array,
    logits: Float[Array, "B N K"],
    drawn: Int[Array, "B N"],
    masked: Bool[Array, "B N"],
    progress: Float[Array, ""],
    grid: tuple[int, ...],
) -> Int[Array, "B N"]:
    """Rank of the masked positions, each grid's own: 0 is the last that should be decided."""
    if masking.order == "halton":
        place = np.empty(masked.shape[1], np.float32)
        place[ops.halton_order(grid)] = np.arange(masked.shape[1])
        score = jnp.broadcast_to(-place[None], masked.shape)
    else:
        log_p = jax.nn.log_softmax(logits, axis=-1)
        score = jnp.take_along_axis(log_p, drawn[..., None], axis=-1)[..., 0]
        noise = jax.random.gumbel(rng, score.shape)
        score = score + masking.noise * (1.0 - progress) * noise
    score = jnp.where(masked, score, jnp.inf)
    # ranks, and not a threshold: equal scores must not decide more than their number
    return jnp.argsort(jnp.argsort(score, axis=1), axis=1)


def sample_maskgit(
    model: MaskGIT,
    variables: Params,
    rng: Key[Array, ""],
    condition: Condition | None = None,
    *,
    num: int | None = None,
    options: SamplingOptions = DEFAULT_OPTIONS,
    masking: MaskedOptions = DEFAULT_MASKING,
    codes: Int[Array, "B *s"] | None = None,
    known: Bool[Array, "B *s"] | None = None,
    sharding: NamedSharding | None = None,
    trace: bool = False,
) -> Int[Array, "B *s"] | tuple[Int[Array, "B *s"], Int[Array, "T B *s"]]:
    """Draws grids of codes from a MaskGIT, compiled once for each batch size and kind of options.

    Args:
      model: the prior.
      variables: its parameters.
      rng: key; the same key and arguments give the same codes.
      condition: labels int32 [B]; None for an unconditional prior.
      num: grids to draw, B; that of the condition or the codes when absent.
      options: temperature, filters and guidance.
      masking: how many steps, and what each decides.
      codes: int32 [B, *model.grid], given codes where `known` is true.
      known: bool of the same shape; positions that keep their given codes.
      sharding: of the batch over a mesh.
      trace: give out the codes after every step too, -1 where they are still masked.

    Returns:
      int32 codes; with `trace` also those after each step, [T, B, *s].

    Raises:
      ValueError: a shape, a label or an option does not fit the model: guidance needs a prior trained
        with class dropout.
    """
    batch = check_labels(model, condition, num, codes, options)
    check_known((batch, *model.grid), codes, known)
    structure, numbers = options.split()
    noise = float(masking.noise)
    masking = dataclasses.replace(masking, noise=1.0)
    static = (model, batch, structure, masking, sharding, trace)
    return _sample_maskgit(*static, variables, rng, condition, numbers, noise, codes, known)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4, 5))
def _sample_maskgit(
    model: MaskGIT,
    batch: int,
    structure: SamplingOptions,
    masking: MaskedOptions,
    sharding: NamedSharding | None,
    trace: bool,
    variables: Params,
    rng: Array,
    condition: Condition | None,
    numbers: dict[str, Array],
    noise: Array,
    codes: Array | None,
    known: Array | None,
) -> Array | tuple[Array, Array]:
    options = structure.join(numbers)
    condition = with_null(model, condition, options)

    def logits_of(codes: Array, mask: Array) -> Array:
        logits: Any = model.apply(variables, codes, condition, mask=mask)
        return logits

    return sample_masked(
        logits_of,
        rng,
        (batch, *model.grid),
        options=options,
        masking=dataclasses.replace(masking, noise=noise),
        codes=codes,
        known=known,
        sharding=sharding,
        trace=trace,
    )
