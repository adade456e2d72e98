"""What the discriminators share: normalisation, classes, initial values."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax import ops
from vq_jax.types import Array, Float, Int

SLOPE = 0.2  # of the leaky rectifier below zero


def init_around_one(rng: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
    return 1.0 + 0.02 * jax.random.normal(rng, shape, dtype)


class BatchNorm(nn.Module):
    """Normalises channels over batch and positions (Ioffe and Szegedy 2015, arXiv:1502.03167).

    Statistics are float32 means over the global batch. As in torch, and not as in `nn.BatchNorm`, the
    running variance averages the unbiased one; the parameters and variables are named as in
    `nn.BatchNorm`. A call with `train=True` may leave the collection immutable.

    Attributes:
      momentum: share of the running statistics that a step keeps.
      epsilon: added to the variance.
      dtype: dtype of the output; parameters and statistics are float32.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B *S C"], *, train: bool = False) -> Float[Array, "B *S C"]:
        """Normalises by the batch's statistics in training, else by the running ones."""
        features = x.shape[-1]
        scale = self.param("scale", init_around_one, (features,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (features,), jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (features,), jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, (features,), jnp.float32)
        flat = x.astype(jnp.float32).reshape(-1, features)
        mean, var = running_mean.value, running_var.value
        if train:
            mean = jnp.mean(flat, axis=0)
            var = jnp.mean(jnp.square(flat - mean[None]), axis=0)
            if updates_statistics(self, train):
                count = flat.shape[0]
                unbiased = var * (count / max(count - 1, 1))
                keep = self.momentum
                running_mean.value = keep * running_mean.value + (1.0 - keep) * mean
                running_var.value = keep * running_var.value + (1.0 - keep) * unbiased
        factor = scale * jax.lax.rsqrt(var + self.epsilon)
        return ((flat - mean[None]) * factor[None] + bias[None]).reshape(x.shape).astype(self.dtype)


def updates_statistics(module: nn.Module, train: bool) -> bool:
    return train and module.is_mutable_collection("batch_stats") and not module.is_initializing()


class LabelProjection(nn.Module):
    """Adds to the logits the product of the class's vector and the picture's mean features.

    Attributes:
      num_classes: number of classes; None leaves the logits as they are.

    References:
      Miyato and Koyama 2018, cGANs with Projection Discriminator, arXiv:1802.05637, eq. 6 (a sum over
      positions there, a mean here).
    """

    num_classes: int | None

    @nn.compact
    def __call__(
        self,
        logits: Float[Array, "B *s 1"],
        features: Float[Array, "B *S C"],
        labels: Int[Array, " B"] | None,
    ) -> Float[Array, "B *s 1"]:
        """Adds the product.

        Raises:
          ValueError: labels are missing, not one for each picture, or given without classes.
        """
        expected = None if self.num_classes is None else (logits.shape[0],)
        found = None if labels is None else labels.shape
        if found != expected:
            raise ValueError(
                f"expected labels of shape {expected} for num_classes = {self.num_classes}, got {found}"
            )
        if labels is None or self.num_classes is None:
            return logits
        shape = (self.num_classes, features.shape[-1])
        table = self.param("class", nn.initializers.normal(0.1), shape, jnp.float32)
        mean = features.astype(jnp.float32).reshape(features.shape[0], -1, features.shape[-1]).mean(axis=1)
        added = jnp.sum(ops.look_up(table, labels) * mean, axis=-1).reshape(-1, *(1,) * (logits.ndim - 1))
        return logits + jnp.broadcast_to(added, logits.shape)
