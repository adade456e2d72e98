"""Clips of videos: what the sources of videos have in common.

A source of videos finds out what there is, and makes a `ClipSource` of it with `split_clips`.
"""

import hashlib
import logging
import threading
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from vq_jax.configs.data import DataConfig
from vq_jax.data.crops import Choose, Size, Window, cut
from vq_jax.data.layout import Part, counted, understand
from vq_jax.data.source import Record, Split, printable
from vq_jax.data.splits import held_out, places_of
from vq_jax.data.video_file import Change
from vq_jax.errors import UserError

_LOG = logging.getLogger("vq_jax")
_LOCK = threading.Lock()
_CACHE_BYTES = 2**29
_NAMED = 3  # videos named in one message


@runtime_checkable
class Video(Protocol):
    """A video of `len` frames, which can be read in any order."""

    @property
    def digest(self) -> str:
        """Hash of its content."""

    def __len__(self) -> int: ...

    def read(
        self, numbers: Sequence[int], channels: int, change: Change | None = None
    ) -> Sequence[UInt8[np.ndarray, "H W C"]]:
        """Reads frames by their ascending numbers, of one size; raises an error if one cannot be read.

        Args:
          numbers: of the frames.
          channels: 1 or 3.
          change: what is made of each frame; it stays as it is when absent.
        """


class Stretch(NamedTuple):
    """Frames of a video that belong to one split: their first, and their number."""

    name: str
    video: Video
    first: int
    frames: int
    label: int | None = None


