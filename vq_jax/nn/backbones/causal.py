"""Layers of causal networks over time: a frame sees itself and the frames before it.

The layers take clips [B, T, H, W, C]. A clip may also be given in parts, one call each, with the collection
`stream` mutable: it holds the last frames that each convolution still needs, and that the clip has begun. The
first part is a clip of its own; the parts after it continue it. `VQModel` documents the use.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn

from vq_jax import ops
from vq_jax.nn.blocks import GroupNorm, init_like_torch
from vq_jax.ranges import check_frames, padded_frames
from vq_jax.types import Array, Float

STREAM = "stream"


class CausalConv(nn.Module):
    """Convolution over frames, rows and columns that sees no later frame; the first one is its own past.

    Attributes:
      features: output channels.
      width: width of the kernel along rows and columns.
      time_width: width along frames: the frame and those before it.
      stride: stride along rows and columns.
      time_stride: stride along frames; at most time_width.
      edges: what lies beyond the sides of a frame: `repeat`, its outermost pixels, or `zeros`.
      use_bias: whether to add a bias.
      kernel_init: draws the kernel; as in PyTorch by default.
      dtype: compute dtype; parameters are float32.

    References:
      Yu et al. 2023, MAGVIT-v2, arXiv:2310.05737, section 3.2.
    """

    features: int
    width: int = 3
    time_width: int = 3
    stride: int = 1
    time_stride: int = 1
    edges: Literal["repeat", "zeros"] = "repeat"
    use_bias: bool = True
    kernel_init: Callable[..., Array] = init_like_torch
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B T H W C"]) -> Float[Array, "B T2 H2 W2 O"]:
        shape = (self.time_width, self.width, self.width, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        x = self._after_its_past(x.astype(self.dtype))
        sides = ((self.width - 1) // 2, self.width // 2)
        if self.edges == "repeat" and self.width > 1:
            x = ops.pad_edges(x, ((0, 0), sides, sides))
            sides = (0, 0)
        strides = (self.time_stride, self.stride, self.stride)
        y = ops.clip_conv(x, kernel.astype(self.dtype), strides, sides)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            y = y + jnp.broadcast_to(bias.astype(self.dtype), y.shape)
        return y

    def _after_its_past(self, x: Array) -> Array:
        """The frames with those before them that the first output needs."""
        if self.time_width == 1:
            return x
        if self.has_variable(STREAM, "past"):
            x = jnp.concatenate([self.get_variable(STREAM, "past"), x], axis=1)
        else:
            x = ops.repeat_first(x, self.time_width - 1)
        if in_parts(self):
            # The next part's first window begins a stride after this part's last one.
            self.put_variable(STREAM, "past", x[:, x.shape[1] - (self.time_width - self.time_stride) :])
        return x


def frame_norm(x: Float[Array, "B T H W C"], *, dtype: Any, name: str) -> Float[Array, "B T H W C"]:
    """Group normalisation by the statistics of each frame alone; to be called inside a compact module."""
    normal = GroupNorm(dtype=dtype, name=name)(ops.clips_to_frames(x))
    return ops.frames_to_clips(normal, x.shape[1])


def in_parts(module: nn.Module) -> bool:
    """Whether clips are given in parts: what the next part needs is kept."""
    return module.is_mutable_collection(STREAM) and not module.is_initializing()


def has_begun(module: nn.Module) -> bool:
    """Whether this part of a clip continues one, and notes that the next part does.

    To be called once by a network whose first code stands for one frame and the others for several.
    """
    begun = module.has_variable(STREAM, "begun")
    if in_parts(module):
        module.put_variable(STREAM, "begun", jnp.ones((), jnp.bool_))
    return begun


def check_part(frames: int, stride: int, begun: bool) -> None:
    """Checks the number of frames that an encoder is given.

    Raises:
      ValueError: not 1 + a multiple of `stride`, or, for a part that continues a clip, not a multiple.
    """
    if begun and frames % stride:
        raise ValueError(
            f"the frames that continue a clip must be a multiple of {stride}, frames a code, got {frames}"
        )
    if not begun:
        check_frames("the frames of a clip", frames, stride)


def padded_clip(lengths: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the least lengths that a causal model takes, of a clip (T, H, W) or of a picture (H, W)."""
    sides = (-(-side // stride) * stride for side, stride in zip(lengths[-2:], strides[-2:], strict=True))
    frames = (padded_frames(length, strides[0]) for length in lengths[:-2])
    return (*frames, *sides)


def as_clip(x: Float[Array, "B *S C"]) -> Float[Array, "B T H W C"]:
    """A picture as a clip of one frame; a clip as it is.

    Raises:
      ValueError: neither.
    """
    if x.ndim not in (4, 5):
        raise ValueError(
            f"expected clips [B, T, H, W, C] or pictures [B, H, W, C] for a network over time, got {x.shape}"
        )
    return x[:, None] if x.ndim == 4 else x


def like_given(x: Float[Array, "B T H W C"], given: Float[Array, "B *S2 C2"]) -> Float[Array, "B *s C"]:
    """A clip of one frame as a picture where a picture was given."""
    return x[:, 0] if given.ndim == 4 else x


def scan_frames(module: nn.Module, body: Any, clip: Float[Array, "B T ..."], first: Array) -> Array:
    """Calls `body(module, previous, x)` for each frame x: it gives the next `previous` and a result.

    Clips that come in parts are continued: the last `previous` is kept in the collection `stream`.

    Args:
      module: the one whose method calls this; its parts are called in `body`.
      body: see above.
      clip: what to go through.
      first: the `previous` of a clip's first frame.

    Returns:
      The results, along the second axis as in `clip`.
    """
    scan = nn.scan(
        body,
        variable_broadcast=("params", "codebook"),
        split_rngs={"params": False, "quantizer": False},
        in_axes=1,
        out_axes=1,
    )
    previous = module.get_variable(STREAM, "previous") if module.has_variable(STREAM, "previous") else first
    previous, results = scan(module, previous, clip)
    if in_parts(module):
        module.put_variable(STREAM, "previous", previous)
    found: Array = results
    return found


def at_once(
    function: Callable[..., Array], clip: Float[Array, "B T ..."], previous: Float[Array, "B T ..."]
) -> Float[Array, "B T ..."]:
    """Calls `function(frames, previous)` once for all frames of all clips."""
    results = function(ops.clips_to_frames(clip), ops.clips_to_frames(previous))
    return ops.frames_to_clips(results, clip.shape[1])


def in_range(frames: Float[Array, "B *S C"]) -> Float[Array, "B *S C"]:
    """Decoded frames as the next ones start from them: cut to [-1, 1], so that no error grows in a loop."""
    return jnp.clip(frames, -1, 1)
