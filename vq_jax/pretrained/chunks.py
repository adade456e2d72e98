"""A causal tokenizer on videos of any length: a chunk of frames at a time, equal to the whole."""

from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np

from vq_jax import ops
from vq_jax.errors import UserError
from vq_jax.pretrained.tokenizer import Tokenizer
from vq_jax.types import Array, CodeSpec, Int, Params, UInt8


class VideoChunks:
    """Encodes and decodes a video that need not fit into memory.

    The first frame is a chunk of its own, the others have `frames` each, so that two programs are compiled
    for a video of any length. Between chunks the model carries the frames that its convolutions still need
    (the collection `stream`): codes and frames are those of the whole video at once, up to rounding. What a
    command does:

        video = VideoChunks(load(run), frames=32)
        for codes in video.encode(frames_of_a_file):   # arrays [n, H, W, C] of any n, read as they are needed
            ...                                         # [1, h, w], then [8, h, w], ...
        for frames in video.decode(parts_of_codes, size=(121, 480, 640)):
            ...                                         # [1, 480, 640, C], then [32, 480, 640, C], ...

    An instance may be used for several videos, and holds nothing of them.

    Attributes:
      tokenizer: whose model it applies.
      frames: of a chunk.
    """

    def __init__(self, tokenizer: Tokenizer, frames: int = 16) -> None:
        """Makes it.

        Args:
          tokenizer: of a model that is causal in time, with one grid of codes.
          frames: of a chunk, rounded up to a multiple of the frames a code.

        Raises:
          UserError: another model, or fewer than one frame.
        """
        model = tokenizer.model
        specs = tokenizer.code_specs(tokenizer.config.data.lengths) if model.is_causal else None
        if not isinstance(specs, CodeSpec) or len(specs.shape) != 3:
            raise UserError(
                f"expected a tokenizer of video with one grid of codes, as of vqvae-video, got "
                f"{tokenizer.config.name} of {tokenizer.config.model.architecture}: give it whole clips"
            )
        if frames < 1:
            raise UserError(f"expected at least 1 frame a chunk, got {frames}")
        self.tokenizer = tokenizer
        self._stride = model.strides(3)[0]
        self._codes = -(-frames // self._stride)  # of a chunk
        self.frames = self._codes * self._stride
        self._encode, self._decode = jax.jit(self._encoded), jax.jit(self._decoded)

    def encode(self, frames: Iterable[UInt8[np.ndarray, "_ H W C"]]) -> Iterator[Int[np.ndarray, "_ *s"]]:
        """Encodes a video.

        Args:
          frames: the video in parts of any number of frames, in their order. Sides need not be multiples of
            the strides, nor the number of all frames 1 + a multiple: the last pixels and the last frame are
            repeated.

        Yields:
          Codes, int32 [n, h, w] or [n, h, w, Q]: of the first frame, then of a chunk each.

        Raises:
          UserError: frames of another dtype, rank, number of channels or size than the first.
        """
        stream: Any = {}
        for chunk in _regrouped(self._checked(frames), self.frames):
            given = self._padded(chunk, 1 if not stream else self.frames)
            codes, stream = self._encode(self.tokenizer.variables, stream, given[None])
            yield np.asarray(codes[0])[: -(-len(chunk) // self._stride)]

    def decode(
        self, codes: Iterable[Int[np.ndarray, "_ *s"]], size: tuple[int, int, int] | None = None
    ) -> Iterator[UInt8[np.ndarray, "_ H W C"]]:
        """Decodes the codes of a video.

        Args:
          codes: in parts of any number of grids along time, in their order.
          size: frames, height and width to cut the video to; what the codes give when absent.

        Yields:
          Frames, uint8 [n, H, W, C]: the first, then a chunk each.

        Raises:
          UserError: codes that are not this tokenizer's.
        """
        stream: Any = {}
        left, height, width = size or (None, None, None)
        for chunk in _regrouped(map(self._known, codes), self._codes):
            first = not stream
            given = _lengthened(chunk, 1 if first else self._codes)
            frames, stream = self._decode(self.tokenizer.variables, stream, given[None])
            count = 1 if first else len(chunk) * self._stride
            count = count if left is None else min(count, left)
            yield np.asarray(frames[0])[:count, :height, :width]
            left = left if left is None else left - count
            if left == 0:
                return

    def reconstruct(
        self, frames: Iterable[UInt8[np.ndarray, "_ H W C"]]
    ) -> Iterator[UInt8[np.ndarray, "_ H W C"]]:
        """Sends a video through the codes and back: as many frames of the same size, a chunk at a time."""
        given: list[int] = []
        sizes: list[tuple[int, ...]] = []

        def noted() -> Iterator[np.ndarray]:
            for part in frames:
                given.append(len(part))
                sizes.append(part.shape[1:3])
                yield part

        made = 0
        for decoded in self.decode(self.encode(noted())):
            height, width = sizes[0]
            # All frames up to the end of this chunk were read before it was decoded.
            kept = decoded[: sum(given) - made, :height, :width]
            made += len(kept)
            yield kept

    def _encoded(self, variables: Params, stream: Params, frames: Array) -> Any:
        images = ops.normalize_pictures(frames)
        variables = {**variables, **stream}
        return self.tokenizer.model.apply(variables, images, method="encode", mutable=["stream"])

    def _decoded(self, variables: Params, stream: Params, codes: Array) -> Any:
        variables = {**variables, **stream}
        run: Any = self.tokenizer.model.apply(variables, codes, method="decode", mutable=["stream"])
        frames, stream = run
        return ops.to_uint8(frames), stream

    def _checked(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        first = None
        for part in frames:
            channels = self.tokenizer.channels
            if part.dtype != np.uint8 or part.ndim != 4 or part.shape[-1] != channels:
                raise UserError(
                    f"expected frames uint8 [T, H, W, {channels}], got {part.dtype} {list(part.shape)}"
                )
            first = first or part.shape[1:]
            if part.shape[1:] != first:
                raise UserError(
                    f"expected all frames of the size of the first, {first}, got {part.shape[1:]}"
                )
            yield part

    def _padded(self, chunk: np.ndarray, frames: int) -> np.ndarray:
        """The chunk with its last frame repeated, and rows and columns as the model takes them."""
        lengths = chunk.shape[1:3]
        sides = self.tokenizer.model.padded_lengths(lengths)
        pad = [(0, whole - length) for whole, length in zip(sides, lengths, strict=True)]
        return np.pad(_lengthened(chunk, frames), [(0, 0), *pad, (0, 0)], mode="edge")

    def _known(self, codes: np.ndarray) -> np.ndarray:
        return np.asarray(self.tokenizer.check_codes(codes[None])[0])


def _lengthened(chunk: np.ndarray, length: int) -> np.ndarray:
    return np.concatenate([chunk, np.repeat(chunk[-1:], length - len(chunk), axis=0)])


def _regrouped(parts: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The rows of all parts: the first alone, then `size` at a time, at last what is left."""
    waiting: list[np.ndarray] = []
    wanted = 1
    for part in parts:
        while len(part):
            missing = wanted - sum(map(len, waiting))
            waiting.append(part[:missing])
            part = part[missing:]
            if sum(map(len, waiting)) == wanted:
                yield np.concatenate(waiting)
                waiting, wanted = [], size
    if waiting:
        yield np.concatenate(waiting)
