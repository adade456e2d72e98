"""Where known pictures are in the frames of a clip, and how often a model that predicts frames gets it right.

It measures predictions on clips whose truth is known, such as those of `data.moving_fashion.MovingFashion`:

    source = open_source("moving-fashion", "test", config, channels=1)   # config.frames: given + predicted
    sprites = np.stack([source.sprites(index) for index in clips])       # uint8 [N, 2, 28, 28, 1]
    corners = np.stack([source.movement(index).corners for index in clips])  # [N, given + T, 2, 2]
    figures = position_accuracy(predicted, sprites, corners)             # predicted: uint8 [N, T, 64, 64, 1]
"""

import numpy as np
from jaxtyping import Float32, Int, Int32, UInt8

_CANDIDATES = 2  # places of each picture by itself from which the search for both starts
_COARSE = 2  # px between the pixels that the search compares before the last steps


def position_accuracy(
    predicted: UInt8[np.ndarray, "N T H W 1"],
    sprites: UInt8[np.ndarray, "N 2 h w 1"],
    corners: Int[np.ndarray, "N T2 2 2"],
    *,
    tolerance: float = 2.0,
    first: int = 6,
) -> dict[str, float]:
    """Finds the moving pictures in predicted frames and says how often both are where they should be.

    A frame is right where `find_positions` has both pictures within `tolerance` pixels (Euclidean) of the
    truth; two pictures that are the same may be exchanged. A baseline stands beside it: the last frame given,
    repeated.

    Args:
      predicted: the frames that a model predicted, without those it was given.
      sprites: the two pictures that move in each clip, of one size.
      corners: row and column of the upper left corner of each, in all frames, of which the last T are those
        predicted and the one before was the last given.
      tolerance: in pixels.
      first: how many predicted frames a right clip has right; all T where they are fewer.

    Returns:
      `positions`: the share of clips with the first frames all right; `positions/frame_1` ...: the share of
      clips with that predicted frame right; `positions/error`: distance from the truth in pixels, the median
      over pictures and frames; each also of the baseline, as `repeated_positions` ...

    Raises:
      ValueError: shapes that do not fit; no frame was given.
    """
    clips, frames = predicted.shape[:2]
    if len(sprites) != clips or len(corners) != clips or corners.shape[1] <= frames:
        raise ValueError(
            f"expected sprites and corners of {clips} clips, and corners of more than the {frames} predicted "
            f"frames (the last given one too), got sprites {sprites.shape} and corners {corners.shape}"
        )
    found = np.stack([find_positions(clip, pair) for clip, pair in zip(predicted, sprites, strict=True)])
    truth, last = corners[:, -frames:], corners[:, -frames - 1, None]
    same = np.array([np.array_equal(one, other) for one, other in sprites])
    figures = {}
    for name, places in (("positions", found), ("repeated_positions", np.broadcast_to(last, truth.shape))):
        distance = _distances(places, truth, same)
        right = np.all(distance <= tolerance, axis=-1)
        figures[name] = float(np.mean(np.all(right[:, :first], axis=1)))
        figures |= {f"{name}/frame_{n}": float(share) for n, share in enumerate(right.mean(axis=0), start=1)}
        figures[f"{name}/error"] = float(np.median(distance))
    return figures


def _distances(
    places: Int[np.ndarray, "N T 2 2"], truth: Int[np.ndarray, "N T 2 2"], same: np.ndarray
) -> np.ndarray:
    """Distance of each picture from where it should be, [N, T, 2]; the same pictures in the better order."""
    straight, crossed = (np.linalg.norm(order - truth, axis=-1) for order in (places, places[:, :, ::-1]))
    exchanged = same[:, None] & (crossed.max(axis=-1) < straight.max(axis=-1))
    return np.where(exchanged[..., None], crossed, straight)


def find_positions(
    frames: UInt8[np.ndarray, "T H W 1"], sprites: UInt8[np.ndarray, "2 h w 1"]
) -> Int32[np.ndarray, "T 2 2"]:
    """Finds two known pictures in each frame of a clip, without looking at other frames or at the truth.

    The places are those where both pictures together, on black and with the larger value where they overlap,
    have the least squared distance from the frame. The search goes over all places of one picture while the
    other stays, in turns until neither moves, and starts at the best places that each has by itself.

    Returns:
      Row and column of the upper left corner of both pictures.
    """
    pair = [np.asarray(sprite[..., 0], np.float32) for sprite in sprites]
    return np.stack([_find_both(np.asarray(frame[..., 0], np.float32), pair) for frame in frames])


def _find_both(
    frame: Float32[np.ndarray, "H W"], sprites: list[Float32[np.ndarray, "h w"]]
) -> Int32[np.ndarray, "2 2"]:
    black, ends = np.zeros_like(frame), []
    for number in range(2):
        alone = _errors(frame, black, sprites[number], _COARSE)
        for start in np.argsort(alone, axis=None)[:: 1 + alone.size // 400][:_CANDIDATES]:
            places = [(0, 0), (0, 0)]
            places[number] = _place(int(start), alone.shape)
            ends.append(_descended(frame, sprites, places, 1 - number, _COARSE))
    _, best = min(ends)
    return np.array(_descended(frame, sprites, best, 0, step=1)[1], np.int32)


def _descended(
    frame: Float32[np.ndarray, "H W"],
    sprites: list[Float32[np.ndarray, "h w"]],
    places: list[tuple[int, int]],
    moving: int,
    step: int,
) -> tuple[float, list[tuple[int, int]]]:
    """Moves one picture at a time to its best place until none is better; the squared distance there."""
    places, least = list(places), np.inf
    while True:
        fixed = _pasted(np.zeros_like(frame), sprites[1 - moving], places[1 - moving])
        errors = _errors(frame, fixed, sprites[moving], step)
        place = int(np.argmin(errors))
        error = float(errors.flat[place]) + float(np.sum(np.square(frame - fixed)))
        if error >= least:
            return least, places
        places[moving], least, moving = _place(place, errors.shape), error, 1 - moving


def _errors(
    frame: Float32[np.ndarray, "H W"],
    behind: Float32[np.ndarray, "H W"],
    sprite: Float32[np.ndarray, "h w"],
    step: int,
) -> Float32[np.ndarray, "y x"]:
    """How a sprite at each place changes the squared distance from the frame of what is there without it.

    Only every `step`-th row and column of the sprite counts, each for the square of `step` pixels.
    """
    seen, there = (
        np.lib.stride_tricks.sliding_window_view(canvas, sprite.shape)[..., ::step, ::step]
        for canvas in (frame, behind)
    )
    with_it = seen - np.maximum(there, sprite[::step, ::step])
    without = seen - there
    changed = np.einsum("yxhw,yxhw->yx", with_it, with_it) - np.einsum("yxhw,yxhw->yx", without, without)
    return np.asarray(changed * step**2)


def _pasted(
    canvas: Float32[np.ndarray, "H W"], sprite: Float32[np.ndarray, "h w"], place: tuple[int, int]
) -> Float32[np.ndarray, "H W"]:
    canvas = canvas.copy()
    at = tuple(slice(start, start + side) for start, side in zip(place, sprite.shape, strict=True))
    canvas[at] = np.maximum(canvas[at], sprite)
    return canvas


def _place(flat: int, shape: tuple[int, ...]) -> tuple[int, int]:
    row, column = np.unravel_index(flat, shape)
    return int(row), int(column)
