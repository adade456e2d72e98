"""Video files: reads frames by their numbers, without decoding all of a file, and writes; the door to PyAV.

A file is indexed once: the times of its frames, in the order of presentation, and of its keyframes, from the
headers of its packets. To read frames, the decoder starts at the keyframe before them. Frames are numbered as
they are presented, however long each is shown: a variable frame rate has no effect.

Frames become 8-bit RGB by FFmpeg's conversion, with the matrix that the file says; without one that of BT.709
from 720 lines on, else of BT.601, as players do. Interlaced frames stay as they are, both fields together.
"""

import contextlib
import dataclasses
import io
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int, UInt8

from vq_jax.data.identity import digest_of
from vq_jax.errors import UserError
from vq_jax.host.files import require_regular

if TYPE_CHECKING:
    import av

Change = Callable[[UInt8[np.ndarray, "H W C"]], UInt8[np.ndarray, "h w C"]]
"""What is made of each frame as soon as it is decoded, such as a crop."""

EXTENSIONS = frozenset(
    ".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .mts .m2ts .vob .wmv .flv .ogv .3gp .mxf .y4m .gif".split()
)
_CHECKED = 4  # frames whose times are compared with those of the packets
_RATE = 25.0  # frames a second of a file that says none
_HD = 720  # lines
_UNSPECIFIED = 2  # the colour matrix of a file that says none


def require_av() -> None:
    """Checks that PyAV is there.

    Raises:
      UserError: it is not; the message says how to install it.
    """
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise UserError(
            'video files need PyAV, which is not installed: pip install "vq-jax[video]"'
        ) from error


@dataclasses.dataclass(frozen=True, eq=False)
class VideoFile:
    """A video file and its index.

    Attributes:
      path: the file.
      times: presentation times of its frames, ascending, in units of its stream.
      keys: those of its keyframes.
      promised: number of frames that its header says; 0 where it says none.
      pixels: of all frames together.
      rate: frames a second, on average.
      digest: of its content.
    """

    path: Path
    times: Int[np.ndarray, " N"]
    keys: Int[np.ndarray, " K"]
    promised: int
    pixels: int
    rate: float
    digest: str

    def __len__(self) -> int:
        return len(self.times)

    def read(self, numbers: Sequence[int], channels: int, change: Change | None = None) -> list[np.ndarray]:
        """Reads frames.

        Args:
          numbers: of the frames, ascending.
          channels: 1 or 3.
          change: what is made of each frame; it stays as it is when absent.

        Returns:
          The frames, uint8 [H, W, C].

        Raises:
          ValueError: one cannot be decoded.
          OSError, ValueError: the file cannot be read.
        """
        wanted = self.times[list(numbers)].tolist()
        place = int(np.searchsorted(self.keys, wanted[0], side="right")) - 1
        # Where a file cannot be searched, the frames are found from its start.
        for key in (self.keys[place], None) if place > 0 else (None,):
            found = self._decode(wanted, None if key is None else int(key), channels, change)
            if found is not None:
                return found
        raise ValueError(f"its frames {numbers[0]} to {numbers[-1]} cannot be decoded")

    def frames(self, channels: int) -> Iterator[np.ndarray]:
        """Yields all frames, uint8 [H, W, C], each decoded once."""
        known = set(self.times.tolist())
        with opened(self.path) as (container, stream):
            yield from (_pixels(f, channels) for f in _frames(container, stream) if f.pts in known)

    def _decode(
        self, wanted: list[int], key: int | None, channels: int, change: Change | None
    ) -> list[np.ndarray] | None:
        """Frames by their times, from a keyframe or the start on; None where they are not there."""
        found: list[np.ndarray] = []
        with opened(self.path) as (container, stream):
            if key is not None:
                container.seek(key, stream=stream)
            for frame in _frames(container, stream):
                if frame.pts is None or frame.pts < wanted[len(found)]:
                    continue
                if frame.pts > wanted[len(found)]:
                    return None
                if frame.is_corrupt:
                    raise ValueError(f"it is damaged at {frame.time:.2f} s")
                pixels = _pixels(frame, channels)
                found.append(pixels if change is None else change(pixels))
                if len(found) == len(wanted):
                    return found
        return None


