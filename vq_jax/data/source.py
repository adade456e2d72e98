"""What a source of pictures is, and how one is opened by name."""

from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from vq_jax.configs.data import DataConfig
from vq_jax.data.crops import Choose, cut
from vq_jax.errors import UserError, nearest_names

Record = dict[str, Any]
"""`image` uint8 [H, W, C]; `broken` int32, unreadable pictures that this one stands in for; `label`
int32 where the source has labels."""

Batch = dict[str, np.ndarray]
"""`image` uint8 [B, S, S, C]; `broken` int32 [B]; `label` int32 [B] where the source has labels."""

Split = Literal["train", "test"]

_KINDS = ("photos", "fashion", "folder", "arrays", "tfds")
_USAGE = "photos, fashion, folder:PATH, arrays:FILE.npz or tfds:NAME[:SPLIT]"


@runtime_checkable
class Source(Protocol):
    """A random-access sequence of pictures: every record can be read at any time, in any order.

    Attributes:
      channels: channels of every picture.
      fingerprint: hash of what defines the records and their order; a resumed run compares it.
      num_classes: number of labels, absent where the records have none.
    """

    channels: int
    fingerprint: str
    num_classes: int | None

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Record: ...


def open_source(spec: str, split: Split, config: DataConfig, channels: int) -> Source:
    """Opens one half of a data set.

    Args:
      spec: photos, fashion, folder:PATH, arrays:FILE.npz or tfds:NAME[:SPLIT].
      split: the pictures to train on, or those held out.
      config: `test_fraction` for data without a test set of its own, `data_dir` for tfds.
      channels: 1 or 3; photographs and picture files are converted, other data must have as many.

    Returns:
      The source; it holds at least one picture.

    Raises:
      UserError: an unknown kind of source, or data that are missing or not as expected.

    Example:
      >>> source = open_source("photos", "test", DataConfig(), channels=3)
      >>> source[0]["image"].shape
      (300, 451, 3)
    """
    kind, _, argument = spec.partition(":")
    if kind not in _KINDS:
        raise UserError(f"expected a data source ({_USAGE}), got {spec!r}{nearest_names(kind, _KINDS)}")
    if bool(argument) != (kind in ("folder", "arrays", "tfds")):
        complaint = "takes nothing after its name" if argument else "needs something after a colon"
        raise UserError(f"the data source {kind} {complaint}: expected {_USAGE}, got {spec!r}")
    if kind in ("photos", "folder") and channels not in (1, 3):
        raise UserError(
            f"expected model.image_channels 1 (grey) or 3 (colour) for pictures of {spec}, got {channels}"
        )
    # Each kind is imported when it is asked for: tfds alone takes half a second.
    if kind == "photos":
        from vq_jax.data.photos import open_photos

        return open_photos(split, channels)
    if kind == "fashion":
        from vq_jax.data.fashion import open_fashion

        return open_fashion(split, channels)
    if kind == "folder":
        from vq_jax.data.folder import open_folder

        return open_folder(argument, split, config.test_fraction, channels)
    if kind == "arrays":
        from vq_jax.data.arrays import open_arrays

        return open_arrays(argument, split, config.test_fraction, channels)
    from vq_jax.data.tfds import open_tfds

    return open_tfds(argument, split, config, channels)


def take_square(source: Source, index: int, choose: Choose, size: int, scaled: bool) -> Record:
    """Reads a record and cuts its picture down to a square; a source with a method `square` does both.

    Args:
      source: the pictures.
      index: of the record.
      choose: chooses the square of the picture that is read, and whether it is mirrored.
      size: side of the result.
      scaled: let a source decode at a part of the size what is to be made much smaller.

    Returns:
      The record, its `image` uint8 [size, size, C].
    """
    square = getattr(source, "square", None)
    if square is not None:
        record: Record = square(index, choose, size, scaled)
        return record
    record = source[index]
    height, width, _ = record["image"].shape
    return {**record, "image": cut(record["image"], choose(height, width), size)}


def check_channels(found: int, channels: int, name: str) -> None:
    """Compares the channels of a data set's pictures with those of the model.

    Raises:
      UserError: they differ.
    """
    if found != channels:
        raise UserError(
            f"expected pictures with {channels} channels (model.image_channels), {name} has "
            f"{found}; set --model.image-channels {found}"
        )
