"""Videos that `reconstruct`, `encode` and `decode` are given: a chunk of frames at a time."""

import collections
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vq_jax.cli.files import CodesFile, write
from vq_jax.cli.given_pictures import GivenPicture
from vq_jax.cli.targets import numbered
from vq_jax.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from vq_jax.data.video_file import VideoFile
    from vq_jax.pretrained.chunks import VideoChunks
    from vq_jax.pretrained.tokenizer import Tokenizer

Encoded = tuple[GivenPicture, Any, tuple[int, ...]]
"""A picture or video with its codes and its size."""

_CHUNK = 16  # frames
_ANIMATION = ".gif"  # a picture, when it is given as a file
_log = logging.getLogger("vq_jax")


def are_videos(places: Sequence[Path]) -> bool:
    """Whether what a command is given are videos: files with their extensions, or folders of such alone.

    Raises:
      UserError: some are, others are not.
    """
    found = [place for place in places if _is_video(place)]
    if found and len(found) < len(places):
        raise UserError(f"expected pictures or videos, got both, among them the video {found[0]}")
    return bool(found)


def _is_video(place: Path) -> bool:
    from vq_jax.data.folder_index import list_files
    from vq_jax.data.pictures import picture_extensions
    from vq_jax.data.video_file import EXTENSIONS

    videos = EXTENSIONS - {_ANIMATION}
    if not place.is_dir():
        return place.suffix.lower() in videos
    try:
        found = list_files(place, videos | picture_extensions(), "picture", "")
    except UserError:
        return False
    return all(Path(file.name).suffix.lower() in videos for file in found.files)


class GivenVideos:
    """The videos that a command is given, with their indices.

    Args:
      places: files, and folders that are searched with their subfolders. A broken one that was named is an
        error, one in a folder is left out.

    Attributes:
      given: where they are, and the names of what is made of them.
      rates: frames a second, by these names.
      left_out: videos of folders that could not be read.

    Raises:
      UserError: a place does not exist, or a video cannot be read.
    """

    def __init__(self, places: Sequence[Path]) -> None:
        from vq_jax.data.folder_index import list_files
        from vq_jax.data.video_file import EXTENSIONS
        from vq_jax.data.videos import index_all

        found: list[tuple[Path, VideoFile, bool]] = []
        self.left_out = 0
        for place in places:
            if not place.exists():
                raise UserError(f"no such video: {place}")
            root, names, stamps = place.parent, [place.name], [(0, 0)]
            if place.is_dir():
                files = list_files(place, EXTENSIONS - {_ANIMATION}, "video", ".mp4, .mov, .mkv").files
                root, names = place, [file.name for file in files]
                stamps = [(file.size, file.mtime_ns) for file in files]
            videos, broken = index_all(root, tuple(names), tuple(stamps))
            self.left_out += broken
            found += [(root / name, video, place.is_dir()) for name, video in videos]
        self._videos = [video for _, video, _ in found]
        self.given = [
            GivenPicture(path, name, listed)
            for (path, _, listed), name in zip(
                found, numbered(path.stem for path, _, _ in found), strict=True
            )
        ]

        self.rates = {given.name: video.rate for given, video in self}

    def __iter__(self) -> "Iterator[tuple[GivenPicture, VideoFile]]":
        return iter(zip(self.given, self._videos, strict=True))


def load_for_videos(run: str) -> "Tokenizer":
    """Loads a tokenizer of video.

    Raises:
      UserError: the run's is of pictures.
    """
    from vq_jax.pretrained.load_tokenizer import load_tokenizer

    tokenizer = load_tokenizer(run)
    if tokenizer.config.data.frames is None:
        raise UserError(
            f"expected pictures for the tokenizer in {run}, which was trained on pictures, got videos: give "
            "pictures, or a run that was trained on clips"
        )
    return tokenizer


