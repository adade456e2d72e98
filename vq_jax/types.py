"""Array types and the letters that stand for their dimensions throughout the project.

    B   pictures in a batch            N   latent vectors, all positions of all pictures
    *S  spatial axes, any number       K   vectors in a codebook, which codes number
    C   picture channels               D   width of a vector of the codebook
    H W picture height and width       h w height and width of the code grid

Pictures are `[B, *S, C]`: `[B, H, W, C]` for photographs, `[B, T, H, W, C]` for video.

The codes of a batch are a pytree of int32 arrays, laid out like a model's `code_specs`: one grid, or a
tuple of grids from coarse to fine.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int, Key, Num, PyTree, UInt8

AnyArray = Array | np.ndarray  # on a device or on the host
Metrics = dict[str, Array]
Params = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class CodeSpec:
    """One grid of codes: what a quantizer gives for one picture.

    Attributes:
      shape: lengths of the grid's axes *s.
      codebook_size: K; codes are integers in [0, K).
      codes_per_position: Q, above 1 for residual and grouped quantizers.
    """

    shape: tuple[int, ...]
    codebook_size: int
    codes_per_position: int = 1

    @property
    def array_shape(self) -> tuple[int, ...]:
        """Shape of one picture's codes: *s, or (*s, Q) with several codes per position."""
        return self.shape if self.codes_per_position == 1 else (*self.shape, self.codes_per_position)


CodeSpecs = Any
"""A pytree of CodeSpec, such as a single one or a tuple from coarse to fine."""

Codes = PyTree[Int[Array, "..."]]
"""Codes of a batch, int32, laid out like their `CodeSpecs`: [B, *s], or [B, *s, Q] with Q per position."""
Latents = PyTree[Float[Array, "..."]]
"""Continuous latents of a batch: [B, *s, D], or a tuple of them in a hierarchy."""

__all__ = [
    "AnyArray",
    "Array",
    "Bool",
    "CodeSpec",
    "CodeSpecs",
    "Codes",
    "Float",
    "Int",
    "Key",
    "Latents",
    "Metrics",
    "Num",
    "Params",
    "UInt8",
]
