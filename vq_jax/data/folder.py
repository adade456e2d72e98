"""A folder of picture files.

Opening a folder makes an index: every file with a picture's extension is listed and its header read, and up
to 2,000 files are decoded. A file that turns out to be broken, then or later, is named once and replaced by
the next picture that can be read: one bad file never ends a run and never shifts the order of the others.
"""

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from vq_jax.configs.data import DataConfig
from vq_jax.data.crops import Choose
from vq_jax.data.folder_index import PictureFile, find_broken, list_pictures, reason_of, warn_broken
from vq_jax.data.pictures import read_picture, read_square
from vq_jax.data.source import Record, Split, check_convertible, cut_square
from vq_jax.data.splits import held_out
from vq_jax.errors import UserError

_LOCK = threading.Lock()
_CACHE_BYTES = 2**29


class FolderSource:
    """Picture files, read on demand; the decoded pictures stay in memory where they take little.

    Args:
      root: the folder.
      names: paths of the pictures, relative to it.
      labels: int [N], or None.
      num_classes: number of different labels; None without labels.
      channels: 1 or 3.
      broken: why a picture cannot be read, by the names of those known to be broken.
      fingerprint: hash of names and sizes.
      cached: keep decoded pictures.
    """

    def __init__(
        self,
        root: Path,
        names: Sequence[str],
        labels: Sequence[int] | None,
        num_classes: int | None,
        channels: int,
        broken: dict[str, str],
        fingerprint: str,
        cached: bool,
    ) -> None:
        self.channels = channels
        self.num_classes = num_classes
        self.fingerprint = fingerprint
        self._root = root
        self._names = list(names)
        self._labels = None if labels is None else np.array(labels, np.int32)
        self._broken = {index for index, name in enumerate(self._names) if name in broken}
        self._cache: dict[int, np.ndarray] | None = {} if cached else None

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Record:
        return self._record(index, lambda path: read_picture(path, self.channels))

    def square(self, index: int, choose: Choose, size: int, scaled: bool) -> Record:
        """Reads a record with a square of its picture, see `source.take_square`."""
        if self._cache is not None:
            return cut_square(self[index], choose, size)
        return self._record(index, lambda path: read_square(path, self.channels, choose, size, scaled))

    def _record(self, index: int, read: Callable[[Path], np.ndarray]) -> Record:
        count = len(self._names)
        if not -count <= index < count:
            raise IndexError(f"expected an index below {count}, got {index}")
        for skipped in range(count):
            place = (index + skipped) % count
            picture = self._read(place, read)
            if picture is not None:
                record: Record = {"image": picture, "broken": np.int32(skipped)}
                if self._labels is not None:
                    record["label"] = self._labels[place]
                return record
        raise UserError(f"expected pictures in {self._root}, none of {count} can be read any more")

    def _read(self, index: int, read: Callable[[Path], np.ndarray]) -> np.ndarray | None:
        if index in self._broken:
            return None
        if self._cache is not None and index in self._cache:
            return self._cache[index]
        name = self._names[index]
        try:
            picture = read(self._root / name)
        except Exception as error:  # Pillow's decoders raise nearly every kind
            with _LOCK:
                known = index in self._broken
                self._broken.add(index)
            if not known:
                warn_broken(name, reason_of(error))
            return None
        if self._cache is not None:
            picture.flags.writeable = False
            self._cache[index] = picture
        return picture


def open_folder(path: str, split: Split, config: DataConfig, channels: int) -> FolderSource:
    """Indexes a folder and returns one split of its pictures, in the order of their paths.

    The splits are the folder's own train/ and test/ (or val/) where it has both; otherwise a hash of a
    picture's relative path decides whether it is held out. Where all pictures lie in subfolders, a picture's
    label is the number of its first-level subfolder in the order of their names.

    Args:
      path: the folder; its subfolders belong to it.
      split: train or test.
      config: its test_fraction, the share of the pictures held out where the folder has no splits of its own.
      channels: 1 or 3; every picture is converted.

    Returns:
      The source.

    Raises:
      UserError: no such folder, nothing in it, no pictures, more broken pictures than the larger of
        one and 1 % of those decoded, a single picture and nothing to hold out, or other channels.
    """
    check_convertible(channels, f"folder:{path}")
    root = Path(path).expanduser()
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise UserError(f"expected a folder of pictures, {path} {what}")
    train = root / "train"
    test = next((root / name for name in ("test", "val") if (root / name).is_dir()), None)
    if train.is_dir() and test is not None:
        parts = {"train": list_pictures(train), "test": list_pictures(test)}
        classes = _classes([*parts["train"], *parts["test"]])
        root, files = (train, parts["train"]) if split == "train" else (test, parts["test"])
        broken, pixels = find_broken(root, files)
    else:
        files = list_pictures(root)
        classes = _classes(files)
        broken, pixels = find_broken(root, files)
        places = np.array([_place(file.name) for file in files])
        test_mask = held_out(places, config.test_fraction, np.array([f.name not in broken for f in files]))
        chosen = test_mask if split == "test" else ~test_mask
        if not chosen.any():
            raise UserError(
                f"expected at least two readable pictures in {path} so that one can be held out, "
                "got one; add more, or put them into subfolders train and test"
            )
        files = tuple(file for file, keep in zip(files, chosen, strict=True) if keep)
    labels = None if classes is None else [classes.index(_first_folder(f.name)) for f in files]
    identity = [channels, classes, *((file.name, file.size) for file in files)]
    return FolderSource(
        root,
        [file.name for file in files],
        labels,
        None if classes is None else len(classes),
        channels,
        broken,
        hashlib.blake2b(repr(identity).encode(), digest_size=16).hexdigest(),
        cached=pixels * channels <= _CACHE_BYTES,
    )


def _place(name: str) -> float:
    return int.from_bytes(hashlib.blake2b(os.fsencode(name), digest_size=4).digest()) / 2**32


def _first_folder(name: str) -> str:
    return PurePosixPath(name).parts[0]


def _classes(files: Sequence[PictureFile]) -> list[str] | None:
    if any("/" not in file.name for file in files):
        return None
    return sorted({_first_folder(file.name) for file in files})
