"""A vision transformer as encoder, and one as decoder: patches are tokens, each with a learned position.

References:
  Yu et al. 2022, Vector-quantized Image Modeling with Improved VQGAN, arXiv:2110.04627, section 3.1.
  Zhao et al. 2024, Image and Video Tokenization with Binary Spherical Quantization, arXiv:2406.07548, section
  4.1, with the authors' code: normalisation before the first block too, and a hidden layer in front of the
  pixels.
"""

import functools
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from vq_jax import ops
from vq_jax.types import Array, Float

_init_kernel = nn.initializers.truncated_normal(0.02)
_init_latents = nn.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")


class ViTBlock(nn.Module):
    """Transformer block: x + attention(norm(x)), then x + feed-forward(norm(x)), with biases and GELU.

    Attributes:
      num_heads: attention heads.
      mlp_features: hidden width of the feed-forward layer.
      dtype: compute dtype; parameters are float32.
    """

    num_heads: int
    mlp_features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B T E"]) -> tuple[Float[Array, "B T E"], None]:
        """Applies the block; the second result is for `nn.scan`."""
        width = x.shape[-1]
        dense = functools.partial(nn.Dense, kernel_init=_init_kernel, dtype=self.dtype)
        qkv = dense(3 * width, name="qkv")(_norm(self.dtype, "attention_norm")(x))
        qkv = qkv.reshape(*x.shape[:2], 3, self.num_heads, width // self.num_heads)
        mixed = ops.attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], causal=False)
        x = x + dense(width, name="attention_out")(mixed.reshape(x.shape))
        hidden = dense(self.mlp_features, name="up")(_norm(self.dtype, "mlp_norm")(x))
        return x + dense(width, name="down")(nn.gelu(hidden, approximate=False)), None


class ViTLayers(nn.Module):
    """Positions, normalisation, a scanned stack of blocks, normalisation.

    The blocks' parameters are stacked along a first axis, so that one block is compiled.

    Attributes:
      num_layers: number of blocks.
      num_heads: see `ViTBlock`.
      mlp_features: see `ViTBlock`.
      remat: keep only the inputs of each block for the backward pass.
      dtype: compute dtype; parameters are float32.
    """

    num_layers: int
    num_heads: int
    mlp_features: int
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B T E"]) -> Float[Array, "B T E"]:
        positions = self.param("positions", nn.initializers.normal(0.02), x.shape[1:], jnp.float32)
        x = x + jnp.broadcast_to(positions.astype(x.dtype), x.shape)
        x = _norm(self.dtype, "norm_in")(x)
        block: Any = nn.remat(ViTBlock, prevent_cse=False) if self.remat else ViTBlock
        scanned = nn.scan(
            block, variable_axes={"params": 0}, split_rngs={"params": True}, length=self.num_layers
        )
        x, _ = scanned(self.num_heads, self.mlp_features, self.dtype, name="blocks")(x)
        return _norm(self.dtype, "norm_out")(x)


class ViTEncoder(nn.Module):
    """Patches to latents, by a transformer over all patches.

    Attributes:
      patch_size: pixels per code along each axis.
      width: width of a token.
      num_layers: number of transformer blocks.
      num_heads: attention heads per block.
      mlp_features: hidden width of the feed-forward layers.
      latent_channels: width D of a latent.
      remat: recompute blocks in the backward pass: less memory, more time.
      dtype: compute dtype; parameters are float32.
    """

    patch_size: int = 8
    width: int = 768
    num_layers: int = 12
    num_heads: int = 12
    mlp_features: int = 3072
    latent_channels: int = 18
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.nowrap
    def strides(self, axes: int) -> tuple[int, ...]:
        """Returns the pixels per code along each of `axes` spatial axes."""
        return (self.patch_size,) * axes

    @nn.compact
    def __call__(self, images: Float[Array, "B *S C"], *, train: bool = False) -> Float[Array, "B *s D"]:
        """Encodes pictures, which must have the shape that `init` was given."""
        patches = ops.to_patches(images, self.patch_size)
        x = patches.reshape(patches.shape[0], -1, patches.shape[-1])
        x = nn.Dense(self.width, use_bias=False, kernel_init=_init_kernel, dtype=self.dtype, name="embed")(x)
        x = ViTLayers(
            self.num_layers, self.num_heads, self.mlp_features, self.remat, self.dtype, name="layers"
        )(x)
        x = nn.Dense(self.latent_channels, kernel_init=_init_latents, dtype=self.dtype, name="out")(x)
        return x.reshape(*patches.shape[:-1], self.latent_channels)


class ViTDecoder(nn.Module):
    """Latents to patches, by a transformer over all latents and a hidden layer (tanh) in front of the pixels.

    Attributes:
      image_shape: shape of a picture, channels last.
      patch_size: pixels per code along each axis.
      width: width of a token.
      num_layers: number of transformer blocks.
      num_heads: attention heads per block.
      mlp_features: hidden width of the feed-forward layers.
      head_features: width of the hidden layer in front of the pixels.
      remat: recompute blocks in the backward pass: less memory, more time.
      dtype: compute dtype; parameters are float32.
    """

    image_shape: tuple[int, ...] = (256, 256, 3)
    patch_size: int = 8
    width: int = 768
    num_layers: int = 12
    num_heads: int = 12
    mlp_features: int = 3072
    head_features: int = 3072
    remat: bool = False
    dtype: Any = jnp.float32

    @property
    def last_layer(self) -> str:
        """Name of the layer at whose kernel the adaptive adversarial weight is measured."""
        return "out"

    @nn.compact
    def __call__(self, latents: Float[Array, "B *s D"], *, train: bool = False) -> Float[Array, "B *S C"]:
        """Decodes latents to pictures of shape `image_shape`."""
        x = latents.reshape(latents.shape[0], -1, latents.shape[-1])
        x = nn.Dense(self.width, kernel_init=_init_latents, dtype=self.dtype, name="embed")(x)
        x = ViTLayers(
            self.num_layers, self.num_heads, self.mlp_features, self.remat, self.dtype, name="layers"
        )(x)
        dense = functools.partial(nn.Dense, kernel_init=_init_kernel, dtype=self.dtype)
        x = nn.tanh(dense(self.head_features, name="hidden")(x))
        pixels = self.patch_size ** (latents.ndim - 2) * self.image_shape[-1]
        x = dense(pixels, name="out")(x)
        return ops.from_patches(x.reshape(*latents.shape[:-1], pixels), self.patch_size)


def _norm(dtype: Any, name: str) -> nn.LayerNorm:
    """Layer normalisation with PyTorch's epsilon."""
    return nn.LayerNorm(epsilon=1e-5, dtype=dtype, name=name)
