"""Filling holes in pictures and clips: which codes a hole touches, where the prior's window lies, the seam.

Letters: *S lengths of a picture (H, W) or of a clip (T, H, W); *s those of its code grid, on which the
prior's own grid is a window. Where there are several codes a position, the axis Q follows. `lead` is what the
first code lacks: where it stands for the first frame alone, and the others for n each, n - 1 frames.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import ndimage

from vq_jax.types import Bool, Float, Int, UInt8

# codes int32 [B, *window, *Q] and known bool of the same shape to codes with the unknown ones filled in
Fill = Callable[[np.ndarray, np.ndarray], np.ndarray]


def cover_hole(picture: UInt8[np.ndarray, "*S C"], hole: Bool[np.ndarray, "*S"]) -> UInt8[np.ndarray, "*S C"]:
    """Writes the nearest known pixel over each pixel of the hole, so that no code depends on its content.

    A frame counts as far from the next as a pixel."""
    nearest = ndimage.distance_transform_edt(hole, return_distances=False, return_indices=True)
    return picture[tuple(nearest)]


def hole_codes(
    hole: Bool[np.ndarray, "*S"], strides: tuple[int, ...], ring: int = 1, lead: int = 0
) -> Bool[np.ndarray, "*s"]:
    """Finds the codes to draw again: those whose pixels the hole touches, and a ring around them.

    The ring is there because the codes beside a hole depend on pixels in it. It grows along height and width,
    not in time, and is left out where it would leave no code of the picture.

    Args:
      hole: pixels to fill; lengths need not divide by the strides.
      strides: pixels a code along each axis.
      ring: width of the ring, in codes.
      lead: frames that the first code lacks.
    """
    before = [lead, *(0 for _ in strides[1:])]
    padded = np.pad(
        hole,
        [
            (first, -(first + size) % stride)
            for first, size, stride in zip(before, hole.shape, strides, strict=True)
        ],
    )
    blocks = padded.reshape(
        [
            part
            for size, stride in zip(padded.shape, strides, strict=True)
            for part in (size // stride, stride)
        ]
    )
    touched = np.asarray(blocks.any(axis=tuple(range(1, blocks.ndim, 2))))
    if ring == 0:
        return touched
    around = np.ones((1,) * (touched.ndim - 2) + (3, 3), bool)
    grown: np.ndarray = ndimage.binary_dilation(touched, around, iterations=ring)
    return touched if grown.all() else grown


def feather(
    hole: Bool[np.ndarray, "*S"], grown: Bool[np.ndarray, "*s"], strides: tuple[int, ...], lead: int = 0
) -> Float[np.ndarray, "*S"]:
    """Weights of the filled picture: 1 in the hole, falling to 0 at the end of the grown codes' pixels.

    Args:
      hole: pixels to fill.
      grown: codes drawn again, which cover the hole.
      strides: pixels a code along each axis; the weight falls over the largest one.
      lead: frames that the first code lacks.
    """
    inside = grown
    for axis, stride in enumerate(strides):
        inside = np.repeat(inside, stride, axis=axis)
    inside = inside[lead:][tuple(slice(size) for size in hole.shape)]
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
    picture: UInt8[np.ndarray, "*S C"], filled: UInt8[np.ndarray, "*S C"], weights: Float[np.ndarray, "*S"]
) -> UInt8[np.ndarray, "*S C"]:
    """Mixes two pictures; where the weight is 0, the pixels are those of the first to the bit."""
    alpha = weights[..., None]
    mixed = np.rint(alpha * filled + (1.0 - alpha) * picture).astype(np.uint8)
    return np.where(alpha == 0.0, picture, mixed)


def fill_windows(
    codes: Int[np.ndarray, "B *s"],
    unknown: Bool[np.ndarray, "B *s"],
    window: tuple[int, ...],
    fill: Fill,
) -> Int[np.ndarray, "B *s"]:
    """Fills the unknown codes of grids with a prior over a smaller or equal grid.

    A hole that fits into the prior's window is filled at once, with the window around its middle. A larger
    one is filled window by window from its top left, each window with as many known or filled codes above
    and to the left as on the other side.

    Args:
      codes: of whole pictures, [B, *s] or [B, *s, Q]; without meaning where unknown.
      unknown: positions to fill.
      window: lengths of the prior's grid, at most those of the pictures' grids.
      fill: the prior; each call gets B grids.
    """
    depth = codes.shape[unknown.ndim :]
    codes, unknown = codes.copy(), unknown.copy()
    while unknown.any():
        corners = [_window_at(missing, window) for missing in unknown]
        places: list[Any] = [
            (picture, *(slice(first, first + length) for first, length in zip(corner, window, strict=True)))
            for picture, corner in enumerate(corners)
        ]
        given = np.stack([codes[place] for place in places])
        known = ~np.stack([unknown[place] for place in places])
        known = np.broadcast_to(known.reshape(*known.shape, *(1 for _ in depth)), given.shape)
        filled = np.where(known, given, fill(np.where(known, given, 0), known))
        for place, values in zip(places, filled, strict=True):
            codes[place], unknown[place] = values, False
    return codes


def _window_at(missing: Bool[np.ndarray, "*s"], window: tuple[int, ...]) -> tuple[int, ...]:
    """Finds the first corner of the window to fill next."""
    if not missing.any():
        return (0,) * missing.ndim
    places = np.argwhere(missing)
    if (np.ptp(places, axis=0) < window).all():
        middle = (places.min(axis=0) + places.max(axis=0) + 1) // 2
    else:
        # The middle of the window lies on the first unknown code in raster order.
        middle = places[0]
    return tuple(
        int(np.clip(centre - length // 2, 0, size - length))
        for centre, length, size in zip(middle, window, missing.shape, strict=True)
    )
