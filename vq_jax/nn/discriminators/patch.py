"""The discriminator of overlapping patches."""

import math
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from vq_jax.nn.discriminators.base import (
    SLOPE,
    BatchNorm,
    LabelProjection,
    init_around_one,
    updates_statistics,
)
from vq_jax.ranges import check_ranges
from vq_jax.types import Array, Float, Int

_GROUPS = 32


class PatchDiscriminator(nn.Module):
    """Judges overlapping patches: strided 4-wide convolutions to a map of logits (Isola et al. 2017,
    arXiv:1611.07004, appendix 6.1.2), laid out as in Esser et al. 2021, arXiv:2012.09841, code release.

    A convolution of stride 2; num_layers - 1 more, normalised, of 2, 4, up to 8 times the channels; one
    of stride 1, normalised; one of stride 1 to a logit. All are padded by one on every side. Layer
    `main_i` is `main.i` in the authors' checkpoints. Differs from their code in biases, which start at
    zero. With three layers a logit sees 70 pixels of each axis.

    Attributes:
      channels: width of the first layer.
      num_layers: convolutions of stride 2.
      norm: `batch`, `group` (up to 32 groups; no statistics) or `none`.
      spectral_norm: divides each kernel by its largest singular value, one power iteration a call
        (Miyato et al. 2018, arXiv:1802.05957); `init` returns kernels already divided once.
      num_classes: number of classes, see `LabelProjection`; None for an unconditional discriminator.
      dtype: compute dtype; parameters, statistics and logits are float32.
    """

    channels: int = 64
    num_layers: int = 3
    norm: str = "batch"
    spectral_norm: bool = False
    num_classes: int | None = None
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, type(self).__name__)
        if self.norm not in ("batch", "group", "none"):
            raise ValueError(f"expected norm batch, group or none, got {self.norm!r}")

    @nn.compact
    def __call__(
        self, pictures: Float[Array, "B *S C"], labels: Int[Array, " B"] | None = None, *, train: bool = False
    ) -> Float[Array, "B *s 1"]:
        """Judges pictures.

        Args:
          pictures: in [-1, 1], any float dtype, any number of spatial axes.
          labels: the class of each, where there are classes.
          train: use the batch's statistics; update the running ones, if the collection is mutable.

        Returns:
          Logits; each axis s is S / 2^num_layers, rounded down, less two.

        Raises:
          ValueError: a spatial axis is too short for the layers.
        """
        least = 3 * 2**self.num_layers
        if min(pictures.shape[1:-1], default=0) < least:
            raise ValueError(
                f"expected spatial axes of at least {least} pixels for num_layers = {self.num_layers}, "
                f"got shape {pictures.shape}; use larger pictures or fewer layers"
            )
        x = self._conv(pictures, self.channels, 2, "main_0", True, train)
        x = nn.leaky_relu(x, SLOPE)
        for layer in range(1, self.num_layers + 1):
            features = self.channels * min(2**layer, 8)
            stride = 2 if layer < self.num_layers else 1
            index = 3 * layer - 1
            x = self._conv(x, features, stride, f"main_{index}", self.norm != "batch", train)
            x = self._normalize(x, f"main_{index + 1}", train)
            x = nn.leaky_relu(x, SLOPE)
        logits = self._conv(x, 1, 1, f"main_{3 * self.num_layers + 2}", True, train).astype(jnp.float32)
        return LabelProjection(self.num_classes, name="projection")(logits, x, labels)

    def _conv(
        self, x: Float[Array, "B *S I"], features: int, stride: int, name: str, use_bias: bool, train: bool
    ) -> Float[Array, "B *s O"]:
        spatial = x.ndim - 2
        conv = nn.Conv(
            features,
            (4,) * spatial,
            strides=(stride,) * spatial,
            padding=[(1, 1)] * spatial,
            use_bias=use_bias,
            kernel_init=nn.initializers.normal(0.02),
            dtype=self.dtype,
            name=name,
        )
        if self.spectral_norm:
            return nn.SpectralNorm(conv, name=f"{name}_spectral")(
                x, update_stats=updates_statistics(self, train)
            )
        return conv(x)

    def _normalize(self, x: Float[Array, "B *S C"], name: str, train: bool) -> Float[Array, "B *S C"]:
        if self.norm == "batch":
            return BatchNorm(dtype=self.dtype, name=name)(x, train=train)
        if self.norm == "group":
            groups = math.gcd(_GROUPS, x.shape[-1])
            norm = nn.GroupNorm(groups, epsilon=1e-5, scale_init=init_around_one, name=name)
            return norm(x.astype(jnp.float32)).astype(self.dtype)
        return x
