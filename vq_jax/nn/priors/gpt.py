"""GPT: a prior that predicts each code of a grid from the codes before it, in raster order."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct

from vq_jax import ops
from vq_jax.nn.priors.base import Condition, TransformerPrior, next_code_loss
from vq_jax.nn.priors.layers import Layers, RMSNorm, init_kernel, mlp_width
from vq_jax.types import Array, Float, Int, Metrics

Caches = tuple[tuple[Array, Array], ...]


@struct.dataclass
class GPTWeights:
    """Parameters of each layer on its own, which sampling needs besides the variables."""

    layers: tuple[Any, ...]
    depth: tuple[Any, ...]


class GPT(TransformerPrior):
    """Decoder-only transformer over grids of codes.

    The sequence is a prefix token, which carries the class, followed by all codes but the last; each output
    predicts the next code. A token is the sum of its code's embedding and a learned embedding of the
    position that it predicts. Queries and keys are rotated by the rotary angles of the code's own
    coordinates, counted from 1; the prefix is at 0. Otherwise the layout is that of LlamaGen, which has
    rotary positions only.

    With several codes per position, from a residual or grouped quantizer, the transformer over the grid reads
    the sum of a position's embeddings, and a small transformer over depth predicts the position's codes one
    after another from the large one's output token (Lee et al. 2022, arXiv:2203.01941, eq. 9-12; here each
    depth reads the embeddings of the codes before it one by one, not their sum).

    Attributes:
      codes_per_position: Q; codes are [B, *s] if Q is 1, else [B, *s, Q].
      depth_layers: layers of the transformer over depth.
      norm_epsilon: added to the mean square in norms; LlamaGen has 1e-5.
      silent_prefix: the key of the prefix is zero in all layers, as in LlamaGen's code, whose table of
        rotations has zeros at its place.

    References:
      Esser et al. 2021, arXiv:2012.09841, section 3.2, eq. 8. Sun et al. 2024, LlamaGen,
      arXiv:2406.06525, section 2.2. Su et al. 2021, RoFormer, arXiv:2104.09864.
    """

    codes_per_position: int = 1
    depth_layers: int = 2
    norm_epsilon: float = 1e-6
    silent_prefix: bool = False

    def setup(self) -> None:
        depth, size = self.codes_per_position, self.codebook_size
        self.prefix = self._prefix_table()
        self.axis_positions = self._position_tables()
        self.embedding = self.param("embedding", init_kernel, (depth, size, self.width), jnp.float32)
        self.head = self.param("head", init_kernel, (depth, self.width, size), jnp.float32)
        self.norm = RMSNorm(self.norm_epsilon)
        self.layers = self._grid_layers()
        if depth > 1:
            self.depth = self._layers(self.depth_layers)
            self.depth_position = self.param("depth_position", init_kernel, (depth, self.width), jnp.float32)

    @nn.nowrap
    def _grid_layers(self) -> Layers:
        return self._layers(self.num_layers, self.silent_prefix)

    @nn.nowrap
    def _layers(self, count: int, silent_first: bool = False) -> Layers:
        mlp = self.mlp_features or mlp_width(self.width)
        return Layers(
            *(count, self.num_heads, mlp, True, self.dropout, self.remat, self.dtype),
            norm_epsilon=self.norm_epsilon,
            silent_first=silent_first,
        )

    def __call__(
        self, codes: Int[Array, "B ..."], condition: Condition | None = None, *, train: bool = False
    ) -> Float[Array, "B ... K"]:
        """Predicts every code from the codes before it.

        Args:
          codes: int32 [B, *s], or [B, *s, Q].
          condition: labels int32 [B] in [0, num_classes), or `null_label`; None for an unconditional prior.
          train: apply dropout, also to tokens and labels, with the rng stream `dropout`.

        Returns:
          Logits float32, [B, *s, K] or [B, *s, Q, K]; the logits of a code depend only on earlier codes
          (raster order, Q innermost) and the condition.

        Raises:
          ValueError: the codes are not of shape `code_shape`, or the prior does not accept the condition.
        """
        self._check_codes(codes.shape, self.code_shape)
        batch, depth = codes.shape[0], self.codes_per_position
        flat = codes.reshape(batch, self.positions, *(depth,) * (depth > 1))
        flat = flat if depth > 1 else flat[..., None]
        prefix = self._prefix(condition, batch, train)
        tokens = jnp.concatenate([prefix[:, None], self._embed(flat[:, :-1])], axis=1)
        tokens = self._drop_tokens(tokens, train)
        tokens = tokens + jnp.broadcast_to(self._position_embeddings()[None], tokens.shape)
        hidden = self.layers(tokens.astype(self.dtype), jnp.asarray(self._angles()), train=train)
        if depth > 1:
            hidden = self._depth_tokens(hidden, flat)
            hidden = self.depth(hidden, None, train=train)
            hidden = hidden.reshape(batch, self.positions, depth, self.width)
        else:
            hidden = hidden[:, :, None]
        hidden = self.norm(hidden)
        logits = jnp.einsum("btqe,qek->btqk", hidden, self.head.astype(self.dtype))
        logits = logits if depth > 1 else jnp.squeeze(logits, 2)
        return logits.astype(jnp.float32).reshape(*codes.shape, self.codebook_size)

    def loss(
        self, codes: Int[Array, "B ..."], condition: Condition | None = None, *, train: bool = True
    ) -> tuple[Float[Array, ""], Metrics]:
        """Computes the mean cross-entropy of the codes in nats, smoothed in training, and metrics."""
        logits = self(codes, condition, train=train)
        return next_code_loss(logits, codes, self.label_smoothing if train else 0.0)

    def step(
        self,
        weights: GPTWeights,
        previous: Int[Array, "B Q"],
        position: Int[Array, ""],
        condition: Condition | None,
        caches: Caches,
    ) -> tuple[Float[Array, "B E"], Caches]:
        """Runs one token through the layers, with the earlier tokens in the caches.

        Args:
          weights: see `sampling_weights`.
          previous: the codes at the position before `position`; ignored at position 0.
          position: int32, the position to predict.
          condition: as in `__call__`.
          caches: see `init_caches`.

        Returns:
          The token in the compute dtype, the `hidden` of `step_logits`, and the new caches.
        """
        prefix = self._prefix(condition, previous.shape[0], train=False)
        token = jnp.where(position == 0, prefix, self._embed(previous[:, None])[:, 0])
        token = token + self._position_embeddings()[position][None]
        angles = jnp.asarray(self._angles())[position]
        return self.layers.step(weights.layers, token.astype(self.dtype), angles, caches, position)

    def step_logits(
        self,
        weights: GPTWeights,
        hidden: Float[Array, "B E"],
        depth: int,
        chosen: Int[Array, " B"] | None,
        caches: Caches,
    ) -> tuple[Float[Array, "B K"], Caches]:
        """Computes the logits of one of a position's codes.

        Args:
          weights: see `sampling_weights`.
          hidden: the position's token, from `step`.
          depth: which of the Q codes.
          chosen: the code at depth - 1 of this position; None at depth 0.
          caches: caches of the transformer over depth, see `init_depth_caches`.

        Returns:
          Logits, float32, and the new caches.
        """
        if self.codes_per_position > 1:
            token = hidden
            if chosen is not None:
                token = ops.look_up(self.embedding[depth - 1], chosen).astype(self.dtype)
            token = token + self.depth_position[depth][None].astype(self.dtype)
            hidden, caches = self.depth.step(weights.depth, token, None, caches, jnp.int32(depth))
        logits = self.norm(hidden) @ self.head[depth].astype(self.dtype)
        return logits.astype(jnp.float32), caches

    @nn.nowrap
    def init_caches(self, batch: int) -> Caches:
        """Returns empty caches of all layers for `batch` grids."""
        return self._grid_layers().init_caches(batch, self.positions, self.width)

    @nn.nowrap
    def init_depth_caches(self, batch: int) -> Caches:
        """Returns empty caches of the transformer over depth, which needs new ones at every position."""
        if self.codes_per_position == 1:
            return ()
        layers = self._layers(self.depth_layers)
        return layers.init_caches(batch, self.codes_per_position, self.width)

    @nn.nowrap
    def sampling_weights(self, variables: Mapping[str, Any]) -> GPTWeights:
        """Returns each layer's parameters in the compute dtype; call it once, before the sampling loop."""
        params = variables["params"]
        depth = self._layers(self.depth_layers).unstack(params["depth"]) if "depth" in params else ()
        return GPTWeights(self._grid_layers().unstack(params["layers"]), depth)

    def _embed(self, codes: Int[Array, "B T Q"]) -> Float[Array, "B T E"]:
        parts = [ops.look_up(self.embedding[q], codes[..., q]) for q in range(self.codes_per_position)]
        return sum(parts[1:], start=parts[0])

    def _drop_tokens(self, tokens: Float[Array, "B T E"], train: bool) -> Float[Array, "B T E"]:
        if not train or self.token_dropout == 0.0 or self.is_initializing():
            return tokens
        keep = jax.random.bernoulli(
            self.make_rng("dropout"), jnp.float32(1.0 - self.token_dropout), tokens.shape
        )
        return jnp.where(keep, tokens / (1.0 - self.token_dropout), 0.0)

    def _depth_tokens(
        self, hidden: Float[Array, "B T E"], codes: Int[Array, "B T Q"]
    ) -> Float[Array, "BT Q E"]:
        """Returns the sequences over depth: a position's token, then all its codes but the last."""
        before = [ops.look_up(self.embedding[q], codes[..., q]) for q in range(self.codes_per_position - 1)]
        tokens = jnp.stack([hidden, *(part.astype(self.dtype) for part in before)], axis=2)
        tokens = tokens.reshape(-1, self.codes_per_position, self.width)
        return tokens + jnp.broadcast_to(self.depth_position.astype(self.dtype)[None], tokens.shape)

    @nn.nowrap
    def _angles(self) -> np.ndarray:
        coordinates = ops.grid_coordinates(self.grid)[:-1] + 1
        prefix = np.zeros((1, len(self.grid)), coordinates.dtype)
        return ops.rotary_angles(np.concatenate([prefix, coordinates]), self.width // self.num_heads)
