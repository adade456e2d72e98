"""Adversarial losses, their regularizers and weights, all in float32.

Means run over all given logits: under `jit` with a sharded batch, they are means over the global batch.
Logits may have any shape: one per picture, or a map per picture.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vq_jax.types import Array, Float, Int

ADVERSARIAL_KINDS = ("hinge", "vanilla", "non_saturating", "least_squares")


def _unknown(kind: str) -> ValueError:
    return ValueError(f"expected an adversarial loss out of {', '.join(ADVERSARIAL_KINDS)}, got {kind!r}")


def discriminator_loss(
    real_logits: Float[Array, "*L"], fake_logits: Float[Array, "*M"], kind: str
) -> Float[Array, ""]:
    """Loss of a discriminator, which is low when it separates pictures from reconstructions.

    `hinge`: (mean max(0, 1 - real) + mean max(0, 1 + fake)) / 2 (Lim and Ye 2017, arXiv:1705.02894).
    `vanilla`: (mean softplus(-real) + mean softplus(fake)) / 2, the cross-entropy of Goodfellow et al.
    2014, arXiv:1406.2661, eq. 1, halved as in Esser et al. 2021, arXiv:2012.09841, code release.
    `non_saturating`: `vanilla` without the half. `least_squares`: (mean (real - 1)^2 + mean fake^2) / 2
    (Mao et al. 2017, arXiv:1611.04076, eq. 9).

    Args:
      real_logits: logits of pictures, any float dtype.
      fake_logits: logits of reconstructions, any float dtype.
      kind: one of `ADVERSARIAL_KINDS`.

    Raises:
      ValueError: unknown kind.
    """
    real, fake = real_logits.astype(jnp.float32), fake_logits.astype(jnp.float32)
    if kind == "hinge":
        return 0.5 * (jnp.mean(jax.nn.relu(1.0 - real)) + jnp.mean(jax.nn.relu(1.0 + fake)))
    if kind == "vanilla":
        return 0.5 * (jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake)))
    if kind == "non_saturating":
        return jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake))
    if kind == "least_squares":
        return 0.5 * (jnp.mean(jnp.square(real - 1.0)) + jnp.mean(jnp.square(fake)))
    raise _unknown(kind)


def generator_adversarial_loss(fake_logits: Float[Array, "*M"], kind: str) -> Float[Array, ""]:
    """Loss of the generator, which is low when the discriminator takes reconstructions for pictures.

    `hinge` and `vanilla`: -mean fake, as in Esser et al. 2021, arXiv:2012.09841, code release.
    `non_saturating`: mean softplus(-fake) (Goodfellow et al. 2014, arXiv:1406.2661, section 3).
    `least_squares`: mean (fake - 1)^2 / 2 (Mao et al. 2017, arXiv:1611.04076, eq. 9).

    Args:
      fake_logits: logits of reconstructions, any float dtype.
      kind: one of `ADVERSARIAL_KINDS`.

    Raises:
      ValueError: unknown kind.
    """
    fake = fake_logits.astype(jnp.float32)
    if kind in ("hinge", "vanilla"):
        return -jnp.mean(fake)
    if kind == "non_saturating":
        return jnp.mean(jax.nn.softplus(-fake))
    if kind == "least_squares":
        return 0.5 * jnp.mean(jnp.square(fake - 1.0))
    raise _unknown(kind)


class LecamAverages(NamedTuple):
    """Running averages of a discriminator's logits, float32 scalars."""

    real: Float[Array, ""]
    fake: Float[Array, ""]


def init_lecam() -> LecamAverages:
    """Returns the initial averages, zeros."""
    return LecamAverages(real=jnp.zeros((), jnp.float32), fake=jnp.zeros((), jnp.float32))


def update_lecam(
    averages: LecamAverages,
    real_logits: Float[Array, "*L"],
    fake_logits: Float[Array, "*M"],
    decay: float,
) -> LecamAverages:
    """Returns decay * average + (1 - decay) * mean of the logits, for both averages. No gradient flows.

    The averages are not debiased: the initial zero fades with decay^t.
    """

    def update(average: Array, logits: Array) -> Array:
        mean = jnp.mean(jax.lax.stop_gradient(logits).astype(jnp.float32))
        return decay * average + (1.0 - decay) * mean

    return LecamAverages(update(averages.real, real_logits), update(averages.fake, fake_logits))


