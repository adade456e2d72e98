"""Fully connected encoder and decoder for small pictures of one size."""

import math
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from vq_jax.types import Array, Float


class MLPEncoder(nn.Module):
    """Dense layers with ReLU between them, from a flattened picture to P latents: 784-256-128-64 by default.

    The last layer is num_latents * latent_channels wide and is split into num_latents latents, so that
    several codes describe a picture.

    Attributes:
      hidden_features: widths of the hidden layers.
      num_latents: latents per picture P.
      latent_channels: width D of a latent.
      dtype: compute dtype; parameters are float32.
    """

    hidden_features: tuple[int, ...] = (256, 128)
    num_latents: int = 16
    latent_channels: int = 4
    dtype: Any = jnp.float32

    @nn.nowrap
    def strides(self, axes: int) -> tuple[int, ...]:
        """Returns (): codes have no position in the picture."""
        return ()

    @nn.compact
    def __call__(self, images: Float[Array, "B *S C"], *, train: bool = False) -> Float[Array, "B P D"]:
        """Encodes pictures, which must have the shape that `init` was given."""
        x = images.reshape(images.shape[0], -1)
        for features in self.hidden_features:
            x = nn.relu(nn.Dense(features, dtype=self.dtype)(x))
        x = nn.Dense(self.num_latents * self.latent_channels, dtype=self.dtype)(x)
        return x.reshape(-1, self.num_latents, self.latent_channels)


class MLPDecoder(nn.Module):
    """Dense layers with ReLU between them, from the latents to a picture: 64-128-256-784 by default.

    Attributes:
      image_shape: shape of a picture, channels last.
      hidden_features: widths of the hidden layers.
      dtype: compute dtype; parameters are float32.
    """

    image_shape: tuple[int, ...] = (28, 28, 1)
    hidden_features: tuple[int, ...] = (128, 256)
    dtype: Any = jnp.float32

    @property
    def last_layer(self) -> str:
        """Name of the layer at whose kernel the adaptive adversarial weight is measured."""
        return f"Dense_{len(self.hidden_features)}"

    @nn.compact
    def __call__(self, latents: Float[Array, "B P D"], *, train: bool = False) -> Float[Array, "B *S C"]:
        """Decodes latents to pictures of shape `image_shape`."""
        x = latents.reshape(latents.shape[0], -1)
        for features in self.hidden_features:
            x = nn.relu(nn.Dense(features, dtype=self.dtype)(x))
        x = nn.Dense(math.prod(self.image_shape), dtype=self.dtype)(x)
        return x.reshape(-1, *self.image_shape)
