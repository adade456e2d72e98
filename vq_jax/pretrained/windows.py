"""Pictures of any size through a network in overlapping windows, blended, in bounded memory."""

import functools
from collections.abc import Callable, Iterator

import numpy as np

Network = Callable[[np.ndarray], np.ndarray]
"""From uint8 [B, h, w, C] to uint8 [B, h * scale, w * scale, C]."""


def in_windows(
    network: Network,
    picture: np.ndarray,
    *,
    window: int,
    margin: int,
    blend: int,
    scale: int,
    multiple: int,
) -> np.ndarray:
    """Runs a network over a picture, window by window.

    Of each window, the outermost margin is not used, where the picture goes on beyond it; over the next
    `blend` pixels, two windows mix, linearly. Where no pixel depends on what is further than a margin away,
    the result is that of the whole picture; elsewhere no window's border shows. A picture that fits into a
    window is run whole.

    Args:
      network: maps pictures whose sides are multiples of `multiple`.
      picture: uint8 [h, w, C].
      window: pixels of a window's sides, a multiple of `multiple`, at least twice `margin` and `blend`.
      margin: pixels, a multiple of `multiple`.
      blend: pixels, a multiple of `multiple`.
      scale: how many times larger the output is.
      multiple: see `network`; the picture's edge pixels are repeated up to it.

    Returns:
      uint8 [h * scale, w * scale, C].
    """
    height, width, _ = picture.shape
    pad = [(0, -length % multiple) for length in (height, width)]
    padded = np.pad(picture, [*pad, (0, 0)], mode="edge")
    rows, columns = (_starts(length, window, 2 * margin + blend) for length in padded.shape[:2])
    sides = [min(window, length) for length in padded.shape[:2]]

    joined = functools.partial(_blended, margin=margin * scale, blend=blend * scale, scale=scale)

    def bands() -> Iterator[np.ndarray]:
        for top in rows:
            parts = padded[top : top + sides[0]]
            tiles = (network(parts[None, :, left : left + sides[1]])[0].swapaxes(0, 1) for left in columns)
            yield joined(tiles, columns).swapaxes(0, 1)

    whole = joined(bands(), rows)
    return whole[: height * scale, : width * scale]


def _starts(length: int, window: int, overlap: int) -> list[int]:
    """Where windows begin along an axis; the last ends where the axis does."""
    last = max(0, length - window)
    return [*range(0, last, window - overlap), last]


def _blended(
    parts: Iterator[np.ndarray], starts: list[int], *, margin: int, blend: int, scale: int
) -> np.ndarray:
    """Joins parts [n, ...] along their first axis, which begin at `starts` (before scaling) and overlap."""
    ramp = ((np.arange(blend, dtype=np.float32) + 0.5) / blend)[:, None, None]
    joined: list[np.ndarray] = []
    fading: np.ndarray | None = None  # of the part before: what the next one mixes with
    begins = 0  # where that lies in the result
    for number, part in enumerate(parts):
        start = starts[number] * scale
        stop = start + len(part)
        if fading is not None:
            mixed = (1 - ramp) * fading + ramp * part[begins - start :][:blend].astype(np.float32)
            joined.append(np.clip(mixed + 0.5, 0, 255).astype(np.uint8))
            part = part[begins - start + blend :]
        if number == len(starts) - 1:
            joined.append(part)
            break
        used = len(part) - margin - blend
        begins = stop - margin - blend
        joined.append(part[:used])
        fading = part[used : used + blend].astype(np.float32)
    return np.concatenate(joined)
