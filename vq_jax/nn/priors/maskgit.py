"""MaskGIT: a prior that predicts the masked codes of a grid from the others."""

import jax
import jax.numpy as jnp
import numpy as np

from vq_jax import ops
from vq_jax.nn.priors.base import Condition, TransformerPrior
from vq_jax.nn.priors.layers import Layers, RMSNorm, init_kernel, mlp_width
from vq_jax.nn.priors.masked_loss import MaskedPrior
from vq_jax.types import Array, Bool, Float, Int


class MaskGIT(MaskedPrior, TransformerPrior):
    """Bidirectional transformer over grids of codes with a mask token.

    The sequence is a prefix token, which carries the class, followed by the codes, with the mask token in
    place of masked ones. A learned position embedding is added to each code, and queries and keys are
    rotated by the rotary angles of the coordinates, counted from 1. The layers are those of `GPT`; the
    published ones are post-normalised, with biases and learned positions only, and their output is tied to
    the embedding.

    The Q codes of a position are Q tokens, on one more axis of the grid, each with its own codebook and head:
    any of them may be masked while the others are known. Or one token carries all codes of a position, the
    sum of their embeddings, and each has a head: Q times fewer tokens, but codes of a position that are
    masked together are predicted independently of each other.

    What is given at sampling is known codes. So that the prior has seen such, training draws a task for each
    grid, whose given codes are never masked, see `ops.given_codes`.

    Attributes:
      codes_per_position: Q; codes are [B, *s] if Q is 1, else [B, *s, Q].
      tokens: `codes`, a token for each code; `positions`, one for all codes of a position.
      tasks: see `MaskedPrior`.
      mask_schedule: see `MaskedPrior`.
      unmasked_weight: see `MaskedPrior`.

    References:
      Chang et al. 2022, MaskGIT, arXiv:2202.04200, section 3, eq. 1. Yu et al. 2023, MAGVIT-v2,
      arXiv:2310.05737, section 3.2 (one token for the parts of a code).
    """

    codes_per_position: int = 1
    tokens: str = "codes"
    tasks: tuple[str, ...] = ("generation",)
    mask_schedule: str = "cosine"
    unmasked_weight: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tokens not in ("codes", "positions"):
            raise ValueError(f"MaskGIT.tokens must be codes or positions, got {self.tokens!r}")

    @property
    def token_grid(self) -> tuple[int, ...]:
        """The grid, and an axis for the codes of a position if each is a token."""
        return self.grid if self.tokens == "positions" else self.code_shape

    def setup(self) -> None:
        self.prefix = self._prefix_table()
        self.axis_positions = self._position_tables()
        depth, size = self.codes_per_position, self.codebook_size
        # the last rows are mask tokens: one for all, or, where they are summed, one for each code
        masks = depth if self.tokens == "positions" else 1
        self.embedding = self.param("embedding", init_kernel, (depth * size + masks, self.width), jnp.float32)
        shape = (self.width, size) if depth == 1 else (depth, self.width, size)
        self.head = self.param("head", init_kernel, shape, jnp.float32)
        self.norm = RMSNorm()
        mlp = self.mlp_features or mlp_width(self.width)
        self.layers = Layers(
            self.num_layers,
            self.num_heads,
            mlp,
            False,
            self.dropout,
            self.remat,
            self.dtype,
        )

    def __call__(
        self,
        codes: Int[Array, "B *s"],
        condition: Condition | None = None,
        *,
        mask: Bool[Array, "..."] | None = None,
        train: bool = False,
    ) -> Float[Array, "B *s K"]:
        """Predicts the codes at all positions.

        Args:
          codes: int32, [B, *s] or [B, *s, Q]; ignored where masked.
          condition: labels int32 [B] in [0, num_classes), or `null_label`; None for an unconditional prior.
          mask: codes to hide, of the codes' shape; None hides none.
          train: apply dropout, also to tokens and labels, with the rng stream `dropout`.

        Returns:
          Logits, float32.

        Raises:
          ValueError: codes or mask do not have the grid's shape, or the prior does not accept the
            condition.
        """
        self._check_mask(codes, mask)
        batch, depth = codes.shape[0], self.codes_per_position
        tokens = self._embed(codes, mask)
        tokens = tokens + jnp.broadcast_to(self._position_embeddings()[None], tokens.shape)
        prefix = self._prefix(condition, batch, train)
        tokens = jnp.concatenate([prefix[:, None], tokens], axis=1)
        if train and self.token_dropout > 0.0 and not self.is_initializing():
            keep = jax.random.bernoulli(
                self.make_rng("dropout"), jnp.float32(1.0 - self.token_dropout), tokens.shape
            )
            tokens = jnp.where(keep, tokens / (1.0 - self.token_dropout), 0.0)
        coordinates = np.concatenate(
            [np.zeros((1, len(self.token_grid)), np.int32), ops.grid_coordinates(self.token_grid) + 1]
        )
        angles = jnp.asarray(ops.rotary_angles(coordinates, self.width // self.num_heads))
        hidden = self.norm(self.layers(tokens.astype(self.dtype), angles, train=train)[:, 1:])
        head = self.head.astype(self.dtype)
        if depth == 1:
            logits = hidden @ head
        elif self.tokens == "positions":
            logits = jnp.einsum("bne,qek->bnqk", hidden, head)
        else:
            by_depth = hidden.reshape(batch, self.positions, depth, self.width)
            logits = jnp.einsum("bnqe,qek->bnqk", by_depth, head)
        return logits.astype(jnp.float32).reshape(*codes.shape, self.codebook_size)

    def _embed(self, codes: Int[Array, "B *s"], mask: Bool[Array, "B *s"] | None) -> Float[Array, "B T E"]:
        batch, depth = codes.shape[0], self.codes_per_position
        summed = self.tokens == "positions"
        rows, hidden = codes, jnp.int32(depth * self.codebook_size)
        if depth > 1:
            number = jnp.broadcast_to(jnp.arange(depth, dtype=jnp.int32), codes.shape)
            rows = codes + number * self.codebook_size
            hidden = hidden + number if summed else hidden
        if mask is not None:
            rows = jnp.where(mask, hidden, rows)
        if not summed or depth == 1:
            return ops.look_up(self.embedding, rows.reshape(batch, depth * self.positions))
        parts = [
            ops.look_up(self.embedding, rows[..., q].reshape(batch, self.positions)) for q in range(depth)
        ]
        return sum(parts[1:], start=parts[0])
