"""Small tokenizers whose frames start from the one decoded before, which several test files share."""

import functools

import jax
import numpy as np
from jitted import drawn

from vq_jax import nn

PATCH, CODE_DIM = 4, 4


@functools.cache
def closed_loop(codebook_size=11, depth=1, grid=(2, 3)):
    """A tokenizer of clips [T, 4 h, 4 w, 1] with random variables: the model and these.

    With one code a position, it stands for motion and the rest together; with two, for one each.
    """
    shared = {"patch_size": PATCH, "channels": 8, "residual_channels": 4, "num_res_blocks": 1}
    shared["latent_channels"] = CODE_DIM - 2
    quantizer = nn.VectorQuantizerEMA(codebook_size, CODE_DIM)
    if depth == 2:
        quantizer = nn.MotionQuantizer(nn.VectorQuantizerEMA(codebook_size, CODE_DIM - 2), radius=1)
    model = nn.ClosedLoopVQModel(
        nn.MotionEncoder(radius=1, **shared), quantizer, nn.MotionDecoder(out_channels=1, **shared)
    )
    clip = np.zeros((1, 2, *(PATCH * length for length in grid), 1), np.float32)
    return model, drawn(model, clip, std=0.3)


def moving(count, frames, grid=(2, 3), dtype=np.float32):
    """Clips of noise that moves by one pixel a frame, in [-1, 1] or uint8."""
    first = np.random.default_rng(frames).uniform(-1, 1, (count, *(PATCH * length for length in grid), 1))
    clips = np.stack([np.roll(first, frame, axis=(1, 2)) for frame in range(frames)], axis=1)
    return clips.astype(np.float32) if dtype == np.float32 else (127.5 * (clips + 1)).astype(np.uint8)


def encoded(model, variables, clips):
    """Codes of clips, and views of the frames as the decoder makes them."""
    codes = jax.jit(functools.partial(model.apply, method="encode"))(variables, clips)
    return codes, jax.jit(functools.partial(model.apply, method="views"))(variables, codes)


def view_fields(model):
    """Fields of a prior that sees this tokenizer's frames."""
    frame, view = model.decoder.view_widths
    return {"frame_features": frame, "view_features": view}
