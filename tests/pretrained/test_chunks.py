"""Videos of any length, a chunk at a time."""

import itertools

import numpy as np
import pytest
from jitted import drawn

from vq_jax import VideoChunks
from vq_jax.configs import (
    DataConfig,
    ExperimentConfig,
    MotionVQVAE,
    PatchVQVAE,
    VectorQuantizerEMAConfig,
    VideoVQVAE,
)
from vq_jax.errors import UserError
from vq_jax.pretrained.build import build_model, image_shape
from vq_jax.pretrained.tokenizer import Tokenizer

SIZES = {"channels": 8, "residual_channels": 4, "num_res_blocks": 1}


def made(model=VideoVQVAE, **data):
    network = model(
        **SIZES, image_channels=1, quantizer=VectorQuantizerEMAConfig(codebook_size=16, code_dim=4)
    )
    data = DataConfig(**{"source": "moving-fashion", "frames": 9, "image_size": 16, **data})
    config = ExperimentConfig("clips", network, data)
    given = np.zeros((1, *image_shape(config)), np.float32)
    return Tokenizer(build_model(config), drawn(build_model(config), given, std=0.3), config, 0)


def video(frames):
    return np.random.default_rng(0).integers(0, 256, (frames, 10, 16, 1)).astype(np.uint8)


def parts(frames, sizes):
    ends = list(itertools.accumulate(sizes))
    return iter(np.split(frames, ends))


@pytest.fixture(scope="module")
def tokenizer():
    return made()


@pytest.mark.parametrize("frames, sizes", [(25, (25,)), (27, (3, 1, 20)), (1, ())])
def test_a_video_in_chunks_is_encoded_and_decoded_as_the_whole(tokenizer, frames, sizes):
    chunks, given = VideoChunks(tokenizer, frames=7), video(frames)
    assert chunks.frames == 8
    whole = tokenizer.encode(given)
    codes = list(chunks.encode(parts(given, sizes)))
    assert [len(part) for part in codes[:2]] == [1, 2][: len(codes)]
    np.testing.assert_array_equal(np.concatenate(codes), whole)
    decoded = list(chunks.decode(iter(codes), size=given.shape[:-1]))
    wanted = tokenizer.decode(whole[None], size=given.shape[:-1])[0]
    found = np.concatenate(decoded)
    assert found.shape == given.shape and [len(part) for part in decoded[:2]] == [1, 8][: len(decoded)]
    assert np.abs(found.astype(int) - wanted).max() <= 1  # levels: where rounding falls the other way
    again = np.concatenate(list(chunks.reconstruct(parts(given, sizes))))
    np.testing.assert_array_equal(again, found)


@pytest.mark.ci
def test_a_video_whose_frames_are_moved_from_the_last_is_too():
    tokenizer, given = made(MotionVQVAE), video(25)
    chunks = VideoChunks(tokenizer, frames=7)
    assert chunks.frames == 7
    codes = list(chunks.encode(parts(given, (3, 1, 20))))
    np.testing.assert_array_equal(np.concatenate(codes), tokenizer.encode(given))
    decoded = np.concatenate(list(chunks.decode(iter(codes), size=given.shape[:-1])))
    assert np.abs(decoded.astype(int) - tokenizer.reconstruct(given)).max() <= 1  # levels, of rounding


def test_codes_come_while_the_video_is_read(tokenizer):
    read = []

    def frames():
        for number in range(40):
            read.append(number)
            yield video(1)

    codes = VideoChunks(tokenizer, frames=8).encode(frames())
    assert next(codes).shape == (1, 3, 4) and len(read) == 1
    assert next(codes).shape == (2, 3, 4) and len(read) == 9


def test_what_cannot_be_given_in_chunks_is_refused(tokenizer):
    for other in (made(PatchVQVAE, frames=8), made(frames=None)):
        with pytest.raises(UserError, match="expected a tokenizer of video with one grid of codes"):
            VideoChunks(other)
    with pytest.raises(UserError, match="at least 1 frame a chunk, got 0"):
        VideoChunks(tokenizer, frames=0)
    chunks = VideoChunks(tokenizer)
    with pytest.raises(UserError, match=r"frames uint8 \[T, H, W, 1\], got uint8 \[2, 8, 8, 3\]"):
        next(chunks.encode([np.zeros((2, 8, 8, 3), np.uint8)]))
    with pytest.raises(UserError, match="all frames of the size of the first"):
        list(chunks.encode([video(1), video(1)[:, :8]]))
    with pytest.raises(UserError, match="codes from 0 to 15"):
        next(chunks.decode([np.full((1, 2, 2), 16)]))
