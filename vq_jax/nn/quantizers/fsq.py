"""Finite scalar quantization: each channel of a latent rounded to a few levels, with no codebook to learn."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vq_jax import ops
from vq_jax.nn.quantizers.base import QuantizerOutput, check_float
from vq_jax.ranges import check_ranges
from vq_jax.types import Array, CodeSpec, Float, Int, Num

_BOUNDS = ("tanh", "sigmoid", "clip")
_MARGIN = 1e-3  # share by which tanh reaches beyond the outermost levels, as in the paper's code
_SLOPE = 1.6  # of the sigmoid


class FSQ(nn.Module):
    """Rounds D channels to `levels` values each (Mentzer et al. 2023, arXiv:2309.15505, section 3.1, A.1).

    The codebook is implicit: the K = L_1 L_2 ... L_D points of a grid in [-1, 1]^D. There are no
    parameters, no state and no loss. A code is the number whose digits are the levels of the channels, the
    first channel's digit changing fastest. The gradient passes straight through the rounding, not through
    the bound. A channel with an even number of levels reaches from -1 to 1 - 2 / L, zero among its values.

    The paper's levels for 2^b codes: b = 8: (8, 6, 5); 10: (8, 5, 5, 5); 12: (7, 5, 5, 5, 5);
    14: (8, 8, 8, 6, 5); 16: (8, 8, 8, 5, 5, 5).

    Attributes:
      levels: L_1 to L_D, 3 and up, or 2 and up if `symmetric`; their product is below 2^31.
      symmetric: spread the levels evenly from -1 to 1 whatever their parity (Parker et al. 2024,
        arXiv:2411.19842, section 3.2, without its noise).
      bound: `tanh`; `sigmoid` for 2 / (1 + exp(-1.6 z)) - 1, which turns unit Gaussian latents into
        nearly uniform ones (iFSQ, arXiv:2601.17124); or `clip` to [-1, 1], for latents that are bounded
        already: beyond it no gradient passes.
    """

    levels: tuple[int, ...]
    symmetric: bool = False
    bound: str = "tanh"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, "FSQ")
        if not self.levels or self.codebook_size >= 2**31:
            raise ValueError(f"FSQ.levels must have a product below 2^31 and not be empty, got {self.levels}")
        if 2 in self.levels and not self.symmetric:
            raise ValueError(f"FSQ.levels must be at least 3 unless symmetric = True, got {self.levels}")
        if self.bound not in _BOUNDS:
            raise ValueError(f"FSQ.bound must be one of {', '.join(_BOUNDS)}, got {self.bound!r}")

    @property
    def codebook_size(self) -> int:
        """Number of codes K."""
        return math.prod(self.levels)

    @nn.nowrap
    def code_spec(self, latent_shape: tuple[int, ...]) -> CodeSpec:
        """The codes of one picture, given the shape (*s, D) of its latents."""
        return CodeSpec(latent_shape[:-1], self.codebook_size)

    def __call__(self, z: Num[Array, "B *S D"], *, train: bool = False) -> QuantizerOutput:
        """Quantizes latents, in float32; in training as in evaluation.

        Args:
          z: latents, any float dtype.
          train: no effect.

        Returns:
          Output with loss zero.

        Raises:
          ValueError: the latents are not float, or z does not have one channel for each of the levels.
        """
        check_float(z, "FSQ")
        self.check_width(z)
        smooth, digits = self._round(z.astype(jnp.float32).reshape(-1, len(self.levels)))
        indices = jnp.sum(digits * self._basis(), axis=1, dtype=jnp.int32)
        # The very values of `lookup`, with the gradient of `smooth`.
        quantized = self._values(digits) + (smooth - jax.lax.stop_gradient(smooth))
        perplexity, usage = ops.code_use(indices, self.codebook_size)
        return QuantizerOutput(
            quantized=quantized.reshape(z.shape).astype(z.dtype),
            indices=indices.reshape(z.shape[:-1]),
            loss=jnp.zeros((), jnp.float32),
            metrics={"perplexity": perplexity, "usage": usage},
        )

    def lookup(self, indices: Int[Array, "B *S"]) -> Float[Array, "B *S D"]:
        """The points of indices in [0, K), float32."""
        digits = indices.reshape(-1, 1) // self._basis() % np.array([self.levels], np.int32)
        return self._values(digits).reshape(*indices.shape, len(self.levels))

    @nn.nowrap
    def check_width(self, z: Num[Array, "B *S D"]) -> None:
        """Raises ValueError where z does not have one channel for each of the levels."""
        width = len(self.levels)
        if z.shape[-1] != width:
            raise ValueError(
                f"FSQ expected latents with {width} channels, one for each of levels = {self.levels}, got "
                f"shape {z.shape}: give the encoder latent_channels = {width}"
            )

    def _round(self, z: Float[Array, "N D"]) -> tuple[Float[Array, "N D"], Int[Array, "N D"]]:
        """The bounded latents, about [-1, 1], and the digits of the levels nearest to them."""
        levels = np.array([self.levels], np.float32)
        half = levels // 2
        if self.symmetric:
            smooth = self._bound(z)
            digits = jnp.floor((levels - 1) * (smooth + 1) / 2 + np.float32(0.5))
        else:
            margin = _MARGIN if self.bound == "tanh" else 0.0
            reach = (levels - 1) * np.float32(1 + margin) / 2
            offset = np.where(levels % 2 == 0, np.float32(0.5), np.float32(0))
            places = self._bound(z + self._unbound(offset / reach)) * reach - offset
            smooth, digits = places / half, jnp.round(places) + half
        # Clipped as integers: a latent that is not a number gets some code in range.
        return smooth, jnp.clip(digits.astype(jnp.int32), 0, levels.astype(np.int32) - 1)

    def _bound(self, z: Float[Array, "N D"]) -> Float[Array, "N D"]:
        if self.bound == "clip":
            return jnp.clip(z, -1, 1)
        return jnp.tanh(z) if self.bound == "tanh" else 2 * jax.nn.sigmoid(_SLOPE * z) - 1

    def _unbound(self, y: np.ndarray) -> np.ndarray:
        if self.bound == "clip":
            return y
        return np.arctanh(y) * np.float32(1 if self.bound == "tanh" else 2 / _SLOPE)

    def _values(self, digits: Int[Array, "N D"]) -> Float[Array, "N D"]:
        """The point of each row of digits; from a table, so that no compiler rounds it in another way."""
        tables = [np.arange(size, dtype=np.float32) for size in self.levels]
        if self.symmetric:
            tables = [table * np.float32(2 / (len(table) - 1)) - 1 for table in tables]
        else:
            tables = [(table - len(table) // 2) / np.float32(len(table) // 2) for table in tables]
        columns = [ops.look_up(jnp.asarray(table), digits[:, axis]) for axis, table in enumerate(tables)]
        return jnp.stack(columns, axis=1)

    def _basis(self) -> np.ndarray:
        """What each digit counts in an index: 1, L_1, L_1 L_2, ..."""
        return np.cumprod([1, *self.levels[:-1]]).astype(np.int32)[None]