def reconstruct_videos(tokenizer: "Tokenizer", videos: GivenVideos, output: Path) -> list[float]:
    """Writes NAME.mp4 for each video, its frames above their reconstructions; prints the PSNR.

    Returns:
      The PSNR of each, in decibel, the mean of its frames'.
    """
    import numpy as np

    from vq_jax.data.video_file import encode_mp4
    from vq_jax.evaluate import psnr

    chunks = _chunks(tokenizer)
    figures = []
    for given, video in videos:
        waiting: collections.deque[np.ndarray] = collections.deque()
        of_video: list[float] = []

        def pairs(
            video: "VideoFile" = video,
            waiting: "collections.deque[np.ndarray]" = waiting,
            of_video: list[float] = of_video,
            name: str = given.name,
        ) -> "Iterator[np.ndarray]":
            for decoded in _reconstructed(tokenizer, chunks, _kept(_frames(video, tokenizer, name), waiting)):
                originals = [waiting.popleft() for _ in decoded]
                of_video += map(psnr, originals, decoded)
                yield np.concatenate([np.stack(originals), decoded], axis=1)

        target = output / f"{given.name}.mp4"
        write(target, encode_mp4(pairs(), video.rate))
        figures.append(float(np.mean(of_video)))
        print(f"{given.path}: {len(of_video)} frames, PSNR {figures[-1]:.2f} dB, {target}")
    return figures


def encoded_videos(tokenizer: "Tokenizer", videos: GivenVideos) -> Iterator[Encoded]:
    """Yields each video with its codes and its size, frames, height and width; prints the number of codes."""
    import numpy as np

    chunks = _chunks(tokenizer)
    for given, video in videos:
        size: list[int] = [0, 0, 0]
        frames = _counted(_frames(video, tokenizer, given.name), size)
        if chunks is None:
            codes = tokenizer.encode(np.concatenate(list(frames)))
        else:
            codes = np.concatenate(list(chunks.encode(frames)))
        print(f"{given.path}: {size[0]} frames, {codes.size} codes")
        yield given, codes, tuple(size)


def check_video_codes(tokenizer: "Tokenizer", found: CodesFile, path: Path) -> None:
    """Checks that codes are those of videos that a tokenizer decodes.

    Raises:
      UserError: they are not.
    """
    for codes, size in zip(found.codes, found.sizes, strict=True):
        expected = tokenizer.code_specs(tokenizer.model.padded_lengths(size))
        shape = getattr(expected, "shape", None)
        if shape is None or isinstance(codes, tuple) or codes.shape[: len(shape)] != shape:
            raise UserError(
                f"the codes in {path} are not those of a video of {' x '.join(map(str, size))}: expected a "
                f"grid {shape}, got {getattr(codes, 'shape', 'several grids')}"
            )
        for start in range(0, len(codes), _CHUNK):
            tokenizer.check_codes(codes[None, start : start + _CHUNK])


def decode_videos(tokenizer: "Tokenizer", found: CodesFile, targets: Sequence[Path]) -> None:
    """Decodes a file of codes of videos, and writes each as an .mp4 file."""
    from vq_jax.data.video_file import encode_mp4

    chunks = _chunks(tokenizer)
    for codes, size, rate, target in zip(found.codes, found.sizes, found.rates, targets, strict=True):
        if chunks is None:
            parts: Any = [tokenizer.decode(codes[None], size)[0]]
        else:
            parts = chunks.decode([codes], (size[0], size[1], size[2]))
        write(target, encode_mp4(parts, rate))
        print(target)


def _chunks(tokenizer: "Tokenizer") -> "VideoChunks | None":
    """What takes videos chunk by chunk; None where the model takes whole ones only."""
    from vq_jax.pretrained.chunks import VideoChunks

    return VideoChunks(tokenizer, _CHUNK) if tokenizer.model.is_causal else None


def _reconstructed(
    tokenizer: "Tokenizer", chunks: "VideoChunks | None", frames: "Iterator[np.ndarray]"
) -> "Iterator[np.ndarray]":
    import numpy as np

    if chunks is None:
        yield tokenizer.reconstruct(np.concatenate(list(frames)))
    else:
        yield from chunks.reconstruct(frames)


def _frames(video: "VideoFile", tokenizer: "Tokenizer", name: str) -> "Iterator[np.ndarray]":
    """The frames of a video, one by one, uint8 [1, H, W, C]; shows a bar."""
    from tqdm import tqdm

    quiet = not sys.stderr.isatty()
    for frame in tqdm(video.frames(tokenizer.channels), name, len(video), unit="frame", disable=quiet):
        yield frame[None]


def _kept(frames: "Iterator[np.ndarray]", kept: "collections.deque[np.ndarray]") -> "Iterator[np.ndarray]":
    for part in frames:
        kept.extend(part)
        yield part


def _counted(frames: "Iterator[np.ndarray]", size: list[int]) -> "Iterator[np.ndarray]":
    for part in frames:
        size[:] = size[0] + len(part), *part.shape[1:3]
        yield part