def index_video(path: Path) -> VideoFile:
    """Makes the index of a video file.

    Raises:
      ValueError: it cannot be read as a video; the message says why, in a few words.
      OSError: it cannot be read at all.
    """
    with path.open("rb") as file:
        digest = digest_of(file)
    with opened(path) as (container, stream):
        promised, size, rate = (
            stream.frames,
            stream.width * stream.height,
            float(stream.average_rate or _RATE),
        )
        packets = []
        with contextlib.suppress(_errors()):  # at the end of what is there of a truncated file
            for packet in container.demux(stream):
                if packet.size and not packet.is_discard and not packet.is_corrupt:
                    packets.append((packet.pts, packet.is_keyframe))
    times = sorted({pts for pts, _ in packets if pts is not None})
    first = list(_decoded_times(path, _CHECKED))
    if len(times) < len(packets) or first != times[: len(first)] or not first:
        # Packets that are no frames, such as fields, or that the decoder leaves out, or that have no times.
        times = list(_decoded_times(path, None))
    if not times:
        raise ValueError("it has no frame that can be decoded")
    if any(b <= a for a, b in itertools.pairwise(times)):
        raise ValueError("its frames have no times in their order: rewrite it with ffmpeg -i FILE NEW.mp4")
    keys = sorted(pts for pts, is_key in packets if is_key and pts is not None)
    index = np.array(times, np.int64), np.array(keys, np.int64)
    return VideoFile(path, *index, promised, size * len(times), rate, digest)


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> "Iterator[tuple[av.container.InputContainer, Any]]":
    """Opens a video file: yields its container and its video stream.

    Raises:
      ValueError: it is no video; the message says why.
      UserError: it is no file, or PyAV is not installed.
    """
    require_av()
    import av

    require_regular(path)
    try:
        with av.open(os.fspath(path), metadata_errors="ignore") as container:
            pictures = av.stream.Disposition.attached_pic  # the cover of a piece of music
            streams = [s for s in container.streams.video if not s.disposition & pictures]
            if not streams:
                raise ValueError("it has no video stream")
            if container.format.name == "image2" or container.format.name.endswith("_pipe"):
                raise ValueError(
                    "it is a picture: use folder:PATH for pictures, frames:PATH for frames of videos"
                )
            yield container, streams[0]
    except av.error.FFmpegError as error:
        raise ValueError(_brief(error)) from error


def _errors() -> type[Exception]:
    import av

    return av.error.FFmpegError


def _brief(error: Any) -> str:
    reason = error.strerror or type(error).__name__
    if "Invalid data" in reason:
        return "it is no video, or damaged or truncated"
    return f"{reason[0].lower()}{reason[1:]}"


def _frames(container: Any, stream: Any) -> "Iterator[av.VideoFrame]":
    """Decodes what is whole; the last packet of a truncated file is not."""
    for packet in container.demux(stream):
        if not packet.is_corrupt:
            yield from packet.decode()


def _decoded_times(path: Path, most: int | None) -> Iterator[int]:
    """Times of the first frames, or of all, as the decoder gives them; -1 for none."""
    with opened(path) as (container, stream), contextlib.suppress(_errors()):
        for frame in itertools.islice(_frames(container, stream), most):
            yield -1 if frame.pts is None else frame.pts


def _pixels(frame: "av.VideoFrame", channels: int) -> UInt8[np.ndarray, "H W C"]:
    from av.video.reformatter import Colorspace
    from PIL import Image

    space = None
    if frame.colorspace == _UNSPECIFIED and frame.height >= _HD:
        space = Colorspace.ITU709
    pixels = frame.reformat(format="rgb24", src_colorspace=space).to_ndarray()
    if channels == 1:
        pixels = np.asarray(Image.fromarray(pixels).convert("L"))[..., None]
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def encode_mp4(parts: Iterable[np.ndarray], fps: float) -> bytes:
    """Encodes frames as an MP4 file: H.264 where this PyAV has it, else MPEG-4, in good quality.

    Args:
      parts: uint8 [n, H, W, C] of any n, in their order, C 1 or 3; odd heights and widths get another row or
        column like the last one.
      fps: frames a second.

    Raises:
      UserError: PyAV is not installed.
    """
    require_av()
    import av
    from av.video.reformatter import Colorspace

    codec, options = ("libx264", {"crf": "17"}) if "libx264" in av.codecs_available else ("mpeg4", {"q": "2"})
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream: Any = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=options)
        stream.pix_fmt, stream.codec_context.colorspace = "yuv420p", int(Colorspace.ITU709)
        for pixels in itertools.chain.from_iterable(parts):
            height, width, channels = pixels.shape
            pixels = np.pad(pixels, [(0, height % 2), (0, width % 2), (0, 0)], mode="edge")
            if channels == 1:
                pixels = np.repeat(pixels, 3, axis=-1)
            if not stream.codec_context.is_open:
                stream.height, stream.width = pixels.shape[:2]
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)))
        container.mux(stream.encode())
    return buffer.getvalue()
