"""What priors share that read codes as the vectors they stand for, and predict vectors."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax import ops
from vq_jax.nn.priors.masked_loss import MaskedPrior
from vq_jax.types import Array, Bool, Float, Int, Params

_SHARPNESS = 0.3  # of the logits that begin as distances to the predicted vector, in those of nearest codes
_CLOSEST = 1e-3  # squared distance between codes that counts as none, of the variance of all latents


class VectorPrior(MaskedPrior):
    """Base of the masked priors whose table of codes starts from the tokenizer's codebook.

    They predict the vector of each position, and logits: a code is the likelier the closer it is to that
    vector, and a head adds what more there is to say. A mixin for linen modules with the fields below, which
    call `_make_readout` in `setup`.

    Attributes:
      codebook_size: number of codes K.
      code_dim: width D of the vectors that codes stand for.
      codes_per_position: Q.
      regression_weight: weight in the loss of the mean squared error of the predicted vectors.
      dtype: compute dtype; parameters and logits are float32.
    """

    codebook_size: int
    code_dim: int
    codes_per_position: int
    regression_weight: float
    dtype: Any

    def _make_readout(self, width: int) -> None:
        """Makes the table of codes, and what reads vectors and logits out of features of a width."""
        module: Any = self
        depth, size, dim = self.codes_per_position, self.codebook_size, self.code_dim
        unit, zeros = nn.initializers.normal(depth**-0.5), nn.initializers.zeros
        self.embedding = module.param("embedding", unit, (depth * size, dim), jnp.float32)
        self.vector = nn.Dense(dim, kernel_init=zeros, dtype=self.dtype)
        self.head = module.param("head", zeros, (depth, width, size), jnp.float32)
        self.bias = module.param("bias", zeros, (depth, size), jnp.float32)
        sharpness = nn.initializers.constant(_SHARPNESS)
        self.sharpness = module.param("sharpness", sharpness, (depth,), jnp.float32)

    def _read_out(
        self, x: Float[Array, "B N W"], before: Float[Array, "B N D"] | None = None
    ) -> tuple[Float[Array, "B N Q K"], Float[Array, "B N D"]]:
        """Logits and vectors of positions, float32; `before` is added to the vectors."""
        vector = self.vector(x).astype(jnp.float32)
        vector = vector if before is None else vector + before
        added = jnp.einsum("bne,qek->bnqk", x, self.head.astype(self.dtype)).astype(jnp.float32)
        return added + self._nearness(jax.lax.stop_gradient(vector)) + self.bias[None, None], vector

    def _vector_loss(
        self, vector: Float[Array, "B N D"], codes: Int[Array, "B *s"], mask: Bool[Array, "B *s"]
    ) -> Float[Array, ""]:
        """The weighted error of the vectors where codes are masked."""
        hidden = mask.reshape(*vector.shape[:2], -1)
        true = jax.lax.stop_gradient(self._vectors(codes, jnp.zeros_like(hidden)))
        error = jnp.mean(jnp.square(vector - true), axis=-1)
        counted = jnp.any(hidden, axis=-1).astype(jnp.float32)
        return self.regression_weight * (jnp.sum(error * counted) / jnp.sum(counted))

    @nn.nowrap
    def with_vectors(self, params: Params, vectors: Float[Array, "Q K D"]) -> Params:
        """Returns parameters whose table of codes starts from vectors of the tokenizer.

        A predicted vector is trusted to about the distance of a codebook's nearest codes.

        Args:
          params: of this module.
          vectors: what each code adds to the latent of its position; they are centred, and scaled so that
            latents of random codes have a variance of 1.
        """
        centred = vectors - jnp.mean(vectors, axis=1, keepdims=True)
        scale = jnp.sqrt(jnp.mean(jnp.sum(jnp.var(centred, axis=1), axis=0)))
        table = centred / scale
        apart = jnp.sum(jnp.square(table[:, :, None] - table[:, None]), axis=-1)
        others = jnp.where(jnp.eye(table.shape[1], dtype=bool)[None], jnp.inf, apart)
        nearest = jnp.maximum(jnp.mean(jnp.min(others, axis=-1), axis=-1), _CLOSEST)
        sharpness = jnp.asarray(_SHARPNESS / nearest, jnp.float32)
        return {**params, "embedding": table.reshape(-1, self.code_dim), "sharpness": sharpness}

    def _vectors(self, codes: Int[Array, "B *s"], hidden: Bool[Array, "B N Q"]) -> Float[Array, "B N D"]:
        """What the codes of each position stand for: the sum of their vectors, without the hidden ones."""
        depth = self.codes_per_position
        rows = codes.reshape(hidden.shape)
        parts = [
            jnp.where(
                hidden[..., q, None], 0.0, ops.look_up(self.embedding, rows[..., q] + q * self.codebook_size)
            )
            for q in range(depth)
        ]
        return sum(parts[1:], start=parts[0])

    def _nearness(self, vector: Float[Array, "B N D"]) -> Float[Array, "B N Q K"]:
        """Minus half the squared distance of each code from the vector, but for what is the same for all."""
        table = self.embedding.reshape(self.codes_per_position, self.codebook_size, self.code_dim)
        near = jnp.einsum("bnd,qkd->bnqk", vector, table)
        near = near - 0.5 * jnp.sum(jnp.square(table), axis=-1)[None, None]
        return near * self.sharpness[None, None, :, None]
