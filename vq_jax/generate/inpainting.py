"""Filling holes in pictures: which codes a hole touches, where the prior's window lies, and the seam.

Letters: h w height and width of a picture's code grid; the prior's own grid is a window on it. Where there
are several codes a position, the axis Q follows.
"""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from vq_jax.types import Bool, Float, Int, UInt8

# codes int32 [B, *window, *Q] and known bool of the same shape to codes with the unknown ones filled in
Fill = Callable[[np.ndarray, np.ndarray], np.ndarray]

_AROUND = np.ones((3, 3), bool)


def cover_hole(
    picture: UInt8[np.ndarray, "H W C"], hole: Bool[np.ndarray, "H W"]
) -> UInt8[np.ndarray, "H W C"]:
    """Writes the nearest known pixel over each pixel of the hole, so that no code depends on its content."""
    rows, columns = ndimage.distance_transform_edt(hole, return_distances=False, return_indices=True)
    return picture[rows, columns]


def hole_codes(
    hole: Bool[np.ndarray, "H W"], strides: tuple[int, ...], ring: int = 1
) -> Bool[np.ndarray, "h w"]:
    """Finds the codes to draw again: those whose pixels the hole touches, and a ring around them.

    The ring is there because the codes beside a hole depend on pixels in it. It is left out where it would
    leave no code of the picture.

    Args:
      hole: pixels to fill; height and width need not divide by the strides.
      strides: pixels a code along height and width.
      ring: width of the ring, in codes.
    """
    padded = np.pad(hole, [(0, -size % stride) for size, stride in zip(hole.shape, strides, strict=True)])
    (down, across), (height, width) = strides, padded.shape
    blocks = padded.reshape(height // down, down, width // across, across)
    touched = np.asarray(blocks.any(axis=(1, 3)))
    if ring == 0:
        return touched
    grown: np.ndarray = ndimage.binary_dilation(touched, _AROUND, iterations=ring)
    return touched if grown.all() else grown


def feather(
    hole: Bool[np.ndarray, "H W"], grown: Bool[np.ndarray, "h w"], strides: tuple[int, ...]
) -> Float[np.ndarray, "H W"]:
    """Weights of the filled picture: 1 in the hole, falling to 0 at the end of the grown codes' pixels.

    Args:
      hole: pixels to fill.
      grown: codes drawn again, which cover the hole.
      strides: pixels a code along height and width; the weight falls over the larger one.
    """
    inside = np.repeat(np.repeat(grown, strides[0], axis=0), strides[1], axis=1)
    inside = inside[: hole.shape[0], : hole.shape[1]]
    # Distance to the hole against distance to the pixels that must stay: smooth whatever the ring's width.
    to_hole = ndimage.distance_transform_cdt(~hole, "chessboard").astype(np.float64)
    to_known = (
        np.full(hole.shape, np.inf)
        if inside.all()
        else ndimage.distance_transform_cdt(inside, "chessboard").astype(np.float64)
    )
    weights = np.clip(1.0 - to_hole / np.minimum(to_hole + to_known, max(strides) + 1.0).clip(1.0), 0.0, 1.0)
    return np.where(hole, 1.0, np.where(inside, weights, 0.0))


def composite(
    picture: UInt8[np.ndarray, "H W C"], filled: UInt8[np.ndarray, "H W C"], weights: Float[np.ndarray, "H W"]
) -> UInt8[np.ndarray, "H W C"]:
    """Mixes two pictures; where the weight is 0, the pixels are those of the first to the bit."""
    alpha = weights[..., None]
    mixed = np.rint(alpha * filled + (1.0 - alpha) * picture).astype(np.uint8)
    return np.where(alpha == 0.0, picture, mixed)


def fill_windows(
    codes: Int[np.ndarray, "B h w *Q"],
    unknown: Bool[np.ndarray, "B h w"],
    window: tuple[int, int],
    fill: Fill,
) -> Int[np.ndarray, "B h w *Q"]:
    """Fills the unknown codes of grids with a prior over a smaller or equal grid.

    A hole that fits into the prior's window is filled at once, with the window around its middle. A larger
    one is filled window by window from its top left, each window with as many known or filled codes above
    and to the left as on the other side.

    Args:
      codes: of whole pictures; without meaning where unknown.
      unknown: positions to fill.
      window: height and width of the prior's grid, at most those of the pictures' grids.
      fill: the prior; each call gets B grids.
    """
    depth = codes.shape[unknown.ndim :]
    codes, unknown = codes.copy(), unknown.copy()
    while unknown.any():
        corners = [_window_at(missing, window) for missing in unknown]
        places = [
            (picture, slice(top, top + window[0]), slice(left, left + window[1]))
            for picture, (top, left) in enumerate(corners)
        ]
        given = np.stack([codes[place] for place in places])
        known = ~np.stack([unknown[place] for place in places])
        known = np.broadcast_to(known.reshape(*known.shape, *(1 for _ in depth)), given.shape)
        filled = np.where(known, given, fill(np.where(known, given, 0), known))
        for place, values in zip(places, filled, strict=True):
            codes[place], unknown[place] = values, False
    return codes


def _window_at(missing: Bool[np.ndarray, "h w"], window: tuple[int, int]) -> tuple[int, int]:
    """Finds the upper left corner of the window to fill next."""
    if not missing.any():
        return 0, 0
    rows, columns = np.nonzero(missing)
    if np.ptp(rows) < window[0] and np.ptp(columns) < window[1]:
        middle = (rows.min() + rows.max() + 1) // 2, (columns.min() + columns.max() + 1) // 2
    else:
        # The middle of the window lies on the leftmost unknown code of the topmost row with one.
        middle = int(rows[0]), int(columns[0])
    return tuple(  # type: ignore[return-value]
        int(np.clip(centre - length // 2, 0, size - length))
        for centre, length, size in zip(middle, window, missing.shape, strict=True)
    )
