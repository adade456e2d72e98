"""A folder of picture files.

Opening a folder makes an index: every file with a picture's extension is listed and its header read, and up
to 2,000 files are decoded. A file that turns out to be broken, then or later, is named once and replaced by
the next picture that can be read: one bad file never ends a run and never shifts the order of the others.
"""

import hashlib
import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np

from vq_jax.configs.data import DataConfig
from vq_jax.data.crops import Choose, Size
from vq_jax.data.folder_index import PictureFile, examine, list_pictures, reason_of, warn_broken
from vq_jax.data.layout import Part, understand
from vq_jax.data.pictures import DEFAULT_READING, Reading, read_crop, read_picture
from vq_jax.data.source import Record, Split, check_convertible, crop_record
from vq_jax.data.splits import held_out, places_of
from vq_jax.errors import UserError

_LOCK = threading.Lock()
_CACHE_BYTES = 2**29


class FolderSource:
    """Picture files, read on demand; the decoded pictures stay in memory where they take little.

    Args:
      root: the folder.
      names: paths of the pictures, relative to it.
      labels: int [N], or None.
      class_names: of the labels; None without labels.
      channels: 1 or 3.
      broken: why a picture cannot be read, by the names of those known to be broken.
      fingerprint: hash of names and contents.
      cached: keep decoded pictures.
      reading: how pictures are read.
      left_out: what of the folder is in no split, in words.
    """

    def __init__(
        self,
        root: Path,
        names: Sequence[str],
        labels: Sequence[int] | None,
        class_names: tuple[str, ...] | None,
        channels: int,
        broken: dict[str, str],
        fingerprint: str,
        cached: bool,
        reading: Reading = DEFAULT_READING,
        left_out: tuple[str, ...] = (),
    ) -> None:
        self.channels = channels
        self.num_classes = None if class_names is None else len(class_names)
        self.class_names = class_names
        self.left_out = left_out
        self.fingerprint = fingerprint
        self._root = root
        self._reading = reading
        self._names = list(names)
        self.labels = None if labels is None else np.array(labels, np.int32)
        self._broken = {index for index, name in enumerate(self._names) if name in broken}
        self._cache: dict[int, np.ndarray] | None = {} if cached else None

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Record:
        return self._record(index, lambda path: read_picture(path, self.channels, self._reading))

    def crop(self, index: int, choose: Choose, size: Size, scaled: bool) -> Record:
        """Reads a record with a part of its picture, see `source.take_crop`."""
        if self._cache is not None:
            return crop_record(self[index], choose, size)
        return self._record(
            index, lambda path: read_crop(path, self.channels, choose, size, scaled, self._reading)
        )

    def _record(self, index: int, read: Callable[[Path], np.ndarray]) -> Record:
        count = len(self._names)
        if not -count <= index < count:
            raise IndexError(f"expected an index below {count}, got {index}")
        for skipped in range(count):
            place = (index + skipped) % count
            picture = self._read(place, read)
            if picture is not None:
                record: Record = {"image": picture, "broken": np.int32(skipped)}
                if self.labels is not None:
                    record["label"] = self.labels[place]
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

    `layout.understand` finds the folder's own splits and the classes by the names of its folders. Where it
    has no splits, a hash of a picture's relative path decides whether it is held out.

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
    listing = list_pictures(root)
    layout = understand([file.name for file in listing.files])
    reading = Reading.of(config)
    both = sorted([*layout.train.files, *(layout.test.files if layout.test is not None else [])])
    used = tuple(listing.files[number] for number in both)
    examined = examine(root, used, reading)
    if layout.test is not None:
        chosen = layout.train if split == "train" else layout.test
    else:
        chosen = _share(layout.train, split, listing.files, config.test_fraction, examined.broken)
        if not chosen.files:
            raise UserError(
                f"expected at least two readable pictures in {path} so that one can be held out, "
                "got one; add more, or put them into subfolders train and test"
            )
    classes = None if layout.class_names is None else list(layout.class_names)
    numbers = {name: number for number, name in enumerate(classes or [])}
    digests = dict(zip(both, examined.digests, strict=True))
    names = [listing.files[number].name for number in chosen.files]
    labels = None if classes is None else [numbers[name] for name in chosen.classes or []]
    contents = [(name, digests[number]) for name, number in zip(names, chosen.files, strict=True)]
    left_out = [*layout.left_out, *listing.left_out]
    if examined.broken:
        left_out.append(f"{len(examined.broken)} that cannot be read")
    return FolderSource(
        root,
        names,
        labels,
        layout.class_names,
        channels,
        examined.broken,
        _fingerprint(channels, classes, reading.value_range, contents),
        cached=examined.pixels * channels <= _CACHE_BYTES,
        reading=reading,
        left_out=tuple(left_out),
    )


def _share(
    part: Part, split: Split, files: Sequence[PictureFile], fraction: float, broken: Collection[str]
) -> Part:
    """The pictures of one split, where a share of all is held out."""
    names = [files[number].name for number in part.files]
    test = held_out(places_of(names), fraction, np.array([name not in broken for name in names]))
    rows = np.flatnonzero(test if split == "test" else ~test).tolist()
    classes = part.classes
    return Part(
        [part.files[row] for row in rows], None if classes is None else [classes[row] for row in rows]
    )


def _fingerprint(
    channels: int,
    classes: list[str] | None,
    value_range: tuple[float, float] | None,
    contents: list[tuple[str, str]],
) -> str:
    identity = [channels, classes, value_range, contents]
    return hashlib.blake2b(repr(identity).encode(), digest_size=16).hexdigest()
