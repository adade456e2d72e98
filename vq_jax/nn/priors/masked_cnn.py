"""A masked prior of convolutions: a clip's codes in time lie side by side in the channels of its rows and
columns."""

import math
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from vq_jax import ops
from vq_jax.nn.blocks import Conv
from vq_jax.nn.priors.base import Condition
from vq_jax.nn.priors.layers import RMSNorm, init_kernel
from vq_jax.nn.priors.vector_prior import VectorPrior
from vq_jax.types import Array, Bool, Float, Int, Metrics


class MaskedCNN(VectorPrior, nn.Module):
    """Convolutions that predict the masked codes of a grid from the others: `MaskGIT` for small grids.

    It learns what moves, and where to, in a fraction of the steps that a transformer takes. Of a grid
    [T, h, w] all T codes of a place are its channels, so that one network over rows and columns sees all
    times at once (SimVP). Codes are read and predicted as the vectors that they stand for, see `VectorPrior`,
    so that alike codes are alike to the prior from the first step.

    Attributes:
      codebook_size: number of codes K.
      grid: lengths *s of the grid's axes; the last two are rows and columns, those before go into channels.
      code_dim: width D of the vectors that codes stand for.
      width: channels of the convolutions.
      num_layers: number of residual blocks, of two 3 x 3 convolutions each.
      codes_per_position: Q; codes are [B, *s] if Q is 1, else [B, *s, Q].
      num_classes: number of classes of the condition; None for an unconditional prior.
      class_dropout: as in `TransformerPrior`.
      dropout: dropout rate inside the blocks.
      label_smoothing: label smoothing of the training loss.
      tasks: see `MaskedPrior`.
      mask_schedule: see `MaskedPrior`.
      unmasked_weight: see `MaskedPrior`.
      regression_weight: weight in the loss of the mean squared error of the predicted vectors.
      dtype: compute dtype; parameters and logits are float32.

    References:
      Chang et al. 2022, MaskGIT, arXiv:2202.04200, section 3, eq. 1 (masks, loss, sampling). Gao et al. 2022,
      SimVP: Simpler yet better video prediction, arXiv:2206.05099, section 3 (time in channels).
    """

    codebook_size: int
    grid: tuple[int, ...]
    code_dim: int
    width: int = 128
    num_layers: int = 8
    codes_per_position: int = 1
    num_classes: int | None = None
    class_dropout: float = 0.1
    dropout: float = 0.0
    label_smoothing: float = 0.0
    tasks: tuple[str, ...] = ("generation",)
    mask_schedule: str = "cosine"
    unmasked_weight: float = 0.0
    regression_weight: float = 10.0
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_fields()
        if len(self.grid) < 2:
            raise ValueError(f"{type(self).__name__}.grid must have rows and columns, got {self.grid}")

    def setup(self) -> None:
        width, times = self.width, math.prod(self.grid[:-2])
        self._make_readout(width)
        self.label = self.param("label", init_kernel, (self.label_rows, width), jnp.float32)
        self.place = self.param("place", init_kernel, (*self.grid[-2:], width), jnp.float32)
        self.fold = nn.Dense(width, dtype=self.dtype)
        self.blocks = [ConvBlock(width, self.dropout, self.dtype) for _ in range(self.num_layers)]
        self.norm = RMSNorm()
        self.unfold = nn.Dense(times * width, dtype=self.dtype)

    def __call__(
        self,
        codes: Int[Array, "B *s"],
        condition: Condition | None = None,
        *,
        mask: Bool[Array, "..."] | None = None,
        train: bool = False,
    ) -> Float[Array, "B *s K"]:
        """Predicts the codes at all positions; see `MaskGIT.__call__`."""
        return self.predict(codes, condition, mask=mask, train=train)[0]

    def predict(
        self,
        codes: Int[Array, "B *s"],
        condition: Condition | None = None,
        *,
        mask: Bool[Array, "..."] | None = None,
        train: bool = False,
    ) -> tuple[Float[Array, "B *s K"], Float[Array, "B N D"]]:
        """Predicts the logits of the codes at all positions, and the vector at each, float32.

        Args:
          codes: int32, [B, *s] or [B, *s, Q]; ignored where masked.
          condition: labels int32 [B] in [0, num_classes), or `null_label`; None for an unconditional prior.
          mask: codes to hide, of the codes' shape; None hides none.
          train: drop labels and features, with the rng stream `dropout`.

        Raises:
          ValueError: codes or mask do not have the grid's shape, or the prior does not accept the condition.
        """
        self._check_mask(codes, mask)
        batch, depth, positions = codes.shape[0], self.codes_per_position, self.positions
        mask = jnp.zeros(codes.shape, bool) if mask is None else mask
        hidden = mask.reshape(batch, positions, depth)
        tokens = jnp.concatenate([self._vectors(codes, hidden), hidden.astype(jnp.float32)], axis=-1)

        rows, columns = self.grid[-2:]
        times = positions // (rows * columns)
        x = tokens.reshape(batch, times, rows * columns, -1).swapaxes(1, 2)
        x = self.fold(x.reshape(batch, rows, columns, -1).astype(self.dtype))
        label = ops.look_up(self.label, self._rows(condition, batch, train))
        x = x + (label[:, None, None] + self.place[None]).astype(self.dtype)
        for block in self.blocks:
            x = block(x, train)
        x = self.unfold(self.norm(x)).reshape(batch, rows * columns, times, self.width)
        x = x.swapaxes(1, 2).reshape(batch, positions, self.width)

        logits, vector = self._read_out(x)
        return logits.reshape(*codes.shape, self.codebook_size), vector

    def loss(
        self, codes: Int[Array, "B *s"], condition: Condition | None = None, *, train: bool = True
    ) -> tuple[Float[Array, ""], Metrics]:
        """As `MaskedPrior.loss`, plus the weighted error of the vectors where codes are masked."""
        mask = self._training_mask(codes)
        logits, vector = self.predict(codes, condition, mask=mask, train=train)
        loss, metrics = self._masked_loss(logits, codes, mask, train)
        return loss + self._vector_loss(vector, codes, mask), metrics


class ConvBlock(nn.Module):
    """x + conv(gelu(conv(norm(x)))), with the second kernel small at first.

    Attributes:
      width: channels.
      dropout: dropout rate between the convolutions, in training; rng stream `dropout`.
      dtype: compute dtype; parameters are float32.
    """

    width: int
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B h w W"], train: bool) -> Float[Array, "B h w W"]:
        """Applies the block."""
        h = nn.gelu(
            Conv(self.width, kernel_init=_WIDE, dtype=self.dtype, name="first")(RMSNorm(name="norm")(x))
        )
        h = nn.Dropout(self.dropout, deterministic=not train)(h)
        return x + Conv(self.width, kernel_init=_NARROW, dtype=self.dtype, name="second")(h)


_WIDE = nn.initializers.lecun_normal()
_NARROW = nn.initializers.variance_scaling(0.1, "fan_in", "truncated_normal")