class ClipSource:
    """Clips of videos, read on demand, [T, H, W, C] each; or single frames.

    A clip starts at every `step`-th frame of a stretch. One that cannot be read is named once and replaced by
    the first of the next stretch that can, so that the order of all others stays.

    Args:
      stretches: what the clips are cut out of.
      config: its frames and frame_stride.
      step: distance of the first frames of clips.
      channels: 1 or 3.
      num_classes: number of different labels; None without labels.
      class_names: of the labels, where they have names.
      cached: keep the frames of all videos in memory.
      left_out: what of the data is in no split, in words.
    """

    def __init__(
        self,
        stretches: Sequence[Stretch],
        config: DataConfig,
        step: int,
        channels: int,
        num_classes: int | None = None,
        class_names: tuple[str, ...] | None = None,
        cached: bool = False,
        left_out: tuple[str, ...] = (),
    ) -> None:
        self.channels, self.frames = channels, config.frames
        self.num_classes, self.class_names, self.left_out = num_classes, class_names, left_out
        self._stretches, self._step = list(stretches), step
        self._stride, self._span = config.frame_stride, span_of(config)
        counts = [(stretch.frames - self._span) // step + 1 for stretch in stretches]
        self._ends = np.cumsum(counts)
        if num_classes is not None:
            self.labels = np.repeat([stretch.label for stretch in stretches], counts).astype(np.int32)
        self._cache: dict[int, np.ndarray | None] | None = {} if cached else None
        self._broken: set[int] = set()
        parts = [(s.name, s.video.digest, s.first, s.frames, s.label) for s in stretches]
        identity = [channels, config.frames, config.frame_stride, step, class_names, parts]
        self.fingerprint = hashlib.blake2b(repr(identity).encode(), digest_size=16).hexdigest()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Record:
        return self._record(index, None)

    def crop(self, index: int, choose: Choose, size: Size, scaled: bool) -> Record:
        """Reads a clip with the same part of each of its frames, see `source.take_crop`."""
        chosen: list[Window] = []

        def change(frame: np.ndarray) -> np.ndarray:
            if not chosen:
                chosen.append(choose(*frame.shape[:2]))
            return cut(frame, chosen[0], size)

        return self._record(index, change)

    def _record(self, index: int, change: Change | None) -> Record:
        if not -len(self) <= index < len(self):
            raise IndexError(f"expected an index below {len(self)}, got {index}")
        index %= len(self)
        place = int(np.searchsorted(self._ends, index, side="right"))
        start = (index - (int(self._ends[place - 1]) if place else 0)) * self._step
        for skipped in range(len(self._stretches)):
            number = (place + skipped) % len(self._stretches)
            clip = self._read(number, 0 if skipped else start, change)
            if clip is not None:
                record: Record = {
                    "image": clip if self.frames is not None else clip[0],
                    "broken": np.int32(skipped),
                }
                label = self._stretches[number].label
                return record if label is None else {**record, "label": np.int32(label)}
        raise UserError(f"none of {len(self._stretches)} videos can be read any more")

    def _read(self, number: int, start: int, change: Change | None) -> np.ndarray | None:
        stretch = self._stretches[number]
        numbers = range(stretch.first + start, stretch.first + start + self._span, self._stride)
        try:
            whole = self._whole(number)
            if whole is None:
                frames = stretch.video.read(numbers, self.channels, change)
            else:
                kept = list(whole[start : start + self._span : self._stride])
                frames = kept if change is None else list(map(change, kept))
            return np.stack(frames)
        except Exception as error:  # decoders raise nearly every kind
            with _LOCK:
                known = number in self._broken
                self._broken.add(number)
            if not known:
                reason = str(error) or type(error).__name__
                _LOG.warning("broken video %s, clips of it are replaced: %s", printable(stretch.name), reason)
            return None

    def _whole(self, number: int) -> np.ndarray | None:
        """All frames of a stretch, where they stay in memory and can be read."""
        if self._cache is None:
            return None
        with _LOCK:  # a video may be large: it is decoded once
            if number not in self._cache:
                stretch = self._stretches[number]
                numbers = range(stretch.first, stretch.first + stretch.frames)
                try:
                    self._cache[number] = np.stack(stretch.video.read(numbers, self.channels))
                except Exception:  # decoders raise nearly every kind; of the clips, some can be read
                    self._cache[number] = None
            return self._cache[number]


def span_of(config: DataConfig) -> int:
    """Frames of a video from the first to the last of a clip; 1 for single frames."""
    return 1 if config.frames is None else (config.frames - 1) * config.frame_stride + 1


def require_long(longest: int, config: DataConfig, where: str) -> None:
    """Checks that the longest video of data is as long as a clip.

    Raises:
      UserError: it is not.
    """
    span = span_of(config)
    if longest < span:
        raise UserError(
            f"expected videos of at least {span} frames in {where} (data.frames = {config.frames}, "
            f"data.frame_stride = {config.frame_stride}), the longest has {longest}: lower one of them"
        )


def split_clips(
    videos: Sequence[tuple[str, Video]],
    split: Split,
    config: DataConfig,
    channels: int,
    *,
    where: str,
    values: int,
    left_out: Sequence[str] = (),
) -> ClipSource:
    """Makes the clips of one split of videos.

    `layout.understand` finds splits and classes by the videos' paths, as for pictures. Where there are no
    splits, a hash of a video's path decides whether it is held out; of a single video the last share of its
    frames is. Clips to train on start at every frame; held-out ones have no frame in common.

    Args:
      videos: their paths, with forward slashes, and they.
      split: train or test.
      config: its frames, frame_stride and test_fraction.
      channels: 1 or 3.
      where: the data, for messages.
      values: of all frames of all videos, which stay in memory where that takes little.
      left_out: what of the data is no video, in words.

    Returns:
      The source.

    Raises:
      UserError: no video is as long as a clip, or none can be held out.
    """
    span = span_of(config)
    long = [(name, video) for name, video in videos if len(video) >= span]
    words = list(left_out)
    if len(long) < len(videos):
        words.append(f"{counted(len(videos) - len(long), 'video')} of fewer than {span} frames")
    require_long(max((len(video) for _, video in videos), default=0), config, where)
    layout = understand([name for name, _ in long], "video")
    numbers = {name: number for number, name in enumerate(layout.class_names or ())}

    def stretches(part: Part) -> list[Stretch]:
        labels: list[int | None] = [None] * len(part.files)
        if part.classes is not None:
            labels = [numbers[name] for name in part.classes]
        chosen = [long[number] for number in part.files]
        return [Stretch(*pair, 0, len(pair[1]), label) for pair, label in zip(chosen, labels, strict=True)]

    train = stretches(layout.train)
    if layout.test is not None:
        test = stretches(layout.test)
    else:
        train, test = _shared(train, config.test_fraction, span, where)
    return ClipSource(
        train if split == "train" else test,
        config,
        1 if split == "train" else span,
        channels,
        None if layout.class_names is None else len(layout.class_names),
        layout.class_names,
        cached=values <= _CACHE_BYTES,
        left_out=(*layout.left_out, *words),
    )


def _shared(
    stretches: list[Stretch], fraction: float, span: int, where: str
) -> tuple[list[Stretch], list[Stretch]]:
    """Shares stretches between the splits; raises UserError where one would have no clip."""
    if len(stretches) > 1:
        test = held_out(places_of([s.name for s in stretches]), fraction, np.ones(len(stretches), bool))
        return (
            [s for s, is_test in zip(stretches, test, strict=True) if not is_test],
            [s for s, is_test in zip(stretches, test, strict=True) if is_test],
        )
    (whole,) = stretches
    kept = whole.frames - max(span, round(fraction * whole.frames))
    if kept < span:
        raise UserError(
            f"expected at least two videos in {where}, or one of at least {2 * span} frames, whose last are "
            f"held out; got one of {whole.frames}"
        )
    return [whole._replace(frames=kept)], [whole._replace(first=kept, frames=whole.frames - kept)]
