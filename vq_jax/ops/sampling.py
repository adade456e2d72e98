"""From logits to codes: temperature, top-k, top-p, classifier-free guidance, draws.

All functions take logits [..., K] and compute in float32. Arguments may be traced where docstrings say so.
"""

import math

import jax
import jax.numpy as jnp

from vq_jax.types import Array, Float, Int, Key

GUIDANCE_SCHEDULES = ("constant", "linear", "power_cosine")


def apply_temperature(
    logits: Float[Array, "... K"], temperature: float | Float[Array, ""]
) -> Float[Array, "... K"]:
    """Divides logits by a positive temperature, traced or not: below 1 sharpens, above 1 flattens."""
    logits = logits.astype(jnp.float32)
    divisor = jnp.broadcast_to(jnp.asarray(temperature, jnp.float32), logits.shape)
    # XLA would multiply by the reciprocal of a scalar, which rounds twice
    return logits / jax.lax.optimization_barrier(divisor)


def filter_top_k(logits: Float[Array, "... K"], k: int) -> Float[Array, "... K"]:
    """Sets all but the k largest logits to minus infinity; ties with the k-th stay.

    Args:
      logits: any float dtype.
      k: number to keep; 0, or K and above, keeps all.

    Raises:
      ValueError: k is negative.

    References:
      Fan et al. 2018, arXiv:1805.04833, section 5.4.
    """
    if k < 0:
        raise ValueError(f"expected top_k of at least 0 (0 keeps all), got {k}")
    logits = logits.astype(jnp.float32)
    if k == 0 or k >= logits.shape[-1]:
        return logits
    least = jax.lax.top_k(logits, k)[0][..., -1:]
    return jnp.where(logits < jnp.broadcast_to(least, logits.shape), -jnp.inf, logits)


def filter_top_p(logits: Float[Array, "... K"], p: float | Float[Array, ""]) -> Float[Array, "... K"]:
    """Keeps the most likely codes with a total probability of p, and sets the rest to minus infinity.

    A code is removed if it and all less likely codes have a total probability of at most 1 - p; the most
    likely code always stays.

    Args:
      logits: any float dtype.
      p: in (0, 1], traced or not.

    Raises:
      ValueError: p is out of range and not traced.

    References:
      Holtzman et al. 2019, arXiv:1904.09751, section 3.1.
    """
    if isinstance(p, int | float) and not 0.0 < p <= 1.0:
        raise ValueError(f"expected top_p in (0, 1], got {p}")
    logits = logits.astype(jnp.float32)
    if isinstance(p, int | float) and p == 1.0:
        return logits
    order = jnp.argsort(logits, axis=-1)
    ascending = jnp.take_along_axis(logits, order, axis=-1)
    below = jnp.cumsum(jax.nn.softmax(ascending, axis=-1), axis=-1)
    goes = (below <= 1.0 - p).at[..., -1].set(False)
    # the rank of each code in ascending order
    place = jnp.argsort(order, axis=-1)
    return jnp.where(jnp.take_along_axis(goes, place, axis=-1), -jnp.inf, logits)


def guide(
    conditional: Float[Array, "... K"],
    unconditional: Float[Array, "... K"],
    scale: float | Float[Array, ""],
) -> Float[Array, "... K"]:
    """Classifier-free guidance: unconditional + scale * (conditional - unconditional).

    Computed from the conditional logits, so that a scale of 1 returns them bit for bit.

    Args:
      conditional: logits with the condition, any float dtype.
      unconditional: logits without the condition.
      scale: traced or not; 0 ignores the condition, above 1 exaggerates it.

    References:
      Ho, Salimans 2022, arXiv:2207.12598, eq. 6, whose w is scale - 1.
    """
    conditional = conditional.astype(jnp.float32)
    return conditional + (scale - 1.0) * (conditional - unconditional.astype(jnp.float32))


def guidance_scale(
    schedule: str,
    scale: float | Float[Array, ""],
    progress: float | Float[Array, ""],
    power: float | Float[Array, ""] = 1.0,
) -> float | Float[Array, ""]:
    """Returns the guidance scale at progress r, which is 0 at the first step and 1 at the last.

    `constant`: scale. `linear`: 1 + (scale - 1) r. `power_cosine`:
    1 + (scale - 1) (1 - cos(pi r^power)) / 2, which stays low for the first steps.

    Args:
      schedule: one of `GUIDANCE_SCHEDULES`.
      scale: guidance scale at the last step.
      progress: r in [0, 1].
      power: exponent of `power_cosine`.

    Raises:
      ValueError: unknown schedule.

    References:
      Gao et al. 2023, MDT, arXiv:2303.14389 (power-cosine). Chang et al. 2023, Muse,
      arXiv:2301.00704, section 2.7 (linear).
    """
    if schedule not in GUIDANCE_SCHEDULES:
        raise ValueError(
            f"expected a guidance schedule out of {', '.join(GUIDANCE_SCHEDULES)}, got {schedule!r}"
        )
    if schedule == "constant":
        return scale
    share = progress
    if schedule == "power_cosine":
        share = (1.0 - jnp.cos(math.pi * jnp.asarray(progress, jnp.float32) ** power)) / 2.0
    return 1.0 + (scale - 1.0) * share


def greedy_codes(logits: Float[Array, "... K"]) -> Int[Array, "..."]:
    """Returns the most likely codes, int32; the lowest code wins a tie."""
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def sample_codes(rng: Key[Array, ""], logits: Float[Array, "... K"]) -> Int[Array, "..."]:
    """Samples codes with probabilities softmax(logits), int32, by the Gumbel-max trick.

    References:
      Maddison et al. 2014, arXiv:1411.0030, section 2.
    """
    return jax.random.categorical(rng, logits.astype(jnp.float32), axis=-1).astype(jnp.int32)


def filter_logits(
    logits: Float[Array, "... K"],
    *,
    temperature: float | Float[Array, ""] = 1.0,
    top_k: int = 0,
    top_p: float | Float[Array, ""] = 1.0,
) -> Float[Array, "... K"]:
    """Applies `apply_temperature`, `filter_top_k` and `filter_top_p`, in this order.

    Args:
      logits: any float dtype.
      temperature: positive; traced or not.
      top_k: 0 keeps all.
      top_p: in (0, 1], traced or not; 1 keeps all.
    """
    if not (isinstance(temperature, int | float) and temperature == 1.0):
        logits = apply_temperature(logits, temperature)
    return filter_top_p(filter_top_k(logits, top_k), top_p)
