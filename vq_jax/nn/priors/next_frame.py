"""A masked prior of one frame's codes, which sees the frames before it as the decoder made them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax import ops
from vq_jax.nn.priors.base import Condition
from vq_jax.nn.priors.layers import RMSNorm, init_kernel
from vq_jax.nn.priors.masked_cnn import ConvBlock
from vq_jax.nn.priors.vector_prior import VectorPrior
from vq_jax.ops.meshes import auto_axes, rows_of
from vq_jax.types import Array, Bool, CodeSpec, Float, Int, Metrics, Num, Params

_FIRST_STEPS = 0.3  # share of frames with all codes hidden, as the first step of sampling has them
_OWN = 3.0  # a position's own code among those around it, before the softmax
_COPIED = 0.5  # weight with which first codes begin as copies, given a tokenizer's vectors
_LEAST = 1e-4  # share of a code that is at none of the nine positions


class Past(NamedTuple):
    """What a frame's codes are drawn from: the last n frames, the latest at the end.

    Attributes:
      codes: int32 [B, n, h, w] or [B, n, h, w, Q]; -1 for a frame that does not exist.
      views: of the frames that the decoder made of them, see `ClosedLoopVQModel.view_next`.
    """

    codes: Int[Array, "B n *s"]
    views: Float[Array, "B n h w V"]

    def followed_by(self, codes: Int[Array, "B *s"], view: Float[Array, "B h w V"]) -> "Past":
        """The past of the frame after one with these codes."""
        both = zip(self, (codes, view), strict=True)
        return Past(*(jnp.concatenate([past[:, 1:], new[:, None]], axis=1) for past, new in both))


class NextFrameCNN(VectorPrior, nn.Module):
    """Convolutions that predict the masked codes of a frame from its other codes and from the last frames.

    A clip is drawn frame by frame, of any length. The prior does not have to find out what codes look like:
    it sees the decoded frames before, beside their codes, and of the last one also what would come next if
    each patch moved on as it did, or as those around it. Codes are read and predicted as the vectors that
    they stand for, see `VectorPrior`; a predicted vector starts from a mixture of those that the last frame
    had around its position, and its first code, which says most, is the likelier the greater its share of
    this mixture is. The tokenizer must be a `ClosedLoopVQModel`: each frame has codes that depend on
    nothing but it and the frame decoded before.

    Attributes:
      codebook_size: number of codes K.
      grid: lengths (T, h, w) of the grid of a clip's codes.
      code_dim: width D of the vectors that codes stand for.
      frame_features: width of a frame's patch, with which a view begins.
      view_features: width V of the views, see `ClosedLoopVQModel.view_next`.
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
      own_frames: share of the training clips whose frames are, from one of them on that has `context` frames
        before it, the prior's own guesses, and whose codes are those that lead from there back to the true
        frames; see `train.own_frames`.
      dtype: compute dtype; parameters and logits are float32.

    References:
      Chang et al. 2022, MaskGIT, arXiv:2202.04200, section 3 (masks, loss, sampling, here of a frame). Bruce
      et al. 2024, Genie, arXiv:2402.15391, section 2.1 (masked codes of a frame given those of the frames
      before; there a transformer over codes alone). See, Liu, Manning 2017, Pointer-Generator Networks,
      arXiv:1704.04368, section 2.2 (copies among what is predicted; here as a term of the logits).
    """

    codebook_size: int
    grid: tuple[int, ...]
    code_dim: int
    frame_features: int
    view_features: int
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
    own_frames: float = 0.8
    dtype: Any = jnp.float32
    tasks = ("next",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_fields()
        if self.context >= self.grid[0]:
            raise ValueError(
                f"{type(self).__name__}.context must be below the {self.grid[0]} codes in time of its clips, "
                f"got {self.context}: see fewer frames, or train on longer clips"
            )

    def setup(self) -> None:
        width = self.width
        self._make_readout(width)
        self.label = self.param("label", init_kernel, (self.label_rows, width), jnp.float32)
        self.place = self.param("place", init_kernel, (*self.grid[1:], width), jnp.float32)
        self.copied = self.param("copied", nn.initializers.zeros, (), jnp.float32)
        self.carried = self.param("carried", nn.initializers.ones, (self.code_dim,), jnp.float32)
        self.shares = nn.Dense(9, kernel_init=nn.initializers.zeros, bias_init=_mostly_own, dtype=self.dtype)
        self.fold = nn.Dense(width, dtype=self.dtype)
        self.blocks = [ConvBlock(width, self.dropout, self.dtype) for _ in range(self.num_layers)]
        self.norm = RMSNorm()
        self.unfold = nn.Dense(width, dtype=self.dtype)

    @property
    def frame_specs(self) -> CodeSpec:
        """Spec of the codes of one frame."""
        return CodeSpec(self.grid[1:], self.codebook_size, self.codes_per_position)

    @nn.nowrap
    def with_vectors(self, params: Params, vectors: Float[Array, "Q K D"]) -> Params:
        """As `VectorPrior.with_vectors`; the first codes begin as copies of those of the last frame."""
        return {**super().with_vectors(params, vectors), "copied": jnp.float32(_COPIED)}

    @nn.nowrap
    def no_past(self, batch: int) -> Past:
        """Returns the past of first frames."""
        return Past(
            jnp.full((batch, self.context, *self.frame_specs.array_shape), -1, jnp.int32),
            jnp.zeros((batch, self.context, *self.grid[1:], self.view_features), jnp.float32),
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
          condition: labels int32 [B] as in `MaskedCNN`; `features`, views of all frames [B, T, h, w, V],
            of which those before a frame are seen; `codes`, the codes of these frames, of the same shape as
            the codes to predict, where they are others.
          mask: codes to hide, of the codes' shape; None hides none.
          train: drop labels and activations, with the rng stream `dropout`.

        Returns:
          Logits, float32.

        Raises:
          ValueError: codes, mask or views do not have the prior's shapes, or it does not accept the labels.
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
        views, used = condition.features, codes if condition.codes is None else condition.codes
        expected = (batch, *self.grid, self.view_features)
        if views is None and self.is_initializing():
            views = jnp.zeros(expected, jnp.float32)
        if views is None or views.shape != expected or used.shape != codes.shape:
            raise ValueError(
                f"{type(self).__name__} sees the frames before each: expected condition.features of shape "
                f"{expected} and condition.codes of shape {codes.shape}, got "
                f"{None if views is None else views.shape} and {used.shape}"
            )
        hidden = jnp.zeros_like(codes, bool)  # spread over devices as the codes are
        hidden = hidden if mask is None else hidden | mask
        patches, outlook = views[..., : self.frame_features], views[..., self.frame_features :]
        before = (
            _flat(_before(used, self.context, -1)),
            _flat(_before(patches, self.context)),
            _flat(_before(outlook, 1)[:, :, 0]),
        )
        rows = jnp.broadcast_to(self._rows(condition, batch, train)[:, None], (batch, times))
        logits, vector = self._of_frames(_flat(codes), _flat(hidden), *before, _flat(rows), train)
        logits, vector = (ops.frames_to_clips(x, times) for x in (logits, vector))
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
        patches = past.views[..., : self.frame_features]
        outlook = past.views[:, -1, ..., self.frame_features :]
        logits, _ = self._of_frames(codes, mask, past.codes, patches, outlook, rows, False)
        return logits.reshape(*codes.shape, -1)

    def loss(
        self, codes: Int[Array, "B T *s"], condition: Condition | None = None, *, train: bool = True
    ) -> tuple[Float[Array, ""], Metrics]:
        """As `MaskedCNN.loss`; each frame has a mask of its own, which in three of ten hides all codes."""
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
        past: Int[Array, "B n *s"],
        patches: Float[Array, "B n h w P"],
        outlook: Float[Array, "B h w O"],
        rows: Int[Array, " B"],
        train: bool,
    ) -> tuple[Float[Array, "B N Q K"], Float[Array, "B N D"]]:
        """Logits and vectors of single frames.

        Args:
          codes: of the frames.
          mask: those to hide.
          past: codes of the frames before; -1 for a frame that does not exist.
          patches: with which the views of these begin.
          outlook: the rest of the last view.
          rows: of the table of labels.
          train: drop activations.
        """
        batch, depth, count = codes.shape[0], self.codes_per_position, self.context
        height, width = self.grid[1:]
        positions = height * width
        hidden = mask.reshape(batch, positions, depth)
        there = past.reshape(batch, count, -1)[..., 0] >= 0
        shown = there.astype(jnp.float32)[:, :, None, None]

        past = past.reshape(batch, count * positions, depth)
        vectors = self._vectors(jnp.maximum(past, 0), past < 0)
        vectors = vectors.reshape(batch, count, positions, -1) * shown
        patches = (1.0 + patches.reshape(batch, count, positions, -1)) * shown
        outlook = (1.0 + outlook.reshape(batch, positions, -1)) * shown[:, -1]
        flags = jnp.broadcast_to(shown, (batch, count, positions, 1))
        seen = jnp.concatenate([vectors, patches, flags], axis=-1).swapaxes(1, 2)
        own = [self._vectors(codes, hidden), hidden.astype(jnp.float32)]
        x = jnp.concatenate([*own, seen.reshape(batch, positions, -1), outlook], axis=-1)

        x = self.fold(x.reshape(batch, height, width, -1).astype(self.dtype))
        label = ops.look_up(self.label, rows)
        x = x + (label[:, None, None] + self.place[None]).astype(self.dtype)
        for block in self.blocks:
            x = block(x, train)
        x = self.unfold(self.norm(x)).reshape(batch, positions, self.width)
        shares = nn.softmax(self.shares(x).astype(jnp.float32))
        last = _around(jax.lax.stop_gradient(vectors[:, -1]).reshape(batch, height, width, -1))
        mixed = jnp.einsum("bnj,bnjd->bnd", shares, last.reshape(batch, positions, 9, -1))
        logits, vector = self._read_out(x, self.carried[None, None] * mixed)
        firsts = _around(past.reshape(batch, count, height, width, depth)[:, -1, ..., :1])
        firsts = firsts.reshape(batch, positions, 9, 1)
        every = jnp.arange(self.codebook_size, dtype=jnp.int32)  # equals none of a frame that does not exist
        parts = [
            jnp.where(firsts[:, :, j] == every[None, None], shares[:, :, j, None], 0.0) for j in range(9)
        ]
        copies = self.copied * jnp.log(_LEAST + sum(parts[1:], start=parts[0]))
        return jnp.concatenate([logits[:, :, :1] + copies[:, :, None], logits[:, :, 1:]], axis=2), vector


def _around(x: Num[Array, "B h w D"]) -> Num[Array, "B h w 9 D"]:
    """What is at each position and the eight around it, the edges repeated."""
    height, width = x.shape[1:3]
    wide = ops.pad_edges(x, ((1, 1), (1, 1)))
    rows = [wide[:, row : row + height] for row in range(3)]
    return jnp.stack([row[:, :, column : column + width] for row in rows for column in range(3)], axis=-2)


def _mostly_own(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Float[Array, "9"]:
    """Shares that begin with most for the position itself; nothing is drawn."""
    return jnp.zeros(shape, dtype).at[4].set(_OWN)


def _before(x: Array, count: int, fill: int = 0) -> Array:
    """The `count` frames before each frame of clips [B, T, ...], as [B, T, count, ...]."""
    wide = jnp.pad(x, ((0, 0), (count, 0), *((0, 0),) * (x.ndim - 2)), constant_values=fill)
    return jnp.stack([wide[:, number : number + x.shape[1]] for number in range(count)], axis=2)


@auto_axes(lambda x: rows_of(x))
def _flat(x: Array) -> Array:
    """Clips [B, T, ...] as [B T, ...]."""
    return x.reshape(-1, *x.shape[2:])
