"""Picture ranges (uint8 to [-1, 1] and back), decoder heads and reconstruction losses."""

import math

import jax
import jax.numpy as jnp

from vq_jax.types import AnyArray, Array, Float, UInt8

HEADS = ("picture", "bernoulli", "log_laplace")
# The logit-Laplace density has no mass at 0 and 1, so pictures are scaled into [0.1, 0.9].
_MARGIN = 0.1


def normalize_pictures(
    pictures: UInt8[AnyArray, "B *S C"] | Float[AnyArray, "B *S C"],
) -> Float[Array, "B *S C"]:
    """Converts uint8 in [0, 255] to float32 in [-1, 1]; returns floats as they are."""
    pictures = jnp.asarray(pictures)
    if jnp.issubdtype(pictures.dtype, jnp.floating):
        return pictures
    return pictures.astype(jnp.float32) / 127.5 - 1.0


def to_uint8(pictures: Float[Array, "B *S C"]) -> UInt8[Array, "B *S C"]:
    """Converts [-1, 1] to uint8, rounded; values outside are clipped."""
    scaled = jnp.round((pictures.astype(jnp.float32) + 1.0) * 127.5)
    return jnp.clip(scaled, min=0.0, max=255.0).astype(jnp.uint8)


def head_channels(head: str, channels: int) -> int:
    """Returns the output channels that a decoder needs for pictures of `channels` channels."""
    return 2 * channels if head == "log_laplace" else channels


def head_to_picture(outputs: Float[Array, "B *S O"], head: str) -> Float[Array, "B *S C"]:
    """Converts a decoder's outputs to the picture that they stand for, in [-1, 1], float32.

    `picture`: the outputs are the picture, not clipped. `bernoulli`: they are logits of a white pixel.
    `log_laplace`: they are locations of a logit-Laplace density, then as many channels of its log scale.
    """
    outputs = outputs.astype(jnp.float32)
    if head == "bernoulli":
        return 2.0 * jax.nn.sigmoid(outputs) - 1.0
    if head == "log_laplace":
        location = jnp.split(outputs, 2, axis=-1)[0]
        unit = (jax.nn.sigmoid(location) - _MARGIN) / (1.0 - 2.0 * _MARGIN)
        return jnp.clip(2.0 * unit - 1.0, min=-1.0, max=1.0)
    return outputs


def reconstruction_loss(
    outputs: Float[Array, "B *S O"], pictures: Float[Array, "B *S C"], kind: str
) -> Float[Array, ""]:
    """Reconstruction loss of a decoder's outputs, the mean over pixels and channels, float32.

    Args:
      outputs: the decoder's outputs, before `head_to_picture`.
      pictures: in [-1, 1].
      kind: `l2`, squared error; `l1`, absolute error; `bernoulli`, cross-entropy in nats, for pictures
        that are nearly black and white; `log_laplace`, negative log-density of the logit-Laplace
        distribution in nats (Ramesh et al. 2021, arXiv:2102.12092, appendix A.3, eq. 2), without the
        Jacobian of scaling [0, 1] into [0.1, 0.9].

    Raises:
      ValueError: unknown kind.
    """
    outputs, pictures = outputs.astype(jnp.float32), pictures.astype(jnp.float32)
    if kind == "l2":
        return jnp.mean(jnp.square(outputs - pictures))
    if kind == "l1":
        return jnp.mean(jnp.abs(outputs - pictures))
    unit = jnp.clip(0.5 * (pictures + 1.0), min=0.0, max=1.0)
    if kind == "bernoulli":
        return jnp.mean(jax.nn.softplus(outputs) - unit * outputs)
    if kind == "log_laplace":
        location, log_scale = jnp.split(outputs, 2, axis=-1)
        x = _MARGIN + (1.0 - 2.0 * _MARGIN) * unit
        logit = jnp.log(x) - jnp.log1p(-x)
        deviation = jnp.abs(logit - location) * jnp.exp(-log_scale)
        return jnp.mean(deviation + log_scale + math.log(2.0) + jnp.log(x) + jnp.log1p(-x))
    raise ValueError(f"unknown reconstruction loss {kind!r}; one of l2, l1, bernoulli, log_laplace")


def variance_loss(latents: Float[Array, "B *S D"]) -> Float[Array, ""]:
    """Mean squared difference from 1 of each latent channel's variance over batch and positions."""
    flat = latents.astype(jnp.float32).reshape(-1, latents.shape[-1])
    return jnp.mean(jnp.square(jnp.var(flat, axis=0) - 1.0))
