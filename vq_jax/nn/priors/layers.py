"""Layers of the transformers over grids of codes: pre-normalised attention and gated feed-forward.

Letters: T tokens, E width of a token, A heads, F width of a head.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax import ops
from vq_jax.types import Array, Float, Int

init_kernel = nn.initializers.normal(0.02)


class RMSNorm(nn.Module):
    """Root-mean-square normalisation with a learned scale, see `ops.rms_norm`.

    Attributes:
      epsilon: added to the mean square.
    """

    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: Float[Array, "... E"]) -> Float[Array, "... E"]:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],), jnp.float32)
        return ops.rms_norm(x, scale, self.epsilon)


def mlp_width(width: int) -> int:
    """Returns 8/3 of the width, rounded up to a multiple of 64: as many parameters as ungated 4 x width."""
    return -(-8 * width // (3 * 64)) * 64


class Block(nn.Module):
    """Transformer block: x + attention(norm(x)), then x + feed-forward(norm(x)), without biases.

    The feed-forward layer is SwiGLU: down(silu(gate(x)) * up(x)) (Shazeer 2020, arXiv:2002.05202,
    eq. 6). Queries and keys are rotated by rotary angles (see `ops.rotate`). The layout is that of LLaMA
    (Touvron et al. 2023, arXiv:2302.13971, section 2.2).

    Attributes:
      num_heads: number of heads A.
      mlp_features: hidden width of the feed-forward layer.
      causal: whether a token attends to itself and earlier tokens only, else to all tokens.
      dropout: dropout rate after attention and feed-forward, in training; rng stream `dropout`.
      dtype: compute dtype; parameters are float32.
      norm_epsilon: added to the mean square in norms.
      silent_first: the key of the first token is zero, as that of LlamaGen's class token.
    """

    num_heads: int
    mlp_features: int
    causal: bool
    dropout: float = 0.0
    dtype: Any = jnp.float32
    norm_epsilon: float = 1e-6
    silent_first: bool = False

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T E"],
        angles: Float[Array, "T P"] | None,
        train: bool,
        cache: tuple[Array, Array] | None = None,
        position: Int[Array, ""] | None = None,
    ) -> tuple[Float[Array, "B T E"], tuple[Array, Array] | None]:
        """Applies the block to all tokens, or to one new token with the earlier ones in a cache.

        Args:
          x: tokens in the compute dtype.
          angles: rotary angles of the tokens; None for no rotation.
          train: apply dropout.
          cache: keys and values [B * A, T_max, F] of the tokens before `position`; x is then one token.
          position: int32, the new token's position.

        Returns:
          The tokens, and the cache with the new token's key and value (None without a cache).
        """
        width = x.shape[-1]
        dense = functools.partial(
            nn.Dense, use_bias=False, kernel_init=init_kernel, dtype=self.dtype, param_dtype=jnp.float32
        )
        drop = nn.Dropout(self.dropout, deterministic=not train)
        qkv = dense(3 * width, name="qkv")(self._norm("attention_norm")(x))
        qkv = qkv.reshape(*x.shape[:2], 3, self.num_heads, width // self.num_heads)
        query, key, value = (qkv[:, :, i] for i in range(3))
        if angles is not None:
            query, key = ops.rotate(query, angles), ops.rotate(key, angles)
        if self.silent_first:
            places = jnp.arange(x.shape[1]) if position is None else position[None]
            key = jnp.where((places > 0)[None, :, None, None], key, jnp.zeros((), key.dtype))
        if cache is None or position is None:
            mixed = ops.attention(query, key, value, causal=self.causal)
        else:
            keys, values = (
                jax.lax.dynamic_update_slice_in_dim(old, new.reshape(-1, 1, old.shape[2]), position, axis=1)
                for old, new in zip(cache, (key, value), strict=True)
            )
            cache = keys, values
            mixed = ops.cached_attention(query.reshape(keys.shape[0], -1), keys, values, position)
        x = x + drop(dense(width, name="attention_out")(mixed.reshape(x.shape)))

        gated = dense(2 * self.mlp_features, name="gate_up")(self._norm("mlp_norm")(x))
        gate, up = jnp.split(gated, 2, axis=-1)
        return x + drop(dense(width, name="down")(nn.silu(gate) * up)), cache

    def _norm(self, name: str) -> RMSNorm:
        return RMSNorm(self.norm_epsilon, name=name)


class _ScannedBlock(Block):
    """A block with the signature that `nn.scan` needs."""

    def __call__(  # type: ignore[override]
        self, x: Float[Array, "B T E"], angles: Float[Array, "T P"] | None, train: bool
    ) -> tuple[Float[Array, "B T E"], None]:
        return super().__call__(x, angles, train)[0], None


class Layers(nn.Module):
    """A scanned stack of blocks: parameters are stacked along a first axis, and one block is compiled.

    Attributes:
      num_layers: number of blocks.
      num_heads: see `Block`.
      mlp_features: see `Block`.
      causal: see `Block`.
      dropout: see `Block`.
      remat: keep only the inputs of each block for the backward pass.
      dtype: compute dtype; parameters are float32.
      norm_epsilon: see `Block`.
      silent_first: see `Block`.
    """

    num_layers: int
    num_heads: int
    mlp_features: int
    causal: bool
    dropout: float = 0.0
    remat: bool = False
    dtype: Any = jnp.float32
    norm_epsilon: float = 1e-6
    silent_first: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T E"], angles: Float[Array, "T P"] | None, *, train: bool
    ) -> Float[Array, "B T E"]:
        block: Any = _ScannedBlock
        if self.remat:
            # `train` is argument 3, counting self; scans need no guard against subexpression elimination
            block = nn.remat(block, prevent_cse=False, static_argnums=(3,))
        scanned = nn.scan(
            block,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=nn.broadcast,
            length=self.num_layers,
        )
        fields = {name: getattr(self, name) for name in _SHARED}
        return scanned(**fields, name="blocks")(x, angles, train)[0]

    @nn.nowrap
    def step(
        self,
        layers: tuple[Mapping[str, Any], ...],
        x: Float[Array, "B E"],
        angles: Float[Array, " P"] | None,
        caches: tuple[tuple[Array, Array], ...],
        position: Int[Array, ""],
    ) -> tuple[Float[Array, "B E"], tuple[tuple[Array, Array], ...]]:
        """Runs one new token through all blocks, unrolled, each with its own cache.

        Args:
          layers: parameters of each block, see `unstack`.
          x: the token in the compute dtype.
          angles: the token's rotary angles.
          caches: cache of each block, see `init_caches`.
          position: int32, the token's position.

        Returns:
          The token after the last block, and the new caches.
        """
        block = Block(**{name: getattr(self, name) for name in _SHARED}, parent=None)
        token, new = x[:, None], []
        for params, cache in zip(layers, caches, strict=True):
            turn = None if angles is None else angles[None]
            out: Any = block.apply({"params": params}, token, turn, False, cache, position)
            token, filled = out
            new.append(filled)
        return token[:, 0], tuple(new)

    @nn.nowrap
    def init_caches(self, batch: int, length: int, width: int) -> tuple[tuple[Array, Array], ...]:
        """Returns zeros for the keys and values of `length` tokens, [B * A, T, F] for each block.

        Grids and heads share an axis: with an axis of length one, as for a single grid, the compiler would
        copy the caches for every token.
        """
        shape = (batch * self.num_heads, length, width // self.num_heads)
        return tuple(
            (jnp.zeros(shape, self.dtype), jnp.zeros(shape, self.dtype)) for _ in range(self.num_layers)
        )

    @nn.nowrap
    def unstack(self, params: Mapping[str, Any]) -> tuple[Any, ...]:
        """Splits the stacked parameters of this module into one tree per block, in the compute dtype.

        Call it once, outside the loop over tokens: a slice or cast inside the loop would copy the weights
        for every token.
        """

        def kernels(leaf: Array, layer: int) -> Array:
            return leaf[layer].astype(self.dtype) if leaf.ndim == 3 else leaf[layer]

        blocks = params["blocks"]
        return tuple(
            jax.tree.map(functools.partial(kernels, layer=layer), blocks) for layer in range(self.num_layers)
        )


_SHARED = (
    *("num_heads", "mlp_features", "causal", "dropout", "dtype"),
    *("norm_epsilon", "silent_first"),
)
