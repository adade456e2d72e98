"""Changes the colours of training pictures at random, so that a few photographs teach many colours."""

import numpy as np
from jaxtyping import Float32, UInt8

from vq_jax.configs.data import ColourConfig

# From red, green and blue to luma and two chroma axes (YIQ, as in the NTSC standard): there a change of hue
# is a rotation, a change of saturation is a factor, and greys stay grey.
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)


def change_colours(
    picture: UInt8[np.ndarray, "*S 3"], colour: ColourConfig, generator: np.random.Generator
) -> UInt8[np.ndarray, "*S 3"]:
    """Changes the colours of a picture, the same way at every pixel.

    Channels change places first; then hue, saturation and brightness change, in one matrix. Values that leave
    0..255 are clipped.

    Args:
      picture: in colour.
      colour: which changes are made, and how strong they are at most.
      generator: of the record; what is drawn from it does not depend on which changes are made.
    """
    order = generator.permutation(3)
    hue, saturation, brightness = generator.uniform(-1.0, 1.0, 3)
    if colour.permute:
        picture = picture[..., order]
    if not (colour.hue or colour.saturation or colour.brightness):
        return np.ascontiguousarray(picture)
    matrix = _matrix(hue * colour.hue, 1 + saturation * colour.saturation, 1 + brightness * colour.brightness)
    changed = picture.astype(np.float32) @ matrix.T
    return np.clip(changed + np.float32(0.5), 0, 255).astype(np.uint8)


def _matrix(turn: float, saturation: float, brightness: float) -> Float32[np.ndarray, "3 3"]:
    cos, sin = np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn)
    change = np.array(
        [[1, 0, 0], [0, saturation * cos, -saturation * sin], [0, saturation * sin, saturation * cos]]
    )
    return (brightness * (_FROM_YIQ @ change @ _TO_YIQ)).astype(np.float32)
