"""A masked prior of one frame's codes, which sees the frames before it as the decoder made them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vq_jax import ops
from vq_jax.nn.priors.base import Condition
from vq_jax.nn.priors.layers import RMSNorm, init_kernel
from vq_jax.nn.priors.masked_cnn import ConvBlock
from vq_jax.nn.priors.vector_prior import VectorPrior
from vq_jax.types import Array, Bool, CodeSpec, Float, Int, Metrics

_FIRST_STEPS = 0.3  # share of frames with all codes hidden, as the first step of sampling has them
_CARRIED = 0.5  # share of the last frame's vector that a predicted vector begins with


class Past(NamedTuple):
    """What a frame's codes are drawn from: the last n frames, the latest at the end.

    Attributes:
      codes: int32 [B, n, h, w] or [B, n, h, w, Q]; -1 for a frame that does not exist.
      frames: what the decoder made of them, [B, n, H, W, C] in [-1, 1].
    """

    codes: Int[Array, "B n *s"]
    frames: Float[Array, "B n H W C"]

    def followed_by(self, codes: Int[Array, "B *s"], frame: Float[Array, "B H W C"]) -> "Past":
        """The past of the frame after one with these codes."""
        both = zip(self, (codes, frame), strict=True)
        return Past(*(jnp.concatenate([past[:, 1:], new[:, None]], axis=1) for past, new in both))


class NextFrameCNN(VectorPrior, nn.Module):
    """Convolutions that predict the masked codes of a frame from its other codes and from the last frames.

    A clip is drawn frame by frame, of any length. The prior does not have to find out what codes look like:
    it sees the decoded pixels of the frames before, beside their codes, of which those of `vqvae-motion` say
    where each patch moved. Codes are read and predicted as the vectors that they stand for, see
    `VectorPrior`. The tokenizer must have codes for each frame that depend on nothing but it and the frame
    decoded before, as a `ClosedLoopVQModel` has.

    Attributes:
      codebook_size: number of codes K.
      grid: lengths (T, h, w) of the grid of a clip's codes.
      code_dim: width D of the vectors that codes stand for.
      patch_size: pixels per code along rows and columns.
      channels: of the frames.
      context: number n of frames that it sees before the one that it predicts.
      width: channels of the convolutions.
      num_layers: number of residual blocks, of two 3 x 3 convolutions each.
      codes_per_position: Q; codes are [B, T, h, w] if Q is 1, else [B, T, h, w, Q].
      num_classes: number of classes of the condition; None for an unconditional prior.
      class_dropout: as in `TransformerPrior`.
      dropout: dropout rate inside the blocks.
      label_smoothing: label smoothing of the training loss.
      mask_schedule: schedule of the training masks, see `ops.random_mask`.
      unmasked_weight: see `MaskedPrior`.
      regression_weight: weight in the loss of the mean squared error of the predicted vectors.
      own_frames: share of the training clips whose frames are, from one of them on, the prior's own guesses,
        and whose codes are those that lead from there back to the true frames; see `train.own_frames`.
      dtype: compute dtype; parameters and logits are float32.

    References:
      Chang et al. 2022, MaskGIT, arXiv:2202.04200, section 3 (masks, loss, sampling, here of a frame). Bruce
      et al. 2024, Genie, arXiv:2402.15391, section 2.1 (masked codes of a frame given those of the frames
      before; there a transformer over codes alone).
    """

    codebook_size: int
    grid: tuple[int, ...]
    code_dim: int
    patch_size: int = 8
    channels: int = 3
    context: int = 5
    width: int = 96
    num_layers: int = 6
    codes_per_position: int = 1
    num_classes: int | None = None
    class_dropout: float = 0.1
    dropout: float = 0.0
    label_smoothing: float = 0.0
    mask_schedule: str = "cosine"
    unmasked_weight: float = 0.0
    regression_weight: float = 10.0
    own_frames: float = 0.5
    dtype: Any = jnp.float32
    tasks = ("next",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_fields()

    def setup(self) -> None:
        width = self.width
        self._make_readout(width)
        self.label = self.param("label", init_kernel, (self.label_rows, width), jnp.float32)
        self.place = self.param("place", init_kernel, (*self.grid[1:], width), jnp.float32)
        carried = nn.initializers.constant(_CARRIED)
        self.carried = self.param("carried", carried, (self.code_dim,), jnp.float32)
        self.fold = nn.Dense(width, dtype=self.dtype)
        self.blocks = [ConvBlock(width, self.dropout, self.dtype) for _ in range(self.num_layers)]
        self.norm = RMSNorm()
        self.unfold = nn.Dense(width, dtype=self.dtype)

    @property
    def frame_specs(self) -> CodeSpec:
        """Spec of the codes of one frame."""
        return CodeSpec(self.grid[1:], self.codebook_size, self.codes_per_position)

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """Shape (H, W, C) of one frame."""
        rows, columns = (self.patch_size * length for length in self.grid[1:])
        return rows, columns, self.channels

    @nn.nowrap
    def no_past(self, batch: int) -> Past:
        """Returns the past of first frames."""
        return Past(
            jnp.full((batch, self.context, *self.frame_specs.array_shape), -1, jnp.int32),
            jnp.zeros((batch, self.context, *self.frame_shape), jnp.float32),
        )

    def check_condition(self, condition: Condition | None, batch: int) -> None:
        """Raises ValueError unless the prior accepts the condition's labels for `batch` clips."""
        labels = None if condition is None else condition.labels
        super().check_condition(Condition(labels), batch)

    def __call__(
        self,
        codes: Int[Array, "B T *s"],
        condition: Condition | None = None,
        *,
        mask: Bool[Array, "..."] | None = None,
        train: bool = False,
    ) -> Float[Array, "B T *s K"]:
        """Predicts the codes of all frames of clips, each frame from its unmasked codes and those before it.

        Args:
          codes: int32, [B, T, h, w] or [B, T, h, w, Q]; ignored where masked.
          condition: labels int32 [B] as in `MaskedCNN`; `features`, the decoded frames [B, T, H, W, C], each
            of which those after it see; `codes`, theirs, [B, T, h, w] or [B, T, h, w, Q], where they are
            others than those to predict.
          mask: codes to hide, of the codes' shape; None hides none.
          train: drop labels and features, with the rng stream `dropout`.

        Returns:
          Logits, float32.

        Raises:
          ValueError: codes, mask or frames do not have the prior's shapes, or it does not accept the labels.
        """
        return self.predict(codes, condition, mask=mask, train=train)[0]

    def predict(
        self,
        codes: Int[Array, "B T *s"],
        condition: Condition | None = None,
        *,
        mask: Bool[Array, "..."] | None = None,
        train: bool = False,
    ) -> tuple[Float[Array, "B T *s K"], Float[Array, "B N D"]]:
        """As `__call__`, with the predicted vectors too."""
        self._check_mask(codes, mask)
        batch, times = codes.shape[:2]
        condition = Condition() if condition is None else condition
        frames, used = condition.features, codes if condition.codes is None else condition.codes
        if frames is None and self.is_initializing():
            frames = jnp.zeros((batch, times, *self.frame_shape), jnp.float32)
        expected = (batch, times, *self.frame_shape)
        if frames is None or frames.shape != expected or used.shape != codes.shape:
            raise ValueError(
                f"{type(self).__name__} sees the frames before each: expected condition.features of shape "
                f"{expected} and condition.codes of shape {codes.shape}, got "
                f"{None if frames is None else frames.shape} and {used.shape}"
            )
        both = zip(self.no_past(batch), (used, frames), strict=True)
        pasts = [jnp.concatenate([before, clip], axis=1) for before, clip in both]
        windows = np.arange(times)[:, None] + np.arange(self.context)[None]  # of the frames before each
        flat_past = Past(*(_flat(past[:, windows]) for past in pasts))
        rows = jnp.repeat(self._rows(condition, batch, train), times)
        hidden = jnp.zeros(codes.shape, bool) if mask is None else mask
        logits, vector = self._of_frames(_flat(codes), _flat(hidden), flat_past, rows, train)
        return logits.reshape(*codes.shape, -1), vector.reshape(batch, self.positions, -1)

    def of_frame(
        self,
        codes: Int[Array, "B *s"],
        past: Past,
        condition: Condition | None = None,
        *,
        mask: Bool[Array, "B *s"],
    ) -> Float[Array, "B *s K"]:
        """Predicts the codes of one frame of each clip.

        Args:
          codes: int32, [B, h, w] or [B, h, w, Q]; ignored where masked.
          past: the frames before it.
          condition: labels, as in `__call__`.
          mask: codes to hide, of the codes' shape.

        Returns:
          Logits, float32.
        """
        rows = self._rows(condition, codes.shape[0], False)
        return self._of_frames(codes, mask, past, rows, False)[0].reshape(*codes.shape, -1)

    def loss(
        self, codes: Int[Array, "B T *s"], condition: Condition | None = None, *, train: bool = True
    ) -> tuple[Float[Array, ""], Metrics]:
        """As `MaskedCNN.loss`; each frame has a mask of its own."""
        shape = (codes.shape[0] * codes.shape[1], *codes.shape[2:])
        mask = ops.random_mask(self.make_rng("mask"), shape, self.mask_schedule)
        whole = jax.random.bernoulli(self.make_rng("mask"), jnp.float32(_FIRST_STEPS), shape[:1])
        mask = (mask | whole.reshape(-1, *(1,) * (mask.ndim - 1))).reshape(codes.shape)
        logits, vector = self.predict(codes, condition, mask=mask, train=train)
        loss, metrics = self._masked_loss(logits, codes, mask, train)
        return loss + self._vector_loss(vector, codes, mask), metrics

    def _of_frames(
        self,
        codes: Int[Array, "B *s"],
        mask: Bool[Array, "B *s"],
        past: Past,
        rows: Int[Array, " B"],
        train: bool,
    ) -> tuple[Float[Array, "B N Q K"], Float[Array, "B N D"]]:
        """Logits and vectors of single frames, given rows of the table of labels."""
        batch, depth, count = codes.shape[0], self.codes_per_position, self.context
        height, width = self.grid[1:]
        positions = height * width
        hidden = mask.reshape(batch, positions, depth)
        there = past.codes.reshape(batch, count, -1)[..., 0] >= 0
        shown = there.astype(jnp.float32)[:, :, None, None]

        past_hidden = jnp.zeros((batch, count * positions, depth), bool)
        vectors = self._vectors(jnp.maximum(past.codes, 0), past_hidden)
        vectors = vectors.reshape(batch, count, positions, -1) * shown
        patches = ops.to_patches(ops.clips_to_frames(past.frames), self.patch_size)
        patches = (1.0 + patches.reshape(batch, count, positions, -1)) * shown
        flags = jnp.broadcast_to(shown, (batch, count, positions, 1))
        seen = jnp.concatenate([vectors, patches, flags], axis=-1).swapaxes(1, 2)
        own = [self._vectors(codes, hidden), hidden.astype(jnp.float32)]
        x = jnp.concatenate([*own, seen.reshape(batch, positions, -1)], axis=-1)

        x = self.fold(x.reshape(batch, height, width, -1).astype(self.dtype))
        label = ops.look_up(self.label, rows)
        x = x + (label[:, None, None] + self.place[None]).astype(self.dtype)
        for block in self.blocks:
            x = block(x, train)
        x = self.unfold(self.norm(x)).reshape(batch, positions, self.width)
        return self._read_out(x, self.carried[None, None] * jax.lax.stop_gradient(vectors[:, -1]))


def _flat(x: Array) -> Array:
    """Clips [B, T, ...] as [B T, ...]."""
    return x.reshape(-1, *x.shape[2:])
