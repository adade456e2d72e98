"""Some frames of clips, so that a loss takes less memory."""

import jax

from vq_jax import ops
from vq_jax.types import Array, Float, Key

_FRAMES = 3  # its draw from the key of a step, the same as a discriminator's


def frames_key(rng: Key[Array, ""]) -> Key[Array, ""]:
    """The key from which frames are drawn, of the key of a step."""
    return jax.random.fold_in(rng, _FRAMES)


def same_frames(
    clips: tuple[Float[Array, "B T *S C"], ...], count: int, rng: Key[Array, ""] | None
) -> tuple[Float[Array, "B K *S C"], ...]:
    """Draws the same frames of several batches of clips; pictures are left as they are.

    Args:
      clips: of one shape each, [B, T, H, W, C], or pictures.
      count: how many frames to draw; 0, or T and more, for all.
      rng: key of the step.

    Raises:
      ValueError: frames are to be drawn, and there is no key.
    """
    total = clips[0].shape[1]
    if clips[0].ndim != 5 or not 0 < count < total:
        return clips
    if rng is None:
        raise ValueError(
            f"losses.perceptual_frames = {count} of {total} frames are drawn from a key: give rng, the step's"
        )
    chosen = ops.draw_frames(frames_key(rng), total, count, in_a_row=False)
    return tuple(ops.take_frames(batch, chosen) for batch in clips)
