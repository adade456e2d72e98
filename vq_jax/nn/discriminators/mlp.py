"""The discriminator of small pictures of one size."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from vq_jax.nn.discriminators.base import SLOPE, LabelProjection
from vq_jax.types import Array, Float, Int


class MLPDiscriminator(nn.Module):
    """Judges small pictures of one size: flattened, dense layers to one logit.

    Attributes:
      hidden_features: widths of the hidden layers.
      num_classes: number of classes, see `LabelProjection`; None for an unconditional discriminator.
      dtype: compute dtype; parameters and logits are float32.
    """

    hidden_features: tuple[int, ...] = (256, 128)
    num_classes: int | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, pictures: Float[Array, "B *S C"], labels: Int[Array, " B"] | None = None, *, train: bool = False
    ) -> Float[Array, "B 1"]:
        """Judges pictures, each with its label where there are classes; all of the shape seen by `init`."""
        x = pictures.reshape(pictures.shape[0], -1)
        for features in self.hidden_features:
            x = nn.leaky_relu(nn.Dense(features, dtype=self.dtype)(x), SLOPE)
        logits = nn.Dense(1, dtype=self.dtype)(x).astype(jnp.float32)
        return LabelProjection(self.num_classes, name="projection")(logits, x, labels)
