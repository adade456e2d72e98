"""Filling holes in pictures: which codes a hole takes, where the prior's window lies, and the seam.

Letters: h w height and width of a picture's code grid; of a prior's, a window of it.
"""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from vq_jax.types import Bool, Float, Int, UInt8

# codes int32 [B, *window] and known bool [B, *window] to codes with the unknown ones filled in
Fill = Callable[[np.ndarray, np.ndarray], np.ndarray]

_AROUND = np.ones((3, 3), bool)


def cover_hole(
    picture: UInt8[np.ndarray, "H W C"], hole: Bool[np.ndarray, "H W"]
) -> UInt8[np.ndarray, "H W C"]:
    """Writes the nearest known pixel over each pixel of the hole, so that no code depends on its content."""
    rows, columns = ndimage.distance_transform_edt(hole, return_distances=False, return_indices=True)
    return picture[rows, columns]


def hole_codes(hole: Bool[np.ndarray, "H W"], stride: int, ring: int = 1) -> Bool[np.ndarray, "h w"]:
    """Codes to draw anew: those whose pixels the hole touches, grown by a ring.

    The ring makes up for the codes beside a hole, which depend on pixels in it. Where it would leave no
    code of the picture it is left out.

    Args:
      hole: pixels to fill; a picture's lower and right edges need not divide by the stride.
      stride: pixels a code.
      ring: codes around.
    """
    padded = np.pad(hole, [(0, -size % stride) for size in hole.shape])
    height, width = (size // stride for size in padded.shape)
    touched = np.asarray(padded.reshape(height, stride, width, stride).any(axis=(1, 3)))
    if ring == 0:
        return touched
    grown: np.ndarray = ndimage.binary_dilation(touched, _AROUND, iterations=ring)
    return touched if grown.all() else grown


def feather(
    hole: Bool[np.ndarray, "H W"], grown: Bool[np.ndarray, "h w"], stride: int
) -> Float[np.ndarray, "H W"]:
    """Weights of the filled picture: 1 in the hole, falling to 0 at the end of the grown codes' pixels.

    Args:
      hole: pixels to fill.
      grown: codes drawn anew, which cover them.
      stride: pixels a code, over which the weight falls.
    """
    inside = np.repeat(np.repeat(grown, stride, axis=0), stride, axis=1)[: hole.shape[0], : hole.shape[1]]
    # Distance to the hole against distance to the pixels that must stay: smooth whatever the ring's width.
    to_hole = ndimage.distance_transform_cdt(~hole, "chessboard").astype(np.float64)
    to_known = (
        np.full(hole.shape, np.inf)
        if inside.all()
        else ndimage.distance_transform_cdt(inside, "chessboard").astype(np.float64)
    )
    weights = np.clip(1.0 - to_hole / np.minimum(to_hole + to_known, stride + 1.0).clip(1.0), 0.0, 1.0)
    return np.where(hole, 1.0, np.where(inside, weights, 0.0))


def composite(
    picture: UInt8[np.ndarray, "H W C"], filled: UInt8[np.ndarray, "H W C"], weights: Float[np.ndarray, "H W"]
) -> UInt8[np.ndarray, "H W C"]:
    """Mixes two pictures; where the weight is 0 the first one's pixels are bit-identical."""
    alpha = weights[..., None]
    mixed = np.rint(alpha * filled + (1.0 - alpha) * picture).astype(np.uint8)
    return np.where(alpha == 0.0, picture, mixed)


def fill_windows(
    codes: Int[np.ndarray, "B h w"],
    unknown: Bool[np.ndarray, "B h w"],
    window: tuple[int, int],
    fill: Fill,
) -> Int[np.ndarray, "B h w"]:
    """Fills the unknown codes of grids with a prior over a smaller or equal grid.

    A hole that fits into the prior's window is filled at once, the window around its middle. A larger one
    is filled by windows from its top left on, each with as much of what is known or filled above and to
    the left as on the other side.

    Args:
      codes: of whole pictures; without meaning where unknown.
      unknown: codes to fill.
      window: height and width of the prior's grid, none larger than the pictures'.
      fill: the prior; it is always called with B grids.
    """
    codes, unknown = codes.copy(), unknown.copy()
    while unknown.any():
        corners = [_window_at(missing, window) for missing in unknown]
        places = [
            (picture, slice(top, top + window[0]), slice(left, left + window[1]))
            for picture, (top, left) in enumerate(corners)
        ]
        given = np.stack([codes[place] for place in places])
        known = ~np.stack([unknown[place] for place in places])
        filled = np.where(known, given, fill(np.where(known, given, 0), known))
        for place, values in zip(places, filled, strict=True):
            codes[place], unknown[place] = values, False
    return codes


def _window_at(missing: Bool[np.ndarray, "h w"], window: tuple[int, int]) -> tuple[int, int]:
    """The upper left corner of the window to fill next."""
    if not missing.any():
        return 0, 0
    rows, columns = np.nonzero(missing)
    if np.ptp(rows) < window[0] and np.ptp(columns) < window[1]:
        middle = (rows.min() + rows.max() + 1) // 2, (columns.min() + columns.max() + 1) // 2
    else:
        # The topmost unknown code, the leftmost of its row, goes to the window's middle.
        middle = int(rows[0]), int(columns[0])
    return tuple(  # type: ignore[return-value]
        int(np.clip(centre - length // 2, 0, size - length))
        for centre, length, size in zip(middle, window, missing.shape, strict=True)
    )
