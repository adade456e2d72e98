"""Figures of clips: flicker, frames of their own, and where known pictures are."""

import types

import numpy as np
import pytest

from vq_jax import evaluate, ops
from vq_jax.configs import DataConfig
from vq_jax.data import open_source


def clips(seed, count=3, frames=4):
    return np.random.default_rng(seed).integers(0, 256, (count, frames, 8, 8, 1), np.uint8)


def test_flicker_is_the_difference_of_frame_differences_in_grey_levels():
    a, b = clips(0), clips(1)
    expected = np.abs(np.diff(a.astype(float), axis=1) - np.diff(b.astype(float), axis=1)).mean((1, 2, 3, 4))
    ours, theirs = ops.normalize_pictures(a), ops.normalize_pictures(b)
    np.testing.assert_allclose(evaluate.temporal_flicker(ours, theirs), expected, rtol=1e-5)
    np.testing.assert_allclose(evaluate.temporal_flicker(ours + 0.25, ours), 0.0, atol=1e-4)
    evaluator = evaluate.Flicker()
    batch = {"target": ours, "valid": np.array([True, False, True])}
    state = evaluator.update(evaluator.init(), batch, types.SimpleNamespace(reconstruction=theirs))
    assert evaluator.compute(state) == {"flicker": pytest.approx(expected[[0, 2]].mean(), rel=1e-5)}


def test_pictures_have_no_flicker():
    picture = ops.normalize_pictures(clips(0)[:, 0])
    for shown in (picture, picture[:, None]):
        with pytest.raises(ValueError, match="clips .* of 2 frames or more, got .*: the flicker of pictures"):
            evaluate.temporal_flicker(shown, shown)


def test_the_psnr_of_clips_is_the_mean_over_frames():
    a, b = clips(2), clips(3)
    b[:, 0] = a[:, 0] ^ 1  # one frame much better than the others
    expected = [
        np.mean([evaluate.psnr(one, other) for one, other in zip(*clip, strict=True)])
        for clip in zip(a, b, strict=True)
    ]
    ours, theirs = ops.normalize_pictures(a), ops.normalize_pictures(b)
    np.testing.assert_allclose(evaluate.picture_psnr(ours, theirs), expected, rtol=1e-5)
    output = types.SimpleNamespace(reconstruction=ours, outputs=ours)
    evaluator = evaluate.Reconstruction("l2")
    state = evaluator.update(evaluator.init(), {"target": theirs, "valid": np.ones(3, bool)}, output)
    assert evaluator.compute(state)["psnr"] == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.fixture(scope="module")
def moving():
    """Two clips of 5 frames, of which 2 count as given: pictures, sprites and corners."""
    source = open_source("moving-fashion", "test", DataConfig(frames=5), 1)
    numbers = (0, 3)
    frames, sprites, corners = (
        np.stack([part(number) for number in numbers])
        for part in (lambda n: source[n]["image"], source.sprites, lambda n: source.movement(n).corners)
    )
    return frames, sprites, corners


def test_pictures_are_found_where_they_are(moving):
    frames, sprites, corners = moving
    for clip, pair, places in zip(frames, sprites, corners, strict=True):
        assert np.abs(evaluate.find_positions(clip, pair) - places).max() <= 1
    figures = evaluate.position_accuracy(frames[:, 2:], sprites, corners)
    assert figures["positions"] == figures["positions/frame_3"] == 1.0 and figures["positions/error"] == 0.0
    assert 0.0 <= figures["repeated_positions"] < 0.5 and "positions/frame_4" not in figures
    assert figures["repeated_positions/error"] > 2.0


def test_a_picture_that_is_elsewhere_in_one_frame_makes_its_clip_wrong(moving):
    frames, sprites, corners = (part.copy() for part in moving)
    predicted = frames[:, 2:]
    predicted[0, 1] = np.roll(predicted[0, 1], 3, axis=0)
    figures = evaluate.position_accuracy(predicted, sprites, corners)
    assert figures["positions"] == 0.5
    assert [figures[f"positions/frame_{n}"] for n in (1, 2, 3)] == [1.0, 0.5, 1.0]
    assert evaluate.position_accuracy(predicted, sprites, corners, first=1)["positions"] == 1.0
    assert evaluate.position_accuracy(predicted, sprites, corners, tolerance=60.0)["positions"] == 1.0


def test_two_pictures_that_are_the_same_may_be_exchanged():
    sprite = np.random.default_rng(0).integers(50, 256, (9, 9, 1), np.uint8)
    sprites = np.stack([sprite, sprite])[None]
    frame = np.zeros((1, 1, 24, 24, 1), np.uint8)
    frame[0, 0, 2:11, 3:12] = frame[0, 0, 13:22, 12:21] = sprite
    for order in ([[2, 3], [13, 12]], [[13, 12], [2, 3]]):
        corners = np.array([[[[0, 0], [0, 0]], order]])
        assert evaluate.position_accuracy(frame, sprites, corners)["positions"] == 1.0


def test_corners_must_hold_the_last_given_frame(moving):
    frames, sprites, corners = moving
    with pytest.raises(ValueError, match="corners of more than the 5 predicted frames"):
        evaluate.position_accuracy(frames, sprites, corners)
