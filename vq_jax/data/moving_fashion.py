"""Clips of embedded Fashion pictures that move over each other and bounce off the borders.

They are made after Moving MNIST: two pictures of 28 px on a black canvas of 64 px, each with a constant
speed, and the larger value where they overlap. A clip is drawn from its own number, so that any clip can be
made at any time.

References:
  Srivastava, Mansimov, Salakhutdinov (2015), "Unsupervised learning of video representations using LSTMs",
  arXiv:1502.04681, section 3.2. There digits move and a clip has 20 frames.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int32, UInt8

from vq_jax.configs.data import DataConfig
from vq_jax.data.fashion import open_fashion
from vq_jax.data.in_memory import MemorySource
from vq_jax.data.source import Record, Split, check_channels
from vq_jax.errors import UserError

SIDE = 64
"""Height and width of the canvas, in pixels."""
MOVING = 2
"""Pictures of a clip."""
_SPEEDS = 2.0, 5.0  # px a frame
_TRAIN_CLIPS, _TEST_CLIPS = 2**20, 1000
_SEED = 0  # not the run's: all runs see the same clips


class Movement(NamedTuple):
    """What moves in a clip, and where it is: what a model that predicts frames has to find out.

    Attributes:
      pictures: numbers of the pictures in `fashion`, int32 [2].
      corners: row and column of the upper left corner of each picture in each frame, int32 [T, 2, 2].
    """

    pictures: Int32[np.ndarray, "2"]
    corners: Int32[np.ndarray, "T 2 2"]


class MovingFashion:
    """Clips [T, 64, 64, 1] of two pictures that move, or single frames [64, 64, 1].

    A picture starts anywhere, in any direction, at 2 to 5 pixels a frame; its places are rounded to whole
    pixels. Of the paper's data the pictures differ, and the speeds, which it does not give.

    Args:
      pictures: what moves, uint8 [H, W, 1] each, of one size.
      clips: number of clips.
      frames: T; None for single frames.
      stride: distance of the frames in time.
    """

    num_classes: int | None = None

    def __init__(self, pictures: MemorySource, clips: int, frames: int | None, stride: int) -> None:
        self.channels = pictures.channels
        self.frames = frames
        self.fingerprint = f"{pictures.fingerprint}-moving-{clips}-{frames}-{stride}"
        self._pictures, self._clips, self._stride = pictures, clips, stride

    def __len__(self) -> int:
        return self._clips

    def __getitem__(self, index: int) -> Record:
        corners = self.movement(index).corners
        clip = np.zeros((len(corners), SIDE, SIDE, self.channels), np.uint8)
        for picture, path in zip(self.sprites(index), corners.swapaxes(0, 1), strict=True):
            height, width, _ = picture.shape
            for frame, (top, left) in zip(clip, path, strict=True):
                place = frame[top : top + height, left : left + width]
                np.maximum(place, picture, out=place)
        return {"image": clip if self.frames is not None else clip[0], "broken": np.int32(0)}

    def sprites(self, index: int) -> UInt8[np.ndarray, "2 H W 1"]:
        """Returns the pictures that move in a clip; `evaluate.position_accuracy` finds them in frames."""
        return np.stack([self._pictures[int(number)]["image"] for number in self.movement(index).pictures])

    def movement(self, index: int) -> Movement:
        """Returns what moves in a clip and where, in pixels of the whole canvas, before crops and flips."""
        if not -self._clips <= index < self._clips:
            raise IndexError(f"expected an index below {self._clips}, got {index}")
        generator = np.random.default_rng((_SEED, index % self._clips))
        pictures = generator.integers(len(self._pictures), size=MOVING)
        room = SIDE - np.array(self._pictures[0]["image"].shape[:2])
        start = generator.uniform(0, room, (MOVING, 2))
        angle, speed = generator.uniform(0, 2 * np.pi, MOVING), generator.uniform(*_SPEEDS, MOVING)
        velocity = speed[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=-1)
        times = self._stride * np.arange(self.frames or 1)
        corners = _bounced(start + times[:, None, None] * velocity, room)
        return Movement(pictures.astype(np.int32), np.rint(corners).astype(np.int32))


def _bounced(places: Float[np.ndarray, "T 2 2"], room: np.ndarray) -> Float[np.ndarray, "T 2 2"]:
    """Where what moves straight on would be if it bounced at 0 and at `room`."""
    there_and_back = np.mod(places, 2 * room)
    return np.minimum(there_and_back, 2 * room - there_and_back)


def open_moving_fashion(argument: str, split: Split, config: DataConfig, channels: int) -> MovingFashion:
    """Opens the clips of one split: the pictures of held-out clips are never trained on.

    Args:
      argument: number of clips to train on, of which an epoch has each once; empty for 2^20 of them, which
        few runs see twice.
      split: train, or test, which has 1,000 clips.
      config: its frames and frame_stride.
      channels: must be 1.

    Returns:
      The source, without labels.

    Raises:
      UserError: `channels` is not 1, or the number of clips is none.
    """
    check_channels(1, channels, "moving-fashion")
    if argument and not (argument.isdecimal() and 1 <= int(argument) <= _TRAIN_CLIPS):
        raise UserError(
            f"expected moving-fashion:CLIPS with 1 to {_TRAIN_CLIPS} clips to train on, got "
            f"moving-fashion:{argument}"
        )
    clips = (int(argument) if argument else _TRAIN_CLIPS) if split == "train" else _TEST_CLIPS
    return MovingFashion(open_fashion("", split, config, channels), clips, config.frames, config.frame_stride)
