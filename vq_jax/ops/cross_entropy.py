"""Cross-entropy and accuracy of predicted codes, for the losses of priors."""

import jax
import jax.numpy as jnp

from vq_jax.types import Array, Bool, Float, Int


def code_cross_entropies(
    logits: Float[Array, "*S K"], codes: Int[Array, "*S"], label_smoothing: float = 0.0
) -> Float[Array, "*S"]:
    """Cross-entropy at every position, in nats, float32.

    -(1 - s) log p(code) - s / K sum_k log p(k), with s the label smoothing.

    Args:
      logits: any float dtype.
      codes: int, in [0, K).
      label_smoothing: s in [0, 1).

    References:
      Szegedy et al. 2016, arXiv:1512.00567, section 7.
    """
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    chosen = jnp.take_along_axis(log_p, codes[..., None], axis=-1)[..., 0]
    if label_smoothing == 0.0:
        return -chosen
    return -(1.0 - label_smoothing) * chosen - label_smoothing * jnp.mean(log_p, axis=-1)


def code_cross_entropy(
    logits: Float[Array, "*S K"],
    codes: Int[Array, "*S"],
    mask: Bool[Array, "*S"] | None = None,
    *,
    label_smoothing: float = 0.0,
) -> Float[Array, ""]:
    """Mean of `code_cross_entropies` over the positions where `mask` is true, or over all positions.

    The mean runs over the global batch; it is 0 if the mask is true nowhere.

    Args:
      logits: any float dtype.
      codes: int, in [0, K).
      mask: positions to include; None includes all.
      label_smoothing: s in [0, 1).

    References:
      Chang et al. 2022, MaskGIT, arXiv:2202.04200, eq. 1, for masked positions.
    """
    values = code_cross_entropies(logits, codes, label_smoothing)
    return jnp.mean(values) if mask is None else masked_mean(values, mask)


def code_accuracy(
    logits: Float[Array, "*S K"], codes: Int[Array, "*S"], mask: Bool[Array, "*S"] | None = None
) -> Float[Array, ""]:
    """Share of positions, of those in `mask` if given, where the most likely code is the true one."""
    right = (jnp.argmax(logits, axis=-1).astype(codes.dtype) == codes).astype(jnp.float32)
    return jnp.mean(right) if mask is None else masked_mean(right, mask)


def masked_mean(values: Float[Array, "*S"], mask: Bool[Array, "*S"]) -> Float[Array, ""]:
    """Mean of the values where `mask` is true; 0 if it is true nowhere."""
    weights = mask.astype(jnp.float32)
    return jnp.sum(values * weights) / jnp.maximum(jnp.sum(weights), 1.0)
