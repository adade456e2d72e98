"""Clips of the videos of tensorflow-datasets sets, such as UCF-101."""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from vq_jax.configs.data import DataConfig
from vq_jax.data.clips import span_of
from vq_jax.data.source import Record, Split
from vq_jax.errors import UserError

_STARTS = 16  # clips of a video to train on
_log = logging.getLogger("vq_jax")


@dataclasses.dataclass
class TfdsClips:
    """Clips [T, H, W, C] of the videos of a prepared split, or single frames; videos are decoded on demand.

    How long a video is shows only once it is decoded: each has 16 clips to train on, which begin evenly
    spaced from its first frame to the last possible one, and one held-out clip, from the middle. A video that
    is shorter than a clip is replaced by the next that is not, as broken ones are.

    Attributes:
      records: random access to the split; `video` is uint8 [N, H, W, C].
      span: which of its records.
      config: its frames and frame_stride.
      split: train or test.
      channels: of every frame.
      num_classes: number of different labels; None without labels.
      fingerprint: hash of the data set's version, split and files, and of the clips.
      class_names: of the labels, where they have names.
    """

    records: Any
    span: Sequence[int]
    config: DataConfig
    split: Split
    channels: int
    num_classes: int | None
    fingerprint: str
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        self.frames = self.config.frames
        self._starts = _STARTS if self.split == "train" else 1
        self._named = False
        self.fingerprint += f"-{self.config.frames}-{self.config.frame_stride}-{self._starts}"

    def __len__(self) -> int:
        return len(self.span) * self._starts

    def __getitem__(self, index: int) -> Record:
        if not -len(self) <= index < len(self):
            raise IndexError(f"expected an index below {len(self)}, got {index}")
        place, part = divmod(index % len(self), self._starts)
        whole = span_of(self.config)
        for skipped in range(len(self.span)):
            found = self.records[self.span[(place + skipped) % len(self.span)]]
            frames = found["video"]
            free = len(frames) - whole
            if free < 0:
                self._name_once(len(frames), whole)
                continue
            start = free // 2 if self._starts == 1 else round(part * free / (self._starts - 1))
            clip = np.stack(frames[start : start + whole : self.config.frame_stride])
            record: Record = {
                "image": clip if self.frames is not None else clip[0],
                "broken": np.int32(skipped),
            }
            return record if self.num_classes is None else {**record, "label": np.int32(found["label"])}
        raise UserError(
            f"expected videos of at least {whole} frames (data.frames = {self.config.frames}, "
            f"data.frame_stride = {self.config.frame_stride}), all {len(self.span)} are shorter: lower one "
            "of them"
        )

    def _name_once(self, frames: int, needed: int) -> None:
        if not self._named:
            self._named = True
            _log.warning("videos of fewer than %d frames, such as one of %d, are replaced", needed, frames)
