"""Random projection: codes that nothing learns, as labels of latents."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax import ops
from vq_jax.nn.quantizers.base import QuantizerOutput, check_float
from vq_jax.ranges import check_ranges
from vq_jax.types import Array, CodeSpec, Float, Int, Num

# float32 products on TPU and GPU are otherwise made of shorter numbers, which flips codes.
_PRECISION = jax.lax.Precision.HIGHEST


class RandomProjectionQuantizer(nn.Module):
    """Labels latents by the nearest of K random vectors (Chiu et al. 2022, arXiv:2202.01855, section 3.1).

    A latent is normalised over its channels to mean zero and variance one, mapped to `projection_dim`
    channels by a random matrix and scaled to length one; its code is the nearest of K random vectors of
    length one. Without the normalisation a few codes take all latents. The matrix `projection` (D, P) and the
    vectors `codes` (K, P) are float32, in the collection `codebook`: no optimizer sees them, and no call
    changes them. There are no parameters and no loss.

    The method is for labels: `indices` as targets of a model that predicts them. Where an interface asks for
    the vector of a code, this module maps the code's vector back by the transposed matrix and scales it to
    length sqrt(D), that of a normalised latent: `lookup`, and `quantized`, from which gradients pass straight
    through to the normalised latents, as if these were the outputs.

    Differs from the paper, which normalises by the statistics of the data set and not of each latent. Its
    recipe: 8,192 codes, `projection_dim` 16.

    Attributes:
      codebook_size: number of codes K.
      code_dim: width D of the latents.
      projection_dim: width P in which they are compared.
      epsilon: added to the variance.
    """

    codebook_size: int
    code_dim: int
    projection_dim: int = 16
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, "RandomProjectionQuantizer")

    def setup(self) -> None:
        def draw(shape: tuple[int, int]) -> Float[Array, "N P"]:
            return jax.random.normal(self.make_rng("params"), shape, jnp.float32)

        scale = math.sqrt(2 / (self.code_dim + self.projection_dim))
        self.projection = self.variable(
            "codebook", "projection", lambda: scale * draw((self.code_dim, self.projection_dim))
        )
        self.codes = self.variable(
            "codebook",
            "codes",
            lambda: ops.normalize_vectors(draw((self.codebook_size, self.projection_dim))),
        )

    @nn.nowrap
    def code_spec(self, latent_shape: tuple[int, ...]) -> CodeSpec:
        """Returns the spec of one picture's codes, given the shape (*s, D) of its latents."""
        return CodeSpec(latent_shape[:-1], self.codebook_size)

    def lookup(self, indices: Int[Array, "B *S"]) -> Float[Array, "B *S D"]:
        """Returns what stands for codes in [0, K): their vectors mapped back, of length sqrt(D), float32."""
        codes = ops.look_up(self.codes.value, indices)
        vectors = jnp.matmul(codes, self.projection.value.T, precision=_PRECISION)
        return math.sqrt(self.code_dim) * ops.normalize_vectors(vectors)

    def __call__(self, z: Num[Array, "B *S D"], *, train: bool = False) -> QuantizerOutput:
        """Labels latents, in float32; in training as in evaluation.

        Args:
          z: latents, any float dtype.
          train: no effect.

        Returns:
          Output with loss zero.

        Raises:
          ValueError: the latents are not float, or the last axis of z is not code_dim wide.
        """
        check_float(z, "RandomProjectionQuantizer")
        if z.shape[-1] != self.code_dim:
            raise ValueError(
                f"RandomProjectionQuantizer expected latents of width code_dim = {self.code_dim}, got shape "
                f"{z.shape}: give the encoder latent_channels = {self.code_dim}"
            )
        flat = z.astype(jnp.float32).reshape(-1, self.code_dim)
        centred = flat - jnp.mean(flat, axis=1, keepdims=True)
        variance = jnp.mean(jnp.square(centred), axis=1, keepdims=True)
        normal = centred * jax.lax.rsqrt(variance + self.epsilon)
        projected = jnp.matmul(normal, self.projection.value, precision=_PRECISION)
        indices = ops.nearest_code(ops.normalize_vectors(projected), self.codes.value)
        perplexity, usage = ops.code_use(indices, self.codebook_size)
        vectors = self.lookup(indices)
        # The very values of `lookup`, with the gradient of `normal`.
        quantized = vectors + (normal - jax.lax.stop_gradient(normal))
        return QuantizerOutput(
            quantized=quantized.reshape(z.shape).astype(z.dtype),
            indices=indices.reshape(z.shape[:-1]),
            loss=jnp.zeros((), jnp.float32),
            metrics={"perplexity": perplexity, "usage": usage},
        )