def lecam_loss(
    real_logits: Float[Array, "*L"],
    fake_logits: Float[Array, "*M"],
    real_average: Float[Array, ""],
    fake_average: Float[Array, ""],
) -> Float[Array, ""]:
    """Penalises the gap between real and fake logits, for training with few pictures.

    mean max(0, real - fake_average)^2 + mean max(0, real_average - fake)^2 (Tseng et al. 2021,
    arXiv:2104.03310, section 3). The paper squares the plain differences; the rectifier is from the
    authors' code. No gradient flows to the averages.
    """
    real, fake = real_logits.astype(jnp.float32), fake_logits.astype(jnp.float32)
    real_average, fake_average = jax.lax.stop_gradient((real_average, fake_average))
    above = jax.nn.relu(real - fake_average)
    below = jax.nn.relu(real_average - fake)
    return jnp.mean(jnp.square(above)) + jnp.mean(jnp.square(below))


def r1_penalty(logits_of: Callable[[Array], Array], pictures: Float[Array, "B *S C"]) -> Float[Array, ""]:
    """Half the squared gradient of a discriminator at real pictures (Mescheder et al. 2018,
    arXiv:1801.04406, eq. 9, with gamma = 1).

    The mean over pictures of |d (sum of the logits) / d picture|^2 / 2. It is differentiable with respect to
    what `logits_of` closes over, such as the discriminator's parameters.

    Args:
      logits_of: function from pictures to logits of any shape.
      pictures: real pictures, any float dtype; the gradient is computed in float32.
    """
    pictures = pictures.astype(jnp.float32)
    slope = jax.grad(lambda x: jnp.sum(logits_of(x).astype(jnp.float32)))(pictures)
    return 0.5 * jnp.sum(jnp.square(slope)) / pictures.shape[0]


def adaptive_weight(
    reconstruction_grad: Float[Array, "*P"],
    adversarial_grad: Float[Array, "*P"],
    maximum: float = 1e4,
    epsilon: float = 1e-4,
) -> Float[Array, ""]:
    """Weight at which the adversarial gradient has the norm of the reconstruction gradient.

    |reconstruction_grad| / (|adversarial_grad| + epsilon), clipped to [0, maximum] (Esser et al. 2021,
    arXiv:2012.09841, eq. 7; epsilon is 1e-6 in the paper, 1e-4 in the authors' code and here). No gradient
    flows.

    Args:
      reconstruction_grad: gradient of the reconstruction and perceptual losses at the kernel of the
        decoder's last layer, any float dtype.
      adversarial_grad: gradient of `generator_adversarial_loss` at the same kernel.
      maximum: upper bound of the weight.
      epsilon: keeps the ratio finite.
    """
    reconstruction_grad, adversarial_grad = jax.lax.stop_gradient((reconstruction_grad, adversarial_grad))
    reconstruction_norm = jnp.linalg.norm(reconstruction_grad.astype(jnp.float32).ravel())
    adversarial_norm = jnp.linalg.norm(adversarial_grad.astype(jnp.float32).ravel())
    return jnp.clip(reconstruction_norm / (adversarial_norm + epsilon), min=0.0, max=maximum)


def ramp(step: Int[Array, ""] | int, start: int, length: int) -> Float[Array, ""]:
    """Rises linearly from 0 to 1 over `length` steps: 1 / length at step `start`, 2 / length at the next.

    It is 0 before `start` and 1 from step start + length - 1 on. A length of 0 or 1 is a switch at `start`.

    Args:
      step: int32, traced or not.
      start: first step with a value above zero.
      length: number of steps of the rise.
    """
    length = max(length, 1)
    done = jnp.clip(jnp.asarray(step, jnp.int32) - start + 1, min=0, max=length)
    return done.astype(jnp.float32) / length
