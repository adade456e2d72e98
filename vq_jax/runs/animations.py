"""Videos to look at: MP4 and GIF files, and strips of frames."""

import io
import os

import numpy as np
from PIL import Image

from vq_jax.errors import UserError
from vq_jax.host.files import write_atomic
from vq_jax.runs.grids import encode_png, strip

FORMATS = (".mp4", ".gif", ".png")
"""Suffixes of the files that `write_video` writes; .png is a strip of the frames."""


def check_video_path(path: str | os.PathLike[str]) -> None:
    """Checks that a video can be written to a path, by its suffix.

    Raises:
      UserError: it cannot.
    """
    if os.path.splitext(os.fspath(path))[1].lower() not in FORMATS:
        raise UserError(f"expected a file {', '.join(FORMATS[:-1])} or {FORMATS[-1]} (a strip), got {path}")


def write_video(path: str | os.PathLike[str], frames: np.ndarray, fps: float = 8.0) -> None:
    """Writes a video, whole or not at all.

    Args:
      path: its suffix says how: .mp4, .gif, or .png, a strip of all frames side by side.
      frames: uint8 [T, H, W, C], C 1 or 3.
      fps: frames a second; of no effect on a strip.

    Raises:
      UserError: another suffix, or .mp4 where PyAV is not installed.
    """
    check_video_path(path)
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    if suffix == ".mp4":
        from vq_jax.data.video_file import encode_mp4

        write_atomic(path, encode_mp4([frames], fps))
    else:
        write_atomic(path, encode_gif(frames, fps) if suffix == ".gif" else encode_png(strip(frames)))


def encode_gif(frames: np.ndarray, fps: float) -> bytes:
    """Encodes frames, uint8 [T, H, W, C], as a GIF file that repeats for ever; colours are reduced to 256."""
    pictures = [Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame) for frame in frames]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer, "GIF", save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0
    )
    return buffer.getvalue()
