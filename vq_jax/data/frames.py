"""Folders of pictures, each a video whose frames they are."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vq_jax.configs.data import DataConfig
from vq_jax.data.clips import ClipSource, split_clips
from vq_jax.data.folder_index import PictureFile, examine, list_pictures
from vq_jax.data.pictures import Reading, read_picture
from vq_jax.data.source import Split, check_convertible
from vq_jax.data.video_file import Change
from vq_jax.errors import UserError


class FrameFolder:
    """A video of picture files, see `clips.Video`.

    Args:
      paths: the frames, in their order.
      reading: how pictures are read.
      digest: of their names and contents.
    """

    def __init__(self, paths: Sequence[Path], reading: Reading, digest: str) -> None:
        self.digest = digest
        self._paths, self._reading = list(paths), reading

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, numbers: Sequence[int], channels: int, change: Change | None = None) -> list[np.ndarray]:
        """Reads frames; raises ValueError, or what Pillow raises, where one is broken or has another size."""
        found: list[np.ndarray] = []
        shape = None
        for number in numbers:
            path = self._paths[number]
            try:
                frame = read_picture(path, channels, self._reading)
            except Exception as error:
                raise ValueError(f"{path.name}: {error}") from error
            shape = shape or frame.shape
            if frame.shape != shape:
                sizes = " and ".join(f"{height} x {width}" for height, width, _ in (frame.shape, shape))
                raise ValueError(f"{path.name} has another size than the frames before it, {sizes}")
            found.append(frame if change is None else change(frame))
        return found


def open_frames(path: str, split: Split, config: DataConfig, channels: int) -> ClipSource:
    """Opens one split of a folder: each folder in it that holds pictures is a video.

    Frames are ordered by their names, numbers in them as numbers: 2.png before 10.png. Splits and classes
    are found as `clips.split_clips` says.

    Args:
      path: the folder.
      split: train or test.
      config: its frames, frame_stride and test_fraction.
      channels: 1 or 3; every frame is converted.

    Returns:
      The source.

    Raises:
      UserError: there is no such folder, it holds no pictures, too many of them are broken, no video is as
        long as a clip, or other channels.
    """
    check_convertible(channels, f"frames:{path}")
    root = Path(path).expanduser()
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise UserError(f"expected a folder of folders of pictures, {path} {what}")
    listing, reading = list_pictures(root), Reading.of(config)
    examined = examine(root, listing.files, reading)
    folders: dict[str, list[tuple[PictureFile, str]]] = {}
    for file, digest in zip(listing.files, examined.digests, strict=True):
        folders.setdefault(file.name.rpartition("/")[0], []).append((file, digest))
    videos = []
    for name, files in sorted(folders.items()):
        ordered = sorted(files, key=lambda pair: natural(pair[0].name))
        contents = repr([(file.name, digest) for file, digest in ordered])
        digest = hashlib.blake2b(f"{reading.value_range}{contents}".encode(), digest_size=16).hexdigest()
        videos.append((name, FrameFolder([root / file.name for file, _ in ordered], reading, digest)))
    left_out = list(listing.left_out)
    if examined.broken:
        left_out.append(f"clips with {len(examined.broken)} pictures that cannot be read")
    return split_clips(
        videos,
        split,
        config,
        channels,
        where=f"frames:{path}",
        values=examined.pixels * channels,
        left_out=left_out,
    )


def natural(name: str) -> list[tuple[int, str]]:
    """Key that orders names as people do: the numbers in them as numbers."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), part) if number % 2 else (0, part) for number, part in enumerate(parts)]
