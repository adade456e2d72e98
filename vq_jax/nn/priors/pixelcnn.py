"""PixelCNN: a prior that predicts each code from the codes before it, by masked convolutions."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax import ops
from vq_jax.nn.priors.base import Condition, LabelledPrior, next_code_loss
from vq_jax.nn.priors.layers import init_kernel
from vq_jax.types import Array, Float, Int, Metrics

_init_convolution = nn.initializers.variance_scaling(1.0, "fan_in", "normal")


class CausalConv(nn.Module):
    """Convolution of the stack of one axis, which reads no later position along that axis.

    Along its own axis it reads the position itself and those before it; along later axes, both sides; along
    earlier axes, only the same coordinate. It reaches half a kernel on each axis.

    Attributes:
      features: output channels.
      width: width of the kernel, odd.
      axis: the stack's axis of the grid.
      strict: leave out the position itself, when the inputs are codes; features of a stack do not depend on
        the code at their position.
      dtype: compute dtype; parameters are float32.
    """

    features: int
    width: int
    axis: int
    strict: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B *s C"]) -> Float[Array, "B *s O"]:
        axes, axis, half = x.ndim - 2, self.axis, self.width // 2
        taps = half if self.strict else half + 1
        shape = (1,) * axis + (taps,) + (self.width,) * (axes - axis - 1) + (x.shape[-1], self.features)
        kernel = self.param("kernel", _init_convolution, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        padding = [(0, 0)] * axis + [(half, 0)] + [(half, half)] * (axes - axis - 1)
        y = ops.conv(x.astype(self.dtype), kernel.astype(self.dtype), (1,) * axes, padding)
        y = jax.lax.slice_in_dim(y, 0, x.shape[1 + axis], axis=1 + axis)  # one too long if strict
        return y + jnp.broadcast_to(bias.astype(self.dtype), y.shape)


class GatedLayer(nn.Module):
    """One layer of all stacks: convolution, class and gate; the last stack is residual.

    Attributes:
      width: channels of every stack.
      kernel: width of the convolutions.
      first: whether this is the layer that reads embedded codes.
      dropout: dropout rate of the gated features.
      dtype: compute dtype; parameters are float32.
    """

    width: int
    kernel: int
    first: bool
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(
        self, stacks: tuple[Array, ...], class_embedding: Float[Array, "B E"], train: bool
    ) -> tuple[tuple[Array, ...], Float[Array, "B *s E"]]:
        above: Array | None = None
        gated: list[Array] = []
        for axis, x in enumerate(stacks):
            conv = CausalConv(2 * self.width, self.kernel, axis, self.first, self.dtype, name=f"conv_{axis}")
            h = conv(x)
            if above is not None:
                h = h + nn.Dense(2 * self.width, dtype=self.dtype, name=f"above_{axis}")(above)
            above = h
            bias = nn.Dense(2 * self.width, use_bias=False, dtype=self.dtype, name=f"class_{axis}")(
                class_embedding
            )
            bias = bias.reshape(bias.shape[0], *(1,) * (h.ndim - 2), bias.shape[-1])
            left, right = jnp.split(h + jnp.broadcast_to(bias, h.shape), 2, axis=-1)
            gated.append(jnp.tanh(left) * jax.nn.sigmoid(right))
        last = nn.Dropout(self.dropout, deterministic=not train)(gated[-1])
        skip = nn.Dense(self.width, dtype=self.dtype, name="skip")(last)
        gated[-1] = nn.Dense(self.width, dtype=self.dtype, name="out")(last)
        if not self.first:
            gated[-1] = gated[-1] + stacks[-1]
        return tuple(gated), skip


class PixelCNN(LabelledPrior, nn.Module):
    """Gated PixelCNN over grids of codes, the prior of the original VQ-VAE.

    There is one stack of convolutions per axis of the grid, and no blind spot. On two axes, the vertical
    stack reads the rows above; the horizontal stack reads the row to the left and the vertical stack's
    features at its position. On n axes, as for video, the stack of axis k reads the positions with the same
    coordinates on the axes before k and an earlier one on k, and the features of the stack before it. Gates,
    the class and the residual connection of the last stack are those of the paper; the output reads the sum
    of the features of all layers, as in WaveNet.

    Attributes:
      codebook_size: number of codes K.
      grid: lengths *s of the grid's axes, any number; read in raster order.
      width: channels of every stack.
      num_layers: number of gated layers; the first reads the codes.
      kernel: width of the convolutions, odd and at least 3.
      head_features: hidden width of the two layers that compute the logits.
      num_classes: number of classes of the condition; None for an unconditional prior.
      class_dropout: share of the labels that training replaces by `null_label`, for guidance.
      dropout: dropout rate of the gated features.
      label_smoothing: label smoothing of the training loss.
      dtype: compute dtype; parameters and logits are float32.

    References:
      van den Oord et al. 2016, Conditional Image Generation with PixelCNN Decoders, arXiv:1606.05328,
      sections 2.1 to 2.3. van den Oord et al. 2017, arXiv:1711.00937, section 3.3.
    """

    codebook_size: int
    grid: tuple[int, ...]
    width: int = 128
    num_layers: int = 12
    kernel: int = 5
    head_features: int = 512
    num_classes: int | None = None
    class_dropout: float = 0.1
    dropout: float = 0.1
    label_smoothing: float = 0.0
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_fields()

    @nn.compact
    def __call__(
        self, codes: Int[Array, "B *s"], condition: Condition | None = None, *, train: bool = False
    ) -> Float[Array, "B *s K"]:
        """Predicts every code from the codes before it.

        Args:
          codes: int32 [B, *s].
          condition: labels int32 [B] in [0, num_classes), or `null_label`; None for an unconditional prior.
          train: apply dropout, also to labels, with the rng stream `dropout`.

        Returns:
          Logits, float32; the logits of a code depend only on the codes before it and the condition.

        Raises:
          ValueError: the codes do not have the grid's shape, or the prior does not accept the condition.
        """
        self._check_codes(codes.shape, self.grid)
        rows = self._rows(condition, codes.shape[0], train)
        classes = self.param("class", init_kernel, (self.label_rows, self.width), jnp.float32)
        class_embedding = ops.look_up(classes, rows)
        embedding = self.param("embedding", init_kernel, (self.codebook_size, self.width), jnp.float32)
        stacks: tuple[Array, ...] = (ops.look_up(embedding, codes),) * len(self.grid)
        skips = jnp.zeros((*codes.shape, self.width), self.dtype)
        for layer in range(self.num_layers):
            gated = GatedLayer(
                self.width, self.kernel, layer == 0, self.dropout, self.dtype, name=f"layer_{layer}"
            )
            stacks, skip = gated(stacks, class_embedding, train)
            skips = skips + skip
        hidden = nn.Dense(self.head_features, dtype=self.dtype, name="head_in")(nn.relu(skips))
        logits = nn.Dense(self.codebook_size, dtype=self.dtype, name="head_out")(nn.relu(hidden))
        return logits.astype(jnp.float32)

    def loss(
        self, codes: Int[Array, "B *s"], condition: Condition | None = None, *, train: bool = True
    ) -> tuple[Float[Array, ""], Metrics]:
        """Computes the mean cross-entropy of the codes in nats, smoothed in training, and metrics."""
        logits = self(codes, condition, train=train)
        return next_code_loss(logits, codes, self.label_smoothing if train else 0.0)
