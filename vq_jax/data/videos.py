"""Video files, and folders of them."""

import functools
import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vq_jax.configs.data import DataConfig
from vq_jax.data.clips import ClipSource, split_clips
from vq_jax.data.folder_index import list_files
from vq_jax.data.source import Split, check_convertible, printable
from vq_jax.data.video_file import EXTENSIONS, VideoFile, index_video, require_av
from vq_jax.errors import UserError

_LOG = logging.getLogger("vq_jax")
_NAMED = 5  # broken videos
_MANY = 20  # files for whose index a bar is shown


def open_videos(path: str, split: Split, config: DataConfig, channels: int) -> ClipSource:
    """Opens one split of a video file or of a folder of them, in the order of their paths.

    Splits and classes are found as `clips.split_clips` says. Files that cannot be read are named and left
    out.

    Args:
      path: a video file, or a folder; its subfolders belong to it.
      split: train or test.
      config: its frames, frame_stride and test_fraction.
      channels: 1 or 3; every frame is converted.

    Returns:
      The source.

    Raises:
      UserError: there is no such file or folder, no video can be read or is as long as a clip, PyAV is not
        installed, or other channels.
    """
    check_convertible(channels, f"video:{path}")
    require_av()
    place = Path(path).expanduser()
    if not place.exists():
        raise UserError(f"expected a video file or a folder of them, {path} does not exist")
    left_out: tuple[str, ...] = ()
    if place.is_dir():
        files, left_out = list_files(place, EXTENSIONS, "video", ".mp4, .mov, .mkv, .webm, .avi")
        root, names = place, tuple(file.name for file in files)
        stamp = tuple((file.size, file.mtime_ns) for file in files)
    else:
        status = place.stat()
        root, names, stamp = place.parent, (place.name,), ((status.st_size, status.st_mtime_ns),)
    videos, broken = index_all(root, names, stamp)
    words = [*left_out, *([f"{broken} that cannot be read"] if broken else [])]
    return split_clips(
        videos,
        split,
        config,
        channels,
        where=f"video:{path}",
        values=sum(video.pixels for _, video in videos) * channels,
        left_out=words,
    )


@functools.lru_cache(maxsize=8)  # both splits are opened one after the other
def index_all(
    root: Path, names: tuple[str, ...], stamp: tuple[tuple[int, int], ...]
) -> tuple[tuple[tuple[str, VideoFile], ...], int]:
    """Makes the indices of video files; names those that cannot be read, and those that are truncated.

    Args:
      root: their folder.
      names: their paths in it.
      stamp: their sizes and times of change.

    Returns:
      Names and indices of those that can be read; the number of the others.

    Raises:
      UserError: none can be read.
    """
    from tqdm import tqdm

    def index(name: str) -> VideoFile | str:
        try:
            return index_video(root / name)
        except UserError:
            raise
        except Exception as error:  # demuxers and decoders raise nearly every kind
            return str(error) or type(error).__name__

    quiet = len(names) < _MANY or not sys.stderr.isatty()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = list(tqdm(pool.map(index, names), "videos", len(names), unit="file", disable=quiet))
    videos = [(name, video) for name, video in zip(names, found, strict=True) if not isinstance(video, str)]
    reasons = [f"{printable(n)} ({why})" for n, why in zip(names, found, strict=True) if isinstance(why, str)]
    if not videos:
        raise UserError(f"expected videos in {root}, none can be read: {'; '.join(reasons[:_NAMED])}")
    for reason in reasons[:_NAMED]:
        _LOG.warning("broken video %s, left out", reason)
    cut = [(name, video) for name, video in videos if len(video) < video.promised]
    for name, video in cut[:_NAMED]:
        _LOG.warning(
            "truncated video %s: of %d frames the first %d are used",
            printable(name),
            video.promised,
            len(video),
        )
    return tuple(videos), len(reasons)
