"""An encoder and a decoder that work on patches throughout, with a linear path beside their blocks.

The pixels of a patch are its channels from the first layer on, so that no layer works at full resolution: on
a CPU, it learns several times as fast as networks that halve the resolution step by step.

References:
  Chen et al. 2024, Deep Compression Autoencoder for Efficient High-Resolution Diffusion Models,
  arXiv:2410.10733, section 3.2: shortcuts from space to channels (there around each change of resolution and
  without parameters; here one around the whole network, a linear map).
  Shi et al. 2016, Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel
  Convolutional Neural Network, arXiv:1609.05158, section 3.2: the last layer makes all pixels of a patch.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from vq_jax import ops
from vq_jax.nn.backbones.residual import ResidualStack
from vq_jax.types import Array, Float

_LINEAR = nn.initializers.orthogonal()


class PatchEncoder(nn.Module):
    """A linear map of each patch to its latent, plus a network with the surroundings of the patch in view.

    The network is a 3x3 convolution, residual blocks and a dense layer, which starts at zero: an untrained
    encoder is an orthogonal projection of the patches.

    Attributes:
      patch_size: pixels per code along each axis.
      channels: width of the network.
      residual_channels: width inside the residual blocks.
      num_res_blocks: number of residual blocks.
      latent_channels: width D of a latent.
      dtype: compute dtype; parameters are float32.
    """

    patch_size: int = 4
    channels: int = 128
    residual_channels: int = 64
    num_res_blocks: int = 4
    latent_channels: int = 16
    dtype: Any = jnp.float32

    @nn.nowrap
    def strides(self, axes: int) -> tuple[int, ...]:
        """Returns the pixels per code along each of `axes` spatial axes."""
        return (self.patch_size,) * axes

    @property
    def reach(self) -> int:
        """Positions on each side that a latent depends on, besides its own."""
        return 1 + self.num_res_blocks

    @nn.compact
    def __call__(self, images: Float[Array, "B *S C"], *, train: bool = False) -> Float[Array, "B *s D"]:
        """Encodes pictures; each spatial axis s is S / patch_size, rounded up: edges are repeated."""
        spatial = images.ndim - 2
        missing = [(0, -length % self.patch_size) for length in images.shape[1:-1]]
        patches = ops.to_patches(ops.pad_edges(images, missing), self.patch_size)
        linear = nn.Dense(
            self.latent_channels, use_bias=False, kernel_init=_LINEAR, dtype=self.dtype, name="linear"
        )(patches)
        x = nn.Conv(self.channels, (3,) * spatial, dtype=self.dtype, name="conv_in")(patches)
        x = ResidualStack(
            self.channels, self.residual_channels, self.num_res_blocks, dtype=self.dtype, name="blocks"
        )(x)
        zeros = nn.initializers.zeros
        return linear + nn.Dense(self.latent_channels, kernel_init=zeros, dtype=self.dtype, name="out")(x)


class PatchDecoder(nn.Module):
    """Mirror of the encoder: a linear map of each latent to its patch, plus a network over the latents.

    Attributes:
      patch_size: pixels per code along each axis.
      channels: width of the network.
      residual_channels: width inside the residual blocks.
      num_res_blocks: number of residual blocks.
      out_channels: output channels.
      dtype: compute dtype; parameters are float32.
    """

    patch_size: int = 4
    channels: int = 128
    residual_channels: int = 64
    num_res_blocks: int = 4
    out_channels: int = 3
    dtype: Any = jnp.float32

    @property
    def last_layer(self) -> str:
        """Name of the layer at whose kernel the adaptive adversarial weight is measured."""
        return "conv_out"

    @property
    def reach(self) -> int:
        """Positions of latents on each side that a pixel depends on, besides its own."""
        return 2 + self.num_res_blocks

    @nn.compact
    def __call__(self, latents: Float[Array, "B *s D"], *, train: bool = False) -> Float[Array, "B *S C"]:
        """Decodes latents; each spatial axis S is s * patch_size."""
        spatial = latents.ndim - 2
        width = self.patch_size**spatial * self.out_channels
        linear = nn.Dense(width, use_bias=False, kernel_init=_LINEAR, dtype=self.dtype, name="linear")(
            latents
        )
        x = nn.Conv(self.channels, (3,) * spatial, dtype=self.dtype, name="conv_in")(latents)
        x = ResidualStack(
            self.channels, self.residual_channels, self.num_res_blocks, dtype=self.dtype, name="blocks"
        )(x)
        x = nn.Conv(
            width, (3,) * spatial, kernel_init=nn.initializers.zeros, dtype=self.dtype, name="conv_out"
        )(x)
        return ops.from_patches(linear + x, self.patch_size)
