"""Pictures, or videos, in an .npz file."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vq_jax.configs.data import DataConfig
from vq_jax.data.clips import ClipSource, Stretch, require_long, span_of
from vq_jax.data.in_memory import MemorySource
from vq_jax.data.npz import read_npz
from vq_jax.data.source import Split, check_channels, printable
from vq_jax.data.splits import even_places, held_out
from vq_jax.data.video_file import Change
from vq_jax.errors import UserError

_KEYS = ("images", "labels", "test_images", "test_labels")
_CHANNELS = (1, 2, 3, 4)


class _Frames:
    """A video of an array, see `clips.Video`."""

    def __init__(self, frames: np.ndarray) -> None:
        self._frames = frames
        self.digest = hashlib.blake2b(np.ascontiguousarray(frames).data, digest_size=8).hexdigest()

    def __len__(self) -> int:
        return len(self._frames)

    def read(self, numbers: Sequence[int], channels: int, change: Change | None = None) -> list[np.ndarray]:
        """Returns frames; they have the channels already."""
        frames = [self._frames[number] for number in numbers]
        return frames if change is None else list(map(change, frames))


def open_arrays(file: str, split: Split, config: DataConfig, channels: int) -> MemorySource | ClipSource:
    """Reads one split of an .npz file.

    The file has `images` uint8 [N, H, W] or [N, H, W, C], or videos [N, T, H, W, C], and may have `labels`,
    integers or words [N]; see `_numbered` for the numbers of their classes. Held out are its `test_images`
    (and `test_labels`) or, without those, an evenly spread share of `images`. Videos give clips, see
    `clips.split_clips`.

    Args:
      file: path of the .npz file.
      split: train or test.
      config: its test_fraction, the share of the pictures held out where there are no test_images; of videos,
        its frames and frame_stride too.
      channels: channels that the pictures must have.

    Returns:
      The source.

    Raises:
      UserError: the file is missing or not an .npz file, or its arrays have another name, dtype or shape.
    """
    arrays = _read(file)
    images = _images(arrays, "images", file, channels)
    labels = _labels(arrays, "labels", len(images), file)
    test_labels, num_classes, names = None, None, None
    if "test_images" in arrays:
        test_images = _images(arrays, "test_images", file, channels)
        test_labels = _labels(arrays, "test_labels", len(test_images), file)
        if (labels is None) != (test_labels is None):
            raise UserError(f"{file}: expected labels and test_labels, or neither; got one of them")
    if labels is not None:
        numbered, num_classes, names = _numbered(
            [labels] if test_labels is None else [labels, test_labels], file
        )
        labels, test_labels = numbered[0], numbered[-1]
    if "test_images" in arrays:
        if split == "test":
            images, labels = test_images, test_labels
        return _source(images, labels, num_classes, names, split, config, file)
    chosen = held_out(even_places(len(images)), config.test_fraction, np.ones(len(images), bool))
    chosen = chosen if split == "test" else ~chosen
    if not chosen.any():
        raise UserError(f"{file}: expected test_images, or at least two images so that one can be held out")
    labels = None if labels is None else labels[chosen]
    return _source(images[chosen], labels, num_classes, names, split, config, file)


def _source(
    images: np.ndarray,
    labels: np.ndarray | None,
    num_classes: int | None,
    names: tuple[str, ...] | None,
    split: Split,
    config: DataConfig,
    file: str,
) -> MemorySource | ClipSource:
    """The source of one split: of pictures, or of the clips of videos."""
    if images.ndim == 4:
        return MemorySource(images, labels, num_classes, names)
    require_long(images.shape[1], config, file)
    numbers = [None] * len(images) if labels is None else [int(label) for label in labels]
    stretches = [
        Stretch(f"{file}[{row}]", _Frames(video), 0, len(video), label)
        for row, (video, label) in enumerate(zip(images, numbers, strict=True))
    ]
    step = 1 if split == "train" else span_of(config)
    return ClipSource(stretches, config, step, images.shape[-1], num_classes, names)


def _read(file: str) -> dict[str, np.ndarray]:
    advice = ": write one with numpy.savez_compressed(file, images=images)"
    arrays = read_npz(Path(file).expanduser(), "an .npz file of pictures", _KEYS, advice)
    if "images" not in arrays:
        raise UserError(
            f"{file}: expected an array named images (uint8 [N, H, W], [N, H, W, C], or [N, T, H, W, C]), "
            f"the file holds {', '.join(map(printable, arrays)) or 'nothing'}"
        )
    return arrays


def _images(arrays: dict[str, np.ndarray], key: str, file: str, channels: int) -> np.ndarray:
    images = arrays[key]
    if images.dtype != np.uint8:
        advice = (
            "scale floats in [0, 1] by 255, round and cast"
            if np.issubdtype(images.dtype, np.floating)
            else "bring them into 0..255 and cast"
        )
        raise UserError(f"{file}: expected {key} of dtype uint8, got {images.dtype}; {advice}")
    if images.ndim not in (3, 4, 5):
        raise UserError(
            f"{file}: expected {key} of shape [N, H, W], [N, H, W, C] or, for videos, [N, T, H, W, C], got "
            f"{list(images.shape)}"
        )
    if 0 in images.shape:
        raise UserError(f"{file}: expected pictures in {key}, got shape {list(images.shape)}")
    images = images[..., None] if images.ndim == 3 else images
    _check_layout(images.shape, key, file, channels)
    return images


def _check_layout(shape: tuple[int, ...], key: str, file: str, channels: int) -> None:
    """Checks the last axis; names the transposition or the slice where another axis holds the channels."""
    found = shape[-1]
    if found == channels:
        return
    if len(shape) == 5 and found not in _CHANNELS:
        raise UserError(f"{file}: expected videos in {key} of shape [N, T, H, W, C], got {list(shape)}")
    if shape[1] in _CHANNELS and found not in _CHANNELS:
        raise UserError(
            f"{file}: expected {key} of shape [N, H, W, C], got {list(shape)}, with the channels first: save "
            f"{key}.transpose(0, 2, 3, 1)"
        )
    if shape[0] in _CHANNELS and found not in _CHANNELS:
        raise UserError(
            f"{file}: expected {key} of shape [N, H, W, C], got {list(shape)}, with the pictures last: save "
            f"numpy.moveaxis({key}, -1, 0)"
        )
    if found in (2, 4):
        raise UserError(
            f"{file}: expected {key} with {channels} channels (model.image_channels), got {found}, the "
            f"last of them transparency: save {key}[..., :{found - 1}]"
        )
    if found not in _CHANNELS:
        raise UserError(
            f"{file}: expected {key} of shape [N, H, W, C] with 1 or 3 channels, got {list(shape)}"
        )
    check_channels(found, channels, file)


def _labels(arrays: dict[str, np.ndarray], key: str, count: int, file: str) -> np.ndarray | None:
    if key not in arrays:
        return None
    labels = arrays[key]
    if labels.dtype.kind not in "iuU" or labels.shape != (count,):
        raise UserError(
            f"{file}: expected {key} of integers or words, shape [{count}], got {labels.dtype} "
            f"{list(labels.shape)}"
        )
    return labels


def _numbered(given: list[np.ndarray], file: str) -> tuple[list[np.ndarray], int, tuple[str, ...] | None]:
    """Numbers the classes of labels from 0.

    Numbers from 0 up stay as they are, unless most of those below the largest are missing. All others, and
    words, are numbered in their order.

    Returns:
      The labels, int64; the number of classes; and, where labels got other numbers, what they were.
    """
    if len({labels.dtype.kind == "U" for labels in given}) > 1:
        raise UserError(f"{file}: expected labels and test_labels of one kind, got numbers and words")
    different = np.unique(np.concatenate([labels.astype(object) for labels in given]))
    if isinstance(different[0], int):
        if different[0] == 0 and different[-1] < 2 * len(different):
            return [labels.astype(np.int64) for labels in given], int(different[-1]) + 1, None
        if different[0] == -1 and 0 in different:
            raise UserError(
                f"{file}: expected labels of 0 and up, got -1, which often means none: leave those "
                "pictures out"
            )
    numbers = {label: number for number, label in enumerate(different.tolist())}
    mapped = [np.array([numbers[label] for label in labels.tolist()], np.int64) for labels in given]
    return mapped, len(numbers), tuple(map(str, numbers))
