"""What a source of pictures is, and what its records are. `open` opens one by name."""

import os
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from vq_jax.data.crops import Choose, Size, cut
from vq_jax.errors import UserError

Record = dict[str, Any]
"""`image` uint8 [H, W, C], or a clip [T, H, W, C]; `broken` int32, the number of unreadable ones that it
replaces; `label` int32 where the source has labels."""

Batch = dict[str, np.ndarray]
"""Arrays [B, ...] by the keys of the examples: `image` uint8 [B, *S, C], `broken` int32 [B] and so on."""

Split = Literal["train", "test"]


@runtime_checkable
class Source(Protocol):
    """A random-access sequence of pictures: every record can be read at any time, in any order.

    A source may have a method `crop(index, choose, size, scaled) -> Record`, which reads a record and crops
    its picture with less work than reading all of the picture; see `take_crop`.

    It may also have an attribute `class_names`, see the function of that name, and `left_out`, a tuple that
    says in words what of the data is in no split. One that knows its labels without reading the pictures
    has an attribute `labels`, int32 [N].

    Attributes:
      channels: channels of every picture.
      fingerprint: hash of what defines the records and their order; compared when a run resumes.
      num_classes: number of different labels, None where the records have no labels.

    A source whose records are clips has an attribute `frames`, their number T.
    """

    channels: int
    fingerprint: str
    num_classes: int | None

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Record: ...


def class_names(source: Source) -> tuple[str, ...] | None:
    """Returns the names of a source's classes in the order of their numbers; None where they have none."""
    names: tuple[str, ...] | None = getattr(source, "class_names", None)
    return names


def source_labels(source: Source) -> np.ndarray | None:
    """Returns a source's labels, int32 [N]; None where it has none, or none without reading pictures."""
    labels: np.ndarray | None = getattr(source, "labels", None)
    return labels


def printable(name: str) -> str:
    """Returns a name that every terminal and log can write: bytes that are not UTF-8 are escaped."""
    return os.fsencode(name).decode(errors="backslashreplace")


def crop_record(record: Record, choose: Choose, size: Size, scaled: bool = False) -> Record:
    """Crops the picture of a record.

    Args:
      record: the record.
      choose: chooses the part from the picture's height and width, and whether it is mirrored.
      size: height and width of the result, in pixels.
      scaled: has no effect on a picture that is already decoded.

    Returns:
      The record, its `image` uint8 [*size, C].
    """
    height, width = record["image"].shape[-3:-1]
    return {**record, "image": cut(record["image"], choose(height, width), size)}


def take_crop(source: Source, index: int, choose: Choose, size: Size, scaled: bool) -> Record:
    """Reads a record and crops its picture; a source with a method `crop` does both.

    Args:
      source: the pictures.
      index: of the record.
      choose: chooses the part from the picture's height and width, and whether it is mirrored.
      size: height and width of the result, in pixels.
      scaled: let the source decode a picture at a part of its size when it is made much smaller.

    Returns:
      The record, its `image` uint8 [*size, C].
    """
    crop = getattr(source, "crop", None)
    if crop is not None:
        record: Record = crop(index, choose, size, scaled)
        return record
    return crop_record(source[index], choose, size)


def check_channels(found: int, channels: int, name: str) -> None:
    """Checks that the pictures of a data set have the channels of the model.

    Raises:
      UserError: they differ.
    """
    if found != channels:
        raise UserError(
            f"expected pictures with {channels} channels (model.image_channels), {name} has "
            f"{found}; set --model.image-channels {found}"
        )


def check_convertible(channels: int, name: str) -> None:
    """Checks that pictures can be converted to the channels of the model.

    Raises:
      UserError: they are not 1 or 3.
    """
    if channels not in (1, 3):
        raise UserError(
            f"expected model.image_channels 1 (grey) or 3 (colour) for pictures of {name}, got {channels}"
        )
