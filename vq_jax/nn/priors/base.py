"""Conditions and base classes of the priors over grids of codes."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from vq_jax import ops
from vq_jax.nn.priors.layers import init_kernel
from vq_jax.ranges import check_ranges
from vq_jax.types import Array, CodeSpec, Float, Int, Metrics


@struct.dataclass
class Condition:
    """Inputs of a prior besides the codes that it models; None for those that are not given.

    Attributes:
      labels: classes, int32 [B]; a prior's `null_label` stands for no class.
      codes: other grids of codes of the same pictures, int32, or a tuple of them from coarse to fine.
      features: float [B, ...].
    """

    labels: Int[Array, " B"] | None = None
    codes: Any = None
    features: Float[Array, "B ..."] | None = None


class LabelledPrior:
    """Base of the priors over one grid of codes: checks of their fields and conditions, and class labels.

    A mixin for linen modules with the fields below, which `TransformerPrior` explains.
    """

    codebook_size: int
    grid: tuple[int, ...]
    num_classes: int | None
    class_dropout: float
    codes_per_position = 1

    def _check_fields(self) -> None:
        """Raises ValueError if a field is out of its range or the grid has no axes."""
        name = type(self).__name__
        check_ranges(self, name)
        if not self.grid:
            raise ValueError(f"{name}.grid must have at least one axis, got ()")

    @property
    def code_specs(self) -> CodeSpec:
        """Spec of the codes that the prior models."""
        return CodeSpec(self.grid, self.codebook_size, self.codes_per_position)

    @property
    def code_shape(self) -> tuple[int, ...]:
        """Shape of one picture's codes: *s, or (*s, Q) with several codes per position."""
        return self.code_specs.array_shape

    @property
    def positions(self) -> int:
        """Number N of positions of the grid."""
        return math.prod(self.grid)

    @property
    def null_label(self) -> int:
        """The label that selects unconditional logits.

        Raises:
          ValueError: the prior has no such label, because it is unconditional or has no class dropout.
        """
        name = type(self).__name__
        if self.num_classes is None:
            raise ValueError(f"this {name} is unconditional (num_classes = None) and has no null label")
        if self.class_dropout == 0.0:
            raise ValueError(
                f"this {name} was trained without class dropout and has no unconditional logits: sample with "
                "guidance 1, or train it with class_dropout above 0"
            )
        return self.num_classes

    @property
    def label_rows(self) -> int:
        """Rows of a table of labels: one per class, and a last one with class dropout; 1 without classes."""
        return 1 if self.num_classes is None else self.num_classes + (self.class_dropout > 0)

    def check_condition(self, condition: Condition | None, batch: int) -> None:
        """Raises ValueError unless the prior accepts the condition for `batch` grids."""
        name = type(self).__name__
        condition = Condition() if condition is None else condition
        if condition.codes is not None or condition.features is not None:
            raise ValueError(
                f"{name} is conditioned on labels only: omit condition.codes and condition.features"
            )
        if self.num_classes is None and condition.labels is not None:
            raise ValueError(f"this {name} is unconditional (num_classes = None): omit condition.labels")
        if self.num_classes is not None:
            if condition.labels is None:
                raise ValueError(
                    f"this {name} is conditioned on {self.num_classes} classes: give condition.labels, with "
                    "null_label for unconditional logits"
                )
            if condition.labels.shape != (batch,):
                raise ValueError(f"expected labels of shape ({batch},), got {condition.labels.shape}")

    def _rows(self, condition: Condition | None, batch: int, train: bool) -> Int[Array, " B"]:
        """Returns each grid's row in a table of `label_rows`; training drops some of the labels.

        The draws use the rng stream `dropout`.
        """
        module: Any = self
        self.check_condition(condition, batch)
        if condition is None or condition.labels is None:
            return jnp.zeros((batch,), jnp.int32)
        labels = condition.labels.astype(jnp.int32)
        if train and self.class_dropout > 0 and not module.is_initializing():
            drop = jax.random.bernoulli(
                module.make_rng("dropout"), jnp.float32(self.class_dropout), labels.shape
            )
            labels = jnp.where(drop, self.null_label, labels)
        return labels

    def _check_codes(self, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
        if shape[1:] != expected:
            wanted = ", ".join(map(str, expected))
            raise ValueError(f"{type(self).__name__} expected codes of shape [B, {wanted}], got {shape}")


def next_code_loss(
    logits: Float[Array, "B *s K"], codes: Int[Array, "B *s"], label_smoothing: float
) -> tuple[Float[Array, ""], Metrics]:
    """Computes the mean cross-entropy of sequentially predicted codes in nats, and unsmoothed metrics."""
    loss = ops.code_cross_entropy(logits, codes, label_smoothing=label_smoothing)
    plain = ops.code_cross_entropy(logits, codes)
    return loss, {"cross_entropy": plain, "accuracy": ops.code_accuracy(logits, codes)}


class TransformerPrior(LabelledPrior, nn.Module):
    """Base of the priors that are transformers over one grid of codes.

    Attributes:
      codebook_size: number of codes K.
      grid: lengths *s of the grid's axes, any number; its N positions are read in raster order.
      width: width of a token.
      num_layers: number of transformer layers.
      num_heads: attention heads per layer; the width of a head must be even, with at least two channels
        per axis of the grid.
      mlp_features: hidden width of the feed-forward layers; by default 8/3 of `width`, rounded up to a
        multiple of 64.
      num_classes: number of classes of the condition; None for an unconditional prior.
      class_dropout: share of the labels that training replaces by `null_label`, to learn the
        unconditional logits that guidance needs; with 0 there is no such label.
      dropout: dropout rate after attention and feed-forward layers.
      token_dropout: dropout rate of the embedded tokens.
      label_smoothing: label smoothing of the training loss.
      remat: recompute the activations of each layer in the backward pass instead of keeping them.
      dtype: compute dtype; parameters and logits are float32.
    """

    codebook_size: int
    grid: tuple[int, ...]
    width: int = 768
    num_layers: int = 12
    num_heads: int = 12
    mlp_features: int | None = None
    num_classes: int | None = None
    class_dropout: float = 0.1
    dropout: float = 0.1
    token_dropout: float = 0.1
    label_smoothing: float = 0.0
    remat: bool = False
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        super().__post_init__()
        name = type(self).__name__
        self._check_fields()
        if self.width % self.num_heads:
            raise ValueError(
                f"{name}.width must be a multiple of num_heads = {self.num_heads}, got {self.width}"
            )
        ops.rotary_angles(ops.grid_coordinates((1,) * len(self.token_grid)), self.width // self.num_heads)

    @property
    def token_grid(self) -> tuple[int, ...]:
        """Lengths of the axes of the tokens, whose coordinates give each its position embedding."""
        return self.grid

    def _prefix_table(self) -> Array:
        return self.param("prefix", init_kernel, (self.label_rows, self.width), jnp.float32)

    def _position_tables(self) -> list[Array]:
        return [
            self.param(f"position_{axis}", init_kernel, (length, self.width), jnp.float32)
            for axis, length in enumerate(self.token_grid)
        ]

    def _prefix(self, condition: Condition | None, batch: int, train: bool) -> Float[Array, "B E"]:
        return ops.look_up(self.prefix, self._rows(condition, batch, train))

    def _position_embeddings(self) -> Float[Array, "N E"]:
        """Returns one learned vector per token, the sum of a vector for its coordinate on each axis."""
        coordinates = ops.grid_coordinates(self.token_grid)
        return sum(
            (table[coordinates[:, axis]] for axis, table in enumerate(self.axis_positions)),
            start=jnp.zeros((len(coordinates), self.width), jnp.float32),
        )
