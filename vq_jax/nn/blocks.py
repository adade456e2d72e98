"""Layers that several families of networks share."""

import math
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from vq_jax import ops
from vq_jax.types import Array, Float

# PyTorch's default for convolutions, with which the published recipes were tuned.
init_like_torch = nn.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")


class Conv(nn.Module):
    """Convolution over any number of spatial axes, computed by `ops.conv`, which is also fast on CPU.

    Parameters and result are those of flax's `nn.Conv`; kernels are initialised as in PyTorch by default.

    Attributes:
      features: output channels.
      width: width of the kernel along every spatial axis.
      stride: stride along every spatial axis.
      padding: zeros before and after along every spatial axis; by default, half the width on both sides.
      use_bias: whether to add a bias.
      kernel_init: initialiser of the kernel.
      dtype: compute dtype; parameters are float32.
    """

    features: int
    width: int = 3
    stride: int = 1
    padding: tuple[int, int] | None = None
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = init_like_torch
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B *S C"]) -> Float[Array, "B *S2 O"]:
        spatial = x.ndim - 2
        shape = (self.width,) * spatial + (x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        padding = (self.width // 2,) * 2 if self.padding is None else self.padding
        y = ops.conv(
            x.astype(self.dtype), kernel.astype(self.dtype), (self.stride,) * spatial, (padding,) * spatial
        )
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            y = y + jnp.broadcast_to(bias.astype(self.dtype), y.shape)
        return y


class UpsampleConv(nn.Module):
    """Nearest-neighbour doubling of every spatial axis, then a width-3 convolution: `ops.upsample_conv`.

    Attributes:
      features: output channels.
      dtype: compute dtype; parameters are float32.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B *S C"]) -> Float[Array, "B *S2 O"]:
        shape = (3,) * (x.ndim - 2) + (x.shape[-1], self.features)
        kernel = self.param("kernel", init_like_torch, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        y = ops.upsample_conv(x.astype(self.dtype), kernel.astype(self.dtype))
        return y + jnp.broadcast_to(bias.astype(self.dtype), y.shape)


class GroupNorm(nn.Module):
    """Group normalisation with float32 statistics, see `ops.group_norm`.

    Attributes:
      groups: the most groups; the number used is its greatest common divisor with the channels.
      epsilon: added to the variance.
      dtype: dtype of the result.
    """

    groups: int = 32
    epsilon: float = 1e-6
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B *S C"]) -> Float[Array, "B *S C"]:
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        groups = math.gcd(self.groups, channels)
        return ops.group_norm(x.astype(self.dtype), scale, bias, groups=groups, epsilon=self.epsilon)


class DoubleConvTranspose(nn.Module):
    """Transposed convolution of width 4 and stride 2 over any number of spatial axes.

    Parameters and result are those of `nn.ConvTranspose(features, (4, ...), strides=(2, ...))`;
    `ops.double_conv_transpose` computes it, which is also fast on CPU.

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
