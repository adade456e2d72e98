"""Discriminators: networks that tell pictures from reconstructions.

All are called `discriminator(pictures, labels, train=...)` and give float32 logits, channels last: high
for a picture, low for a reconstruction. With `num_classes` set they judge whether a picture is one of its
class, else labels are left out.

Collection `batch_stats` holds running means and variances and the vectors of spectral normalisation. It
changes only in a call with `train=True` and `mutable=["batch_stats"]`. With `train=True` alone the
batch's own statistics are used and nothing is written: that is the generator's pass.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax.ranges import check_ranges
from vq_jax.types import Array, Float, Int

_SLOPE = 0.2  # of the leaky rectifier below zero
_GROUPS = 32


def _around_one(rng: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
    return 1.0 + 0.02 * jax.random.normal(rng, shape, dtype)


class BatchNorm(nn.Module):
    """Normalises channels over batch and positions (Ioffe and Szegedy 2015, arXiv:1502.03167).

    Statistics are float32 means over the global batch. As in torch, and not as in `nn.BatchNorm`, the
    running variance averages the unbiased one; the parameters and variables are named as in
    `nn.BatchNorm`. A call with `train=True` without the collection mutable is no error.

    Attributes:
      momentum: share of the running statistics that a step keeps.
      epsilon: added to the variance.
      dtype: dtype put out; parameters and statistics are float32.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B *S C"], *, train: bool = False) -> Float[Array, "B *S C"]:
        """Normalises by the batch's statistics in training, else by the running ones."""
        features = x.shape[-1]
        scale = self.param("scale", _around_one, (features,))
        bias = self.param("bias", nn.initializers.zeros, (features,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (features,), jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, (features,), jnp.float32)
        flat = x.astype(jnp.float32).reshape(-1, features)
        mean, var = running_mean.value, running_var.value
        if train:
            mean = jnp.mean(flat, axis=0)
            var = jnp.mean(jnp.square(flat - mean[None]), axis=0)
            if _updating(self, train):
                count = flat.shape[0]
                unbiased = var * (count / max(count - 1, 1))
                keep = self.momentum
                running_mean.value = keep * running_mean.value + (1.0 - keep) * mean
                running_var.value = keep * running_var.value + (1.0 - keep) * unbiased
        factor = scale * jax.lax.rsqrt(var + self.epsilon)
        return ((flat - mean[None]) * factor[None] + bias[None]).reshape(x.shape).astype(self.dtype)


def _updating(module: nn.Module, train: bool) -> bool:
    return train and module.is_mutable_collection("batch_stats") and not module.is_initializing()


class LabelProjection(nn.Module):
    """What a class adds to the logits: the product of its vector and the picture's mean features.

    Attributes:
      num_classes: classes; None: there are none, and nothing is added.

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
        """Adds it.

        Raises:
          ValueError: labels are missing, of another number than the pictures, or not asked for.
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
        added = jnp.sum(table[labels] * mean, axis=-1).reshape(-1, *(1,) * (logits.ndim - 1))
        return logits + jnp.broadcast_to(added, logits.shape)


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
        (Miyato et al. 2018, arXiv:1802.05957); `init` gives the kernels divided once already.
      num_classes: classes that a picture is judged as one of, see `LabelProjection`; None for none.
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
        x = nn.leaky_relu(x, _SLOPE)
        for layer in range(1, self.num_layers + 1):
            features = self.channels * min(2**layer, 8)
            stride = 2 if layer < self.num_layers else 1
            index = 3 * layer - 1
            x = self._conv(x, features, stride, f"main_{index}", self.norm != "batch", train)
            x = self._normalize(x, f"main_{index + 1}", train)
            x = nn.leaky_relu(x, _SLOPE)
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
            return nn.SpectralNorm(conv, name=f"{name}_spectral")(x, update_stats=_updating(self, train))
        return conv(x)

    def _normalize(self, x: Float[Array, "B *S C"], name: str, train: bool) -> Float[Array, "B *S C"]:
        if self.norm == "batch":
            return BatchNorm(dtype=self.dtype, name=name)(x, train=train)
        if self.norm == "group":
            groups = math.gcd(_GROUPS, x.shape[-1])
            norm = nn.GroupNorm(groups, epsilon=1e-5, scale_init=_around_one, name=name)
            return norm(x.astype(jnp.float32)).astype(self.dtype)
        return x


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


def minibatch_deviation(x: Float[Array, "B *S C"], group: int) -> Float[Array, "B *S C1"]:
    """Adds a channel that says how different the pictures of a group are (Karras et al. 2018,
    arXiv:1710.10196, section 3).

    The channel is the mean over positions and channels of the standard deviation within the group. A
    group is a run of neighbouring pictures as long as the largest divisor of the batch size up to
    `group`, so that any batch size does. (StyleGAN2 makes groups of pictures a stride apart.)
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
        h = _blur_down(nn.leaky_relu(h, _SLOPE), self.axes)
        h = nn.leaky_relu(nn.Conv(self.features, (3,) * spatial, dtype=self.dtype)(h), _SLOPE)
        return (h + skip(_blur_down(x, self.axes))) / math.sqrt(2.0)


class StyleGANDiscriminator(nn.Module):
    """Judges whole pictures: residual blocks with smoothed halving down to 4 pixels a side, then dense
    layers to one logit (Karras et al. 2020, arXiv:1912.04958, section 4), as used by Chang et al. 2022,
    arXiv:2202.04200.

    Width at a side of r pixels: min(max_channels, 16384 channel_multiplier / r), that is 64 at 256 and
    512 from 32 down. Differs from StyleGAN2: kernels are not scaled at run time, smoothing and halving
    come before a block's second convolution, and no channel tells how varied the minibatch is unless
    asked for: reconstructions are as varied as the pictures they are made of, and without it a logit
    depends on its own picture alone. Smooth enough for `ops.r1_penalty`.

    Video: further spatial axes, before the last two, are halved with them while longer than 4.

    Attributes:
      channel_multiplier: of the widths below the bound.
      max_channels: bound of the widths.
      minibatch_group: pictures a group in `minibatch_deviation`, 4 in StyleGAN2; 0 leaves it out.
      num_classes: classes that a picture is judged as one of, see `LabelProjection`; None for none.
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
        """Judges pictures in [-1, 1], as ones of their labels where there are classes.

        Raises:
          ValueError: a picture is not a square of 4, 8, ... 1024 pixels a side, or another spatial axis
            is no power of two.
        """
        self._check(pictures.shape)
        spatial = pictures.ndim - 2
        side = pictures.shape[-2]
        x = nn.Conv(self._features(side), (3,) * spatial, dtype=self.dtype, name="conv_in")(pictures)
        x = nn.leaky_relu(x, _SLOPE)
        while side > 4:
            axes = tuple(axis for axis in range(1, spatial + 1) if x.shape[axis] > 4)
            side //= 2
            x = _DownBlock(self._features(side), axes, self.dtype, name=f"block_{side}")(x)
        if self.minibatch_group:
            x = minibatch_deviation(x, self.minibatch_group)
        features = self._features(side)
        x = nn.Conv(features, (3,) * spatial, dtype=self.dtype, name="conv_out")(x)
        x = nn.leaky_relu(x, _SLOPE).reshape(x.shape[0], -1)
        x = nn.leaky_relu(nn.Dense(features, dtype=self.dtype, name="dense")(x), _SLOPE)
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


class MLPDiscriminator(nn.Module):
    """Judges small pictures of one size: flattened, dense layers to one logit.

    Attributes:
      hidden_features: widths of the hidden layers.
      num_classes: classes that a picture is judged as one of, see `LabelProjection`; None for none.
      dtype: compute dtype; parameters and logits are float32.
    """

    hidden_features: tuple[int, ...] = (256, 128)
    num_classes: int | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, pictures: Float[Array, "B *S C"], labels: Int[Array, " B"] | None = None, *, train: bool = False
    ) -> Float[Array, "B 1"]:
        """Judges pictures of any shape, as ones of their labels where there are classes.

        All must have the shape seen by `init`.
        """
        x = pictures.reshape(pictures.shape[0], -1)
        for features in self.hidden_features:
            x = nn.leaky_relu(nn.Dense(features, dtype=self.dtype)(x), _SLOPE)
        logits = nn.Dense(1, dtype=self.dtype)(x).astype(jnp.float32)
        return LabelProjection(self.num_classes, name="projection")(logits, x, labels)
