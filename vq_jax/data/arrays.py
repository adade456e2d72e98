"""Pictures in an .npz file."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from vq_jax.configs.data import DataConfig
from vq_jax.data.in_memory import MemorySource
from vq_jax.data.source import Split, check_channels
from vq_jax.data.splits import even_places, held_out
from vq_jax.errors import UserError

_KEYS = ("images", "labels", "test_images", "test_labels")


def open_arrays(file: str, split: Split, config: DataConfig, channels: int) -> MemorySource:
    """Reads one split of an .npz file.

    The file has `images` uint8 [N, H, W] or [N, H, W, C] and may have `labels` int [N]. Held out are its
    `test_images` (and `test_labels`) or, without those, an evenly spread share of `images`.

    Args:
      file: path of the .npz file.
      split: train or test.
      config: its test_fraction, the share of the pictures held out where there are no test_images.
      channels: channels that the pictures must have.

    Returns:
      The source.

    Raises:
      UserError: the file is missing or not an .npz file, or its arrays have another name, dtype or shape.
    """
    arrays = _read(file)
    images = _images(arrays, "images", file, channels)
    labels = _labels(arrays, "labels", len(images), file)
    num_classes = None if labels is None else int(labels.max()) + 1
    if "test_images" in arrays:
        test_images = _images(arrays, "test_images", file, channels)
        test_labels = _labels(arrays, "test_labels", len(test_images), file)
        if (labels is None) != (test_labels is None):
            raise UserError(f"{file}: expected labels and test_labels, or neither; got one of them")
        if num_classes is not None and test_labels is not None:
            num_classes = max(num_classes, int(test_labels.max()) + 1)
        if split == "test":
            images, labels = test_images, test_labels
        return MemorySource(images, labels, num_classes)
    chosen = held_out(even_places(len(images)), config.test_fraction, np.ones(len(images), bool))
    chosen = chosen if split == "test" else ~chosen
    if not chosen.any():
        raise UserError(f"{file}: expected test_images, or at least two images so that one can be held out")
    return MemorySource(images[chosen], None if labels is None else labels[chosen], num_classes)


def _read(file: str) -> dict[str, np.ndarray]:
    path = Path(file).expanduser()
    if not path.is_file():
        raise UserError(f"expected an .npz file, {file} does not exist")
    if not zipfile.is_zipfile(path):
        raise UserError(
            f"expected an .npz file, {file} is not one: write it with "
            "numpy.savez_compressed(file, images=images)"
        )
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if "images" not in arrays.files:
                raise UserError(
                    f"{file}: expected an array named images (uint8 [N, H, W] or [N, H, W, C]), "
                    f"the file holds {', '.join(arrays.files) or 'nothing'}"
                )
            return {key: arrays[key] for key in _KEYS if key in arrays.files}
    except UserError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        raise UserError(f"the .npz file {file} cannot be read: {error}") from error


def _images(arrays: dict[str, np.ndarray], key: str, file: str, channels: int) -> np.ndarray:
    images = arrays[key]
    if images.dtype != np.uint8:
        advice = (
            "scale floats in [0, 1] by 255, round and cast"
            if np.issubdtype(images.dtype, np.floating)
            else "bring them into 0..255 and cast"
        )
        raise UserError(f"{file}: expected {key} of dtype uint8, got {images.dtype}; {advice}")
    if images.ndim not in (3, 4):
        raise UserError(
            f"{file}: expected {key} of shape [N, H, W] or [N, H, W, C], got {list(images.shape)}"
        )
    if 0 in images.shape:
        raise UserError(f"{file}: expected pictures in {key}, got shape {list(images.shape)}")
    images = images[..., None] if images.ndim == 3 else images
    check_channels(images.shape[-1], channels, file)
    return images


def _labels(arrays: dict[str, np.ndarray], key: str, count: int, file: str) -> np.ndarray | None:
    if key not in arrays:
        return None
    labels = arrays[key]
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != (count,):
        raise UserError(
            f"{file}: expected {key} of integers, shape [{count}], got {labels.dtype} {list(labels.shape)}"
        )
    if labels.min() < 0:
        raise UserError(f"{file}: expected {key} of 0 and up, got {labels.min()}")
    return labels
