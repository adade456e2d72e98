"""Trained tokenizers of video on a video that they never saw, beside H.264 at the same number of bits.

The whole video is reconstructed, less frames at its end that a tokenizer's codes do not fill. PSNR is that of
the mean squared error over all frames and colours; flicker is `evaluate.temporal_flicker`. The codes are
counted in full, log2 of the codebook each. H.264 (libx264, preset slow, 4:2:0) has the lowest constant rate
factor at which its packets are no larger than that.

Needs: pip install "vq-jax[video]", and runs trained on colour videos, for instance of a directory with the
       folders train and test
         vq-jax train vqvae-moving-fashion --data.source video:DIRECTORY --model.image-channels 3 \
             --data.image-size 64
       or, for codes of four frames each,
         vq-jax train vqvae-moving-fashion-frames --data.source video:DIRECTORY --model.image-channels 3 \
             --data.image-size 64 --model.frame-stride 4 --model.time-width 3 --model.quantizer.num-stages 3 \
             --model.quantizer.output-gradient whole --model.quantizer.inner.codebook-size 1024 \
             --model.quantizer.inner.code-dim 128
       or, for motion and codes of 16x16 pixels,
         vq-jax train vqgan-moving-fashion --data.source video:DIRECTORY --model.image-channels 3 \
             --data.image-size 64 --losses.adversarial-weight 0 --model.patch-size 16 \
             --model.quantizer.num-stages 3 --model.quantizer.inner.codebook-size 1024 \
             --model.quantizer.inner.code-dim 64 --training.steps 500
Run:   python experiments/benchmarks/real_video.py VIDEO RUN... [--output FILE.json] [--picture FILE.jpg]
"""

import argparse
import io
import json
import math
from pathlib import Path
from typing import Any

import av
import jax
import numpy as np
from judging import machine
from PIL import Image
from video_tokenizers import training

import vq_jax
from vq_jax import ops
from vq_jax.data.video_file import index_video
from vq_jax.evaluate import temporal_flicker
from vq_jax.pretrained.chunks import VideoChunks

SHOWN = 5  # frames in the picture, evenly spaced


def h264(frames: np.ndarray, factor: float) -> tuple[np.ndarray, int]:
    """Frames through H.264 at a constant rate factor, uint8 [T, H, W, 3], and the bits of its packets."""
    file, bits = io.BytesIO(), 0
    with av.open(file, "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=30)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": f"{factor:.2f}", "preset": "slow"}
        for frame in [*frames, None]:
            given = None if frame is None else av.VideoFrame.from_ndarray(frame, format="rgb24")
            for packet in stream.encode(given):
                bits += 8 * packet.size
                container.mux(packet)
    file.seek(0)
    with av.open(file) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(decoded), bits


def h264_within(frames: np.ndarray, bits: float) -> tuple[np.ndarray, int]:
    """Frames through H.264 in at most `bits`, and the bits."""
    low, high = 0.0, 51.0
    while high - low > 0.1:
        middle = (low + high) / 2
        low, high = (low, middle) if h264(frames, middle)[1] <= bits else (middle, high)
    return h264(frames, high)


def figures(frames: np.ndarray, reconstructed: np.ndarray, bits: float) -> dict[str, float]:
    """What is reported of one coder."""
    error = float(np.mean((reconstructed.astype(np.float64) - frames) ** 2))
    pair = (ops.normalize_pictures(clip[None]) for clip in (reconstructed, frames))
    return {
        "psnr": 10 * math.log10(255**2 / error),
        "flicker": float(temporal_flicker(*pair)[0]),
        "bits_per_pixel": bits / math.prod(frames.shape[:3]),
    }


def through(tokenizer: Any, frames: np.ndarray) -> tuple[np.ndarray, float]:
    """Frames through a causal tokenizer, and the bits of their codes."""
    chunks = VideoChunks(tokenizer)
    codes = np.concatenate(list(chunks.encode([frames])))
    specs = jax.tree.leaves(tokenizer.code_specs(frames.shape[:3]))
    bits = sum(math.prod(spec.array_shape) * math.log2(spec.codebook_size) for spec in specs)
    return np.concatenate(list(chunks.decode([codes]))), bits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, help="JSON to write")
    parser.add_argument("--picture", type=Path, help="JPEG to write: the video, then each run's and H.264")
    arguments = parser.parse_args()
    frames = np.stack(list(index_video(arguments.video).frames(3)))
    tokenizers = {run.name: vq_jax.load_tokenizer(run) for run in arguments.runs}
    stride = max(tokenizer.strides[0] for tokenizer in tokenizers.values())
    frames = frames[: 1 + (len(frames) - 1) // stride * stride]
    results: dict[str, Any] = {}
    rows = [frames]
    for run in arguments.runs:
        reconstructed, bits = through(tokenizers[run.name], frames)
        results[run.name] = figures(frames, reconstructed, bits) | training(run)
        beside, used = h264_within(frames, bits)
        results[f"h264 beside {run.name}"] = figures(frames, beside, used)
        rows += [reconstructed, beside]
    for name, values in results.items():
        print(name, ", ".join(f"{key} {value:.4g}" for key, value in values.items()))
    if arguments.output:
        report = {"machine": machine(), "video": arguments.video.name, "frames": len(frames)}
        arguments.output.write_text(json.dumps({**report, "coders": results}, indent=2) + "\n")
    if arguments.picture:
        chosen = np.linspace(0, len(frames) - 1, SHOWN).astype(int)
        sheet = np.concatenate([np.concatenate(list(row[chosen]), axis=1) for row in rows])
        Image.fromarray(sheet).save(arguments.picture, quality=88)


if __name__ == "__main__":
    main()
