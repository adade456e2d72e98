"""The discriminator of whole pictures."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.nn.discriminators.base import SLOPE, LabelProjection
from vq_jax.ops.meshes import auto_axes, rows_of
from vq_jax.ranges import check_ranges
from vq_jax.types import Array, Float, Int


def _blur_down(x: Float[Array, "B *S C"], axes: tuple[int, ...]) -> Float[Array, "B *s C"]:
    """Halves even axes after smoothing by (1, 3, 3, 1) / 8, zero beyond the border."""
    for axis in axes:
        size = x.shape[axis] // 2
        pairs = x.reshape(x.shape[:axis] + (size, 2) + x.shape[axis + 1 :])
        even, odd = (jax.lax.index_in_dim(pairs, j, axis + 1, keepdims=False) for j in (0, 1))
        before: list[tuple[int, int, int]] = [(0, 0, 0)] * x.ndim
        after = before.copy()
        # A negative padding drops the last or the first element: output i takes pixels 2i - 1 to 2i + 2.
        before[axis], after[axis] = (1, -1, 0), (-1, 1, 0)
        zero = jnp.zeros((), x.dtype)
        outer = jax.lax.pad(odd, zero, before) + jax.lax.pad(even, zero, after)
        x = (outer + 3.0 * (even + odd)) / 8.0
    return x


@auto_axes(lambda x, group: rows_of(x))
def minibatch_deviation(x: Float[Array, "B *S C"], group: int) -> Float[Array, "B *S C1"]:
    """Adds a channel that measures how much the pictures of a group differ (Karras et al. 2018,
    arXiv:1710.10196, section 3).

    The channel is the mean over positions and channels of the standard deviation within the group. A
    group is a run of neighbouring pictures as long as the largest divisor of the batch size up to
    `group`, so any batch size works. (StyleGAN2 makes groups of pictures a stride apart.)
    """
    batch = x.shape[0]
    size = max(d for d in range(1, group + 1) if batch % d == 0)
    grouped = x.astype(jnp.float32).reshape(batch // size, size, -1)
    centred = grouped - jnp.mean(grouped, axis=1, keepdims=True)
    deviation = jnp.sqrt(jnp.mean(jnp.square(centred), axis=1) + 1e-8)
    of_picture = jnp.repeat(jnp.mean(deviation, axis=1), size)
    channel = jnp.broadcast_to(of_picture.reshape((batch,) + (1,) * (x.ndim - 1)), (*x.shape[:-1], 1))
    return jnp.concatenate([x, channel.astype(x.dtype)], axis=-1)


class _DownBlock(nn.Module):
    """Residual block that halves the axes given."""

    features: int
    axes: tuple[int, ...]
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B *S C"]) -> Float[Array, "B *s O"]:
        spatial = x.ndim - 2
        skip = nn.Conv(self.features, (1,) * spatial, use_bias=False, dtype=self.dtype, name="skip")
        h = nn.Conv(x.shape[-1], (3,) * spatial, dtype=self.dtype)(x)
        h = _blur_down(nn.leaky_relu(h, SLOPE), self.axes)
        h = nn.leaky_relu(nn.Conv(self.features, (3,) * spatial, dtype=self.dtype)(h), SLOPE)
        return (h + skip(_blur_down(x, self.axes))) / math.sqrt(2.0)


class StyleGANDiscriminator(nn.Module):
    """Judges whole pictures: residual blocks with smoothed halving down to 4 pixels a side, then dense
    layers to one logit (Karras et al. 2020, arXiv:1912.04958, section 4), as used by Chang et al. 2022,
    arXiv:2202.04200.

    Width at a side of r pixels: min(max_channels, 16384 channel_multiplier / r), that is 64 at 256 and
    512 from 32 down. Differs from StyleGAN2: kernels are not scaled at run time, smoothing and halving
    come before a block's second convolution, and the channel of minibatch deviation is off by default:
    reconstructions vary as much as the pictures they are made of, and without it a logit depends on its
    own picture alone. Smooth enough for `ops.r1_penalty`.

    Video: further spatial axes, before the last two, are halved with them while longer than 4.

    Attributes:
      channel_multiplier: of the widths below the bound.
      max_channels: bound of the widths.
      minibatch_group: pictures a group in `minibatch_deviation`, 4 in StyleGAN2; 0 leaves it out.
      num_classes: number of classes, see `LabelProjection`; None for an unconditional discriminator.
      dtype: compute dtype; parameters and logits are float32.
    """

    channel_multiplier: int = 1
    max_channels: int = 512
    minibatch_group: int = 0
    num_classes: int | None = None
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, type(self).__name__)

    @nn.compact
    def __call__(
        self, pictures: Float[Array, "B *S C"], labels: Int[Array, " B"] | None = None, *, train: bool = False
    ) -> Float[Array, "B 1"]:
        """Judges pictures in [-1, 1], each given its label where there are classes.

        Raises:
          ValueError: a picture is not a square of 4, 8, ... 1024 pixels a side, or another spatial
            axis is not a power of two.
        """
        self._check(pictures.shape)
        spatial = pictures.ndim - 2
        side = pictures.shape[-2]
        x = nn.Conv(self._features(side), (3,) * spatial, dtype=self.dtype, name="conv_in")(pictures)
        x = nn.leaky_relu(x, SLOPE)
        while side > 4:
            axes = tuple(axis for axis in range(1, spatial + 1) if x.shape[axis] > 4)
            side //= 2
            x = _DownBlock(self._features(side), axes, self.dtype, name=f"block_{side}")(x)
        if self.minibatch_group:
            x = minibatch_deviation(x, self.minibatch_group)
        features = self._features(side)
        x = nn.Conv(features, (3,) * spatial, dtype=self.dtype, name="conv_out")(x)
        x = nn.leaky_relu(x, SLOPE).reshape(x.shape[0], -1)
        x = nn.leaky_relu(nn.Dense(features, dtype=self.dtype, name="dense")(x), SLOPE)
        logits = nn.Dense(1, dtype=self.dtype, name="logit")(x).astype(jnp.float32)
        return LabelProjection(self.num_classes, name="projection")(logits, x, labels)

    def _features(self, side: int) -> int:
        return min(self.max_channels, 16384 * self.channel_multiplier // side)

    def _check(self, shape: tuple[int, ...]) -> None:
        *others, width = shape[1:-1] or (0,)
        square = all(side == width for side in others[-1:]) and 4 <= width <= 1024
        if not square or any(side & (side - 1) for side in (*others, width)):
            raise ValueError(
                "expected square pictures with a side of 4, 8, 16, ... or 1024 pixels and frames a power "
                f"of two, got shape {shape}; resize or pad them, or use PatchDiscriminator"
            )
