"""Small videos, made by PyAV, whose frames say their numbers."""

from fractions import Fraction

import av
import numpy as np

HEIGHT, WIDTH = 48, 64


def numbered_frames(count, height=HEIGHT, width=WIDTH):
    """Frames uint8 [count, height, width, 3]: a bright column moves, the level of the rest is the number."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    for number in range(count):
        frames[number] = 40 + 5 * (number % 40)
        frames[number, :, 4 * number % width : 4 * number % width + 4] = 250
    return frames


def number_of(frame):
    """The number of a frame below 40, read out of its pixels."""
    return round((float(np.median(frame)) - 40) / 5)


def write(
    path,
    frames,
    codec="libx264",
    pix_fmt="yuv420p",
    times=None,
    rotation=None,
    container_options=None,
    **options,
):
    """Writes frames; `times` are in 1/100 s, `options` the encoder's."""
    options = {"g": "8", "b": "4M", **{name: str(value) for name, value in options.items()}}
    with av.open(str(path), "w", options=container_options or {}) as file:
        stream = file.add_stream(codec, rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pix_fmt
        if rotation is not None:
            stream.set_display_rotation(rotation)
        if times is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 100)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = number if times is None else times[number]
            for packet in stream.encode(frame):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)
    return path


def write_sound(path):
    """Writes a file with a sound alone."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        for packet in (*stream.encode(frame), *stream.encode()):
            file.mux(packet)
