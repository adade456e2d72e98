"""Array types and the letters that stand for their dimensions throughout the project.

    B   pictures in a batch            N   latent vectors, all positions of all pictures
    *S  spatial axes, any number       K   codes in a codebook
    C   picture channels               D   width of a code
    H W picture height and width       h w height and width of the code grid

Pictures are `[B, *S, C]`: `[B, H, W, C]` for photographs, `[B, T, H, W, C]` for video.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int, Key, Num, UInt8

AnyArray = Array | np.ndarray  # on a device or on the host
Metrics = dict[str, Array]
Params = Mapping[str, Any]

__all__ = ["AnyArray", "Array", "Bool", "Float", "Int", "Key", "Metrics", "Num", "Params", "UInt8"]
