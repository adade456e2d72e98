"""Layers that more than one family of networks is made of."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from vq_jax import ops
from vq_jax.types import Array, Float


class DoubleConvTranspose(nn.Module):
    """Transposed convolution of width 4 and stride 2, over any number of spatial axes.

    Parameters and result are those of `nn.ConvTranspose(features, (4, ...), strides=(2, ...))`; the
    computation is `ops.double_conv_transpose`, fast on CPU too.

    Attributes:
      features: output channels.
      dtype: compute dtype; parameters are float32.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B *S C"]) -> Float[Array, "B *S2 O"]:
        shape = (4,) * (x.ndim - 2) + (x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        y = ops.double_conv_transpose(x.astype(self.dtype), kernel.astype(self.dtype))
        return y + jnp.broadcast_to(bias.astype(self.dtype), y.shape)
