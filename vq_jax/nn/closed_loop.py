"""ClosedLoopVQModel: an encoder that sees, for each frame, what the decoder made of the frames before it."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vq_jax import ops
from vq_jax.nn.backbones.causal import as_clip, at_once, in_range, like_given, scan_frames
from vq_jax.nn.model import VQModel, check_pictures
from vq_jax.types import Array, Float, Int, Num


class ClosedLoopVQModel(VQModel):
    """A VQModel of clips whose codes say of each frame what the decoder cannot know from those before it.

    The encoder is called as `encoder(frames, previous)` and the decoder has a method
    `step(latents, previous)`: frames [B, H, W, C], latents [B, h, w, D], and the frame that the decoder made
    before, zeros before the first. For a prior that sees frames it also has `view` and `view_widths`, as
    `MotionDecoder` has. To encode, each frame is quantized and decoded before the next one is encoded, so
    that errors do not add up: what the codes of one frame miss, those of the next can mend. The rest is as in
    `VQModel`; `train` and `quantize` change nothing of the loop, which quantizes with the codebook as it is
    and passes no gradient from one frame to the next.

    References:
      Predictive vector quantization: Gersho and Gray 1992, Vector Quantization and Signal Compression,
      chapter 13. With networks: Lu et al. 2019, DVC, arXiv:1812.00101; Li, Li, Lu 2021, Deep Contextual Video
      Compression, arXiv:2109.15047, whose codes are scalars under a learned entropy model.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head != "picture":
            raise ValueError(
                f"{type(self).__name__}.head must be picture, got {self.head!r}: the next frame starts from "
                "the decoder's outputs, which are to be pixels; choose losses.reconstruction l2 or l1"
            )

    def encode_latents(self, images: Num[Array, "B *S C"], *, train: bool = False) -> Float[Array, "B *s D"]:
        """Encodes clips, or pictures, to continuous latents, before the quantizer; edges are repeated.

        Raises:
          ValueError: the pictures are not float, or neither clips nor pictures.
        """
        check_pictures(images)
        clip = as_clip(images)
        sides = clip.shape[2:4]
        pads = [(0, whole - side) for whole, side in zip(self.padded_lengths(sides), sides, strict=True)]
        clip = ops.pad_edges(clip, [(0, 0), *pads]).astype(jnp.float32)

        def body(model: Any, previous: Array, frames: Array) -> tuple[Array, Array]:
            latents = model.encoder(frames, previous)
            vectors = model.quantizer(latents, train=False).quantized
            decoded = jax.lax.stop_gradient(model.decoder.step(vectors, previous))
            return in_range(decoded), previous if train else latents

        found = scan_frames(self, body, clip, jnp.zeros_like(clip[:, 0]))
        if train:  # in the loop there are no gradients: they are faster for all frames at once
            found = at_once(self.encoder, clip, jax.lax.stop_gradient(found))
        return like_given(found, images)

    def encode_next(
        self, frames: Float[Array, "B H W C"], previous: Float[Array, "B H W C"]
    ) -> Int[Array, "B *s"]:
        """Encodes one frame of each clip to codes, int32, given what stands in place of the one before.

        Args:
          frames: in [-1, 1]; sides are multiples of the strides.
          previous: what `decode_next` gave, or any frames that it is to go on from; zeros before the first.
        """
        codes: Array = self.quantizer(self.encoder(frames, previous), train=False).indices
        return codes

    def decode_next(
        self, indices: Int[Array, "B *s"], previous: Float[Array, "B H W C"]
    ) -> Float[Array, "B H W C"]:
        """Decodes the codes of one frame of each clip, float32 in [-1, 1], given the frame before it."""
        vectors = self.quantizer.lookup(indices)
        frames: Array = self.decoder.step(vectors, previous)
        return in_range(frames)

    def view_next(
        self, indices: Int[Array, "B *s"], frames: Float[Array, "B H W C"]
    ) -> Float[Array, "B h w V"]:
        """What a prior sees of frames that `decode_next` made of these codes, see the decoder's `view`."""
        view: Array = self.decoder.view(self.quantizer.lookup(indices), frames)
        return view

    def views(self, indices: Int[Array, "B T *s"]) -> Float[Array, "B T h w V"]:
        """What a prior sees of all frames of clips, given their codes."""
        codes, frames = (x.reshape(-1, *x.shape[2:]) for x in (indices, in_range(self.decode(indices))))
        return ops.frames_to_clips(self.view_next(codes, frames), indices.shape[1])

    @nn.nowrap
    def no_frames(self, batch: int, grid: tuple[int, ...]) -> Float[Array, "B H W C"]:
        """Returns what stands before the first frames of clips whose codes have so many rows and columns."""
        sides = (stride * length for stride, length in zip(self.strides(2), grid, strict=True))
        decoder: Any = self.decoder
        return jnp.zeros((batch, *sides, decoder.out_channels), jnp.float32)
