"""Which codes are masked: schedules of their number, random masks, the Halton order."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from vq_jax.types import Array, Bool, Float, Key

MASK_SCHEDULES = ("cosine", "arccos", "linear", "square")


def _check_schedule(schedule: str) -> None:
    if schedule not in MASK_SCHEDULES:
        raise ValueError(f"expected a mask schedule out of {', '.join(MASK_SCHEDULES)}, got {schedule!r}")


def mask_fraction(schedule: str, progress: Float[Array, "*S"]) -> Float[Array, "*S"]:
    """Fraction gamma(r) of the codes that are masked at progress r, which falls from 1 to 0.

    `cosine`: cos(pi r / 2). `arccos`: 2 arccos(r) / pi. `linear`: 1 - r. `square`: 1 - r^2.

    Args:
      schedule: one of `MASK_SCHEDULES`.
      progress: r, float32 in [0, 1].

    Raises:
      ValueError: unknown schedule.

    References:
      Chang et al. 2022, MaskGIT, arXiv:2202.04200, section 3.3 (cosine, linear, square). Besnier et al.
      2025, Halton scheduler, arXiv:2503.17076 (arccos).
    """
    _check_schedule(schedule)
    if schedule == "cosine":
        return jnp.cos(0.5 * math.pi * progress)
    if schedule == "arccos":
        return jnp.arccos(progress) * (2.0 / math.pi)
    if schedule == "linear":
        return 1.0 - progress
    return 1.0 - progress * progress


_EXACT: dict[str, Callable[[float], float]] = {
    "cosine": lambda r: math.cos(0.5 * math.pi * r),
    "arccos": lambda r: math.acos(r) * 2.0 / math.pi,
    "linear": lambda r: 1.0 - r,
    "square": lambda r: 1.0 - r * r,
}


def masked_count(schedule: str, total: int, step: int, steps: int) -> int:
    """Number of codes that are still masked after step t of T, when `total` are masked at the start.

    floor(total gamma(t / T)), but at most total - t, so that each step decides at least one code while any
    are masked, and 0 after the last step. (MaskGIT's decoder has the same two bounds.)

    Args:
      schedule: one of `MASK_SCHEDULES`.
      total: number of codes to decide.
      step: t, from 0 to `steps`.
      steps: number of steps T.

    Raises:
      ValueError: unknown schedule, or a step out of range.

    References:
      Chang et al. 2022, arXiv:2202.04200, section 3.2, step 3.
    """
    _check_schedule(schedule)
    if not 0 <= step <= steps or steps < 1:
        raise ValueError(f"expected a step from 0 to steps, at least 1, got step {step} of {steps}")
    if step == steps:
        return 0
    share = total * _EXACT[schedule](step / steps)
    return max(
        0, min(math.floor(share + 1e-9), total - step)
    )  # 1e-9 corrects the rounding of cos(pi / 3) and the like


def random_mask(
    rng: Key[Array, ""],
    shape: tuple[int, ...],
    schedule: str,
    given: Bool[Array, "B *s"] | None = None,
) -> Bool[Array, "B *s"]:
    """Draws masks for training a masked prior: a fraction gamma(r) of each grid, r uniform in [0, 1].

    Each grid has ceil(gamma(r) N) masked positions, at least one, and every choice of them is equally likely.

    Args:
      rng: random key.
      shape: shape of the codes, batch first.
      schedule: one of `MASK_SCHEDULES`.
      given: positions that are not masked, see `given_codes`; N is the number of the others, at least one.

    Raises:
      ValueError: unknown schedule.

    References:
      Chang et al. 2022, arXiv:2202.04200, section 3.1.
    """
    batch, total = shape[0], math.prod(shape[1:])
    share_rng, rank_rng = jax.random.split(rng)
    share = mask_fraction(schedule, jax.random.uniform(share_rng, (batch,), jnp.float32))
    order = jax.random.uniform(rank_rng, (batch, total), jnp.float32)
    if given is None:
        count = jnp.clip(jnp.ceil(share * total).astype(jnp.int32), min=1, max=total)
    else:
        given = given.reshape(batch, total)
        others = total - jnp.sum(given, axis=1, dtype=jnp.int32)
        count = jnp.ceil(share * others.astype(jnp.float32)).astype(jnp.int32)
        count = jnp.clip(count, min=1, max=others)
        order = jnp.where(given, 1.0, order)  # last
    # the place of each position in the order
    rank = (
        jnp.argsort(jnp.argsort(order, axis=1), axis=1) if given is not None else jnp.argsort(order, axis=1)
    )
    return (rank.astype(jnp.int32) < count[:, None]).reshape(shape)


def _radical_inverse(number: int, base: int) -> float:
    """Mirrors the digits of a number at the point: 6 = 110 in base 2 gives 0.011 = 3 / 8."""
    result, scale = 0.0, 1.0 / base
    while number:
        number, digit = divmod(number, base)
        result += digit * scale
        scale /= base
    return result


def halton_order(grid: tuple[int, ...]) -> np.ndarray:
    """Returns an order of a grid's positions whose every prefix is spread evenly over the grid.

    The points of the Halton sequence, with the first primes as bases, are rounded down to positions;
    repeated positions are skipped, until all positions are covered.

    Args:
      grid: lengths of one to four axes.

    Returns:
      int32 [N] raster indices, a permutation.

    References:
      Besnier et al. 2025, Halton Scheduler for Masked Generative Image Transformer, arXiv:2503.17076.
    """
    bases = (2, 3, 5, 7)[: len(grid)]
    if not 1 <= len(grid) <= 4:
        raise ValueError(f"expected a grid of one to four axes, got {grid}")
    total, number = math.prod(grid), 0
    met: dict[int, None] = {}  # keeps the order of insertion
    while len(met) < total:
        number += 1
        point = [
            int(_radical_inverse(number, base) * length) for base, length in zip(bases, grid, strict=True)
        ]
        met.setdefault(int(np.ravel_multi_index(point, grid)))
    return np.fromiter(met, np.int32, total)
