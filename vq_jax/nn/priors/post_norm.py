"""MaskGIT's published transformer: post-normalised layers with biases, an output tied to the embedding."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax import ops
from vq_jax.nn.priors.base import Condition
from vq_jax.nn.priors.layers import init_kernel
from vq_jax.nn.priors.maskgit import MaskGIT
from vq_jax.types import Array, Bool, Float, Int

_EPSILON = 1e-12  # of the norms


class PostNormBlock(nn.Module):
    """Transformer block: x = norm(x + attention(x)), then norm(x + feed-forward(x)), as in BERT (Devlin et
    al. 2018, arXiv:1810.04805).

    Attributes:
      num_heads: number of heads.
      mlp_features: hidden width of the feed-forward layer.
      dropout: dropout rate after attention and feed-forward, in training; rng stream `dropout`.
      dtype: compute dtype; parameters are float32.
    """

    num_heads: int
    mlp_features: int
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B T E"], train: bool) -> Float[Array, "B T E"]:
        """Applies the block."""
        width = x.shape[-1]
        dense = functools.partial(nn.Dense, kernel_init=init_kernel, dtype=self.dtype)
        norm = functools.partial(nn.LayerNorm, epsilon=_EPSILON, dtype=self.dtype)
        drop = nn.Dropout(self.dropout, deterministic=not train)
        attention = nn.MultiHeadDotProductAttention(
            self.num_heads,
            qkv_features=width,
            kernel_init=init_kernel,
            dtype=self.dtype,
            force_fp32_for_softmax=True,
            name="attention",
        )
        x = norm(name="attention_norm")(x + drop(attention(x, x)))
        hidden = nn.gelu(dense(self.mlp_features, name="mlp_in")(x))
        return norm(name="mlp_norm")(x + drop(dense(width, name="mlp_out")(hidden)))


class PostNormMaskGIT(MaskGIT):
    """MaskGIT as its authors released it; in its loss it is `MaskGIT`, with one code a position.

    One table embeds codes, classes and, in its last row, the mask token; the positions' vectors are learned,
    and nothing is rotated. The logits of the codes are products with their embeddings.

    References:
      Chang et al. 2022, MaskGIT, arXiv:2202.04200, section 3, and the authors' release.
    """

    def setup(self) -> None:
        rows, width = self.codebook_size + self.label_rows + 1, self.width
        self.embedding = self.param("embedding", init_kernel, (rows, width), jnp.float32)
        self.position = self.param("position", init_kernel, (self.positions + 1, width), jnp.float32)
        self.embedding_norm = nn.LayerNorm(epsilon=_EPSILON, dtype=self.dtype)
        block: Any = nn.remat(PostNormBlock, static_argnums=(2,)) if self.remat else PostNormBlock
        mlp = self.mlp_features or 4 * width
        self.layer = [block(self.num_heads, mlp, self.dropout, self.dtype) for _ in range(self.num_layers)]
        self.out = nn.Dense(width, kernel_init=init_kernel, dtype=self.dtype)
        self.out_norm = nn.LayerNorm(epsilon=_EPSILON, dtype=self.dtype)
        self.bias = self.param("bias", nn.initializers.zeros, (rows,), jnp.float32)

    def __call__(
        self,
        codes: Int[Array, "B *s"],
        condition: Condition | None = None,
        *,
        mask: Bool[Array, "..."] | None = None,
        train: bool = False,
    ) -> Float[Array, "B *s K"]:
        """Predicts the codes at all positions; see `MaskGIT.__call__`."""
        self._check_mask(codes, mask)
        batch, last = codes.shape[0], self.codebook_size + self.label_rows
        rows = codes if mask is None else jnp.where(mask, last, codes)
        first = self._rows(condition, batch, train) + self.codebook_size
        rows = jnp.concatenate([first[:, None], rows.reshape(batch, self.positions)], axis=1)
        tokens = ops.look_up(self.embedding, rows)
        tokens = tokens + jnp.broadcast_to(self.position[None], tokens.shape)
        x = self.embedding_norm(tokens.astype(self.dtype))
        if train and self.token_dropout > 0.0 and not self.is_initializing():
            keep = jax.random.bernoulli(
                self.make_rng("dropout"), jnp.float32(1.0 - self.token_dropout), x.shape
            )
            x = jnp.where(keep, x / jnp.asarray(1.0 - self.token_dropout, x.dtype), jnp.zeros((), x.dtype))
        for layer in self.layer:
            x = layer(x, train)
        hidden = self.out_norm(nn.gelu(self.out(x[:, 1:])))
        table = self.embedding[: self.codebook_size].astype(self.dtype)
        logits = jnp.einsum("bne,ke->bnk", hidden, table).astype(jnp.float32)
        logits = logits + jnp.broadcast_to(self.bias[: self.codebook_size], logits.shape)
        return logits.reshape(*codes.shape, self.codebook_size)
