"""The pictures that a command is given, as files and as folders of files, read ahead of their use."""

import collections
import concurrent.futures
import dataclasses
import itertools
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vq_jax.cli.files import read_picture
from vq_jax.cli.targets import numbered
from vq_jax.errors import UserError
from vq_jax.host.files import require_regular

if TYPE_CHECKING:
    import numpy as np

    from vq_jax.pretrained.tokenizer import Tokenizer

_BATCH = 16
_BATCH_PIXELS = 2**22  # of all pictures of a batch together
_THREADS = 4
_MANY_SHAPES = 8
_log = logging.getLogger("vq_jax")


@dataclasses.dataclass(frozen=True)
class GivenPicture:
    """A picture file.

    Attributes:
      path: where it is.
      name: of what is made of it, without suffix; no two pictures have the same.
      listed: found in a folder, and left out where it cannot be read; one that was named has to be readable.
    """

    path: Path
    name: str
    listed: bool


def find_pictures(places: Sequence[Path], output: Path) -> list[GivenPicture]:
    """Finds the picture files in what a command is given.

    Args:
      places: files, and folders that are searched with their subfolders.
      output: where the command writes; a folder's pictures below it are left out.

    Raises:
      UserError: no place is given, one does not exist, or a folder has no pictures.
    """
    if not places:
        raise UserError("expected at least one picture file or folder of pictures, got none")
    found: list[tuple[Path, bool]] = []
    for place in places:
        if place.is_dir():
            found += [(path, True) for path in _in_folder(place, output)]
        elif place.is_file():
            found.append((place, False))
        else:
            require_regular(place)
            raise UserError(f"no such picture: {place}")
    paths = [path for path, _ in found]
    return [
        GivenPicture(path, name, listed)
        for (path, listed), name in zip(found, numbered(path.stem for path in paths), strict=True)
    ]


def _in_folder(folder: Path, output: Path) -> list[Path]:
    from vq_jax.data.folder_index import list_pictures

    listing = list_pictures(folder)
    if listing.left_out:
        _log.info("of %s left out: %s", folder, ", ".join(listing.left_out))
    paths = [folder / file.name for file in listing.files]
    inside = output.resolve().is_relative_to(folder.resolve()) and output.resolve() != folder.resolve()
    kept = [path for path in paths if not (inside and path.resolve().is_relative_to(output.resolve()))]
    if not kept:
        raise UserError(f"expected pictures in {folder} besides those in {output}, where this command writes")
    if len(kept) < len(paths):
        _log.info("%d pictures in %s are left out: this command writes there", len(paths) - len(kept), output)
    return kept


def load_for(run: str, pictures: Sequence[GivenPicture]) -> "Tokenizer":
    """Loads a tokenizer and checks, before anything is written, that it takes all pictures named."""
    from vq_jax.pretrained.load_tokenizer import load_tokenizer

    tokenizer = load_tokenizer(run)
    if tokenizer.config.data.frames is not None:
        raise UserError(
            f"expected videos for the tokenizer in {run}, which was trained on clips, got pictures: give "
            "videos, or a run that was trained on pictures"
        )
    for picture in pictures:
        if not picture.listed:
            read_picture(picture.path, tokenizer)
    return tokenizer


class PictureStream:
    """Batches of pictures of one size, in their order, read ahead by threads; shows a bar for folders.

    A batch has at most 16 pictures. One that is not full is filled up to a power of two, so that few sizes of
    batches are compiled; `encode` and what else is made of it have the filled rows too. Pictures of different
    sizes stay apart, since the codes of a padded picture are not those of the picture; where there are many
    sizes, it is said that each takes a compilation.

    Attributes:
      left_out: pictures of a folder that could not be read.
    """

    def __init__(self, pictures: Sequence[GivenPicture], tokenizer: "Tokenizer") -> None:
        self._pictures, self._tokenizer = pictures, tokenizer
        self.left_out = 0
        self._shapes: set[tuple[int, ...]] = set()

    def __iter__(self) -> "Iterator[tuple[list[GivenPicture], np.ndarray]]":
        """Yields pictures and their pixels, uint8 [B, H, W, C] with B at least their number.

        Raises:
          UserError: none of the pictures can be read.
        """
        from tqdm import tqdm

        quiet = not (sys.stderr.isatty() and any(picture.listed for picture in self._pictures))
        waiting: list[tuple[GivenPicture, np.ndarray]] = []
        with tqdm(total=len(self._pictures), unit="picture", disable=quiet) as bar:
            for picture, pixels in self._read():
                if waiting and (pixels is None or not _joins(waiting, pixels)):
                    yield self._made(waiting)
                    bar.update(len(waiting))
                    waiting = []
                if pixels is not None:
                    waiting.append((picture, pixels))
                else:
                    bar.update()
            if waiting:
                yield self._made(waiting)
                bar.update(len(waiting))
        if self.left_out == len(self._pictures):
            raise UserError(f"none of the {self.left_out} pictures can be read")

    def _made(
        self, waiting: "list[tuple[GivenPicture, np.ndarray]]"
    ) -> "tuple[list[GivenPicture], np.ndarray]":
        pictures, pixels = _batch(waiting)
        # What is compiled for: a size is padded to one that the model takes.
        self._shapes.add((len(pixels), *self._tokenizer.model.padded_lengths(pixels.shape[1:-1])))
        if len(self._shapes) == _MANY_SHAPES:
            _log.info(
                "pictures of many sizes: each size, and each number of pictures of one size in a row, is "
                "compiled for, which takes seconds. Pictures of one size are faster."
            )
            self._shapes.add(())  # said once
        return pictures, pixels

    def _read(self) -> "Iterator[tuple[GivenPicture, np.ndarray | None]]":
        """The pictures in their order, None for one that is left out."""
        with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
            coming: collections.deque[tuple[GivenPicture, Any]] = collections.deque()
            rest = iter(self._pictures)
            while True:
                for picture in itertools.islice(rest, 2 * _THREADS - len(coming)):
                    coming.append((picture, pool.submit(read_picture, picture.path, self._tokenizer)))
                if not coming:
                    return
                picture, future = coming.popleft()
                try:
                    pixels = future.result()
                except UserError as error:
                    if not picture.listed:
                        raise
                    self.left_out += 1
                    _log.warning("left out: %s", error)
                    pixels = None
                yield picture, pixels


def _joins(waiting: "list[tuple[GivenPicture, np.ndarray]]", pixels: "np.ndarray") -> bool:
    """Whether a picture goes into the batch of those that wait."""
    first = waiting[0][1]
    most = min(_BATCH, max(1, _BATCH_PIXELS // (first.shape[0] * first.shape[1])))
    return pixels.shape == first.shape and len(waiting) < most


def _batch(
    waiting: "list[tuple[GivenPicture, np.ndarray]]",
) -> "tuple[list[GivenPicture], np.ndarray]":
    import numpy as np

    pictures, pixels = [picture for picture, _ in waiting], [pixels for _, pixels in waiting]
    filled = 1 << (len(pixels) - 1).bit_length()
    return pictures, np.stack(pixels + pixels[-1:] * (filled - len(pixels)))
