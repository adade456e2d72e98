"""Which part of a picture is seen, and at what size."""

import numpy as np
import pytest
from PIL import Image

from vq_jax.data.crops import Window, cut, held_out_windows, training_window


def gradient(height, width, channels=3):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows + 2 * columns + 9 * c for c in range(channels)], -1).astype(np.uint8)


@pytest.mark.parametrize("resize", ["none", "short-side", "random"])
@pytest.mark.parametrize(("height", "width"), [(50, 80), (80, 50), (10, 12), (32, 32), (5, 400)])
@pytest.mark.parametrize("size", [(32, 32), (24, 40), (60, 5)])
def test_a_window_lies_within_the_picture(resize, height, width, size):
    rng = np.random.default_rng(0)
    for draws in [*rng.random((200, 3)), np.zeros(3), np.full(3, np.nextafter(1, 0))]:
        for crop in ("random", "center"):
            top, left, down, across, _ = training_window(height, width, size, resize, crop, draws)
            assert 0 <= top <= height - down and 0 <= left <= width - across and min(down, across) >= 1
            assert abs(down * size[1] - across * size[0]) <= max(size) or min(down, across) == 1


def test_random_windows_reach_every_place_equally_often():
    rng = np.random.default_rng(0)
    windows = [training_window(12, 13, (10, 10), "none", "random", d) for d in rng.random((6000, 3))]
    counts = {place: 0 for place in np.ndindex(3, 4)}
    for window in windows:
        counts[window.top, window.left] += 1
    assert min(counts.values()) > 400 and max(counts.values()) < 600


def test_the_policies_see_what_they_say():
    draws = np.array([0.0, 0.5, 0.5])
    assert training_window(100, 60, (32, 32), "none", "center", draws) == Window(34, 14, 32, 32)
    assert training_window(100, 60, (32, 32), "short-side", "center", draws) == Window(20, 0, 60, 60)
    assert training_window(100, 60, (32, 32), "random", "center", draws) == Window(20, 0, 60, 60)
    last = np.array([np.nextafter(1, 0), 0.5, 0.5])
    assert training_window(100, 60, (32, 32), "random", "center", last) == Window(35, 15, 30, 30)


def test_windows_that_are_not_square_have_the_proportions_of_the_training_picture():
    draws, size = np.array([0.0, 0.5, 0.5]), (20, 40)
    assert training_window(100, 60, size, "none", "center", draws) == Window(40, 10, 20, 40)
    assert training_window(100, 60, size, "short-side", "center", draws) == Window(35, 0, 30, 60)
    assert training_window(10, 60, size, "none", "center", draws) == Window(0, 20, 10, 20)  # enlarged
    last = np.array([np.nextafter(1, 0), 0.5, 0.5])
    assert training_window(100, 60, size, "random", "center", last) == Window(42, 15, 15, 30)
    assert held_out_windows(50, 90, size, "none", 9) == [
        Window(top, left, *size) for top in (5, 25) for left in (5, 45)
    ]
    assert held_out_windows(50, 90, size, "short-side", 9) == [Window(2, 0, 45, 90)]
    picture = gradient(50, 90)
    assert np.array_equal(cut(picture, Window(5, 45, 20, 40, True), size), picture[5:25, 84:44:-1])
    small = Image.fromarray(picture[:30, :60]).resize((40, 20), Image.Resampling.BICUBIC)
    assert np.array_equal(cut(picture, Window(0, 0, 30, 60), size), np.asarray(small))


def test_a_window_of_the_right_size_is_cut_out_unchanged():
    picture = gradient(40, 50)
    assert np.array_equal(cut(picture, Window(3, 7, 32, 32), (32, 32)), picture[3:35, 7:39])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("side", [12, 90])
def test_another_window_is_resized_bicubic_and_antialiased(channels, side):
    picture = np.random.default_rng(0).integers(0, 256, (90, 95, channels), dtype=np.uint8)
    got = cut(picture, Window(0, 2, side, side), (30, 30))
    assert got.shape == (30, 30, channels) and got.dtype == np.uint8
    for channel in range(channels):
        plane = Image.fromarray(np.ascontiguousarray(picture[:side, 2 : 2 + side, channel]))
        expected = np.asarray(plane.resize((30, 30), Image.Resampling.BICUBIC))
        assert np.array_equal(got[..., channel], expected)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("side", [12, 30, 90])
def test_a_mirrored_window_is_the_mirror_image_of_the_other(channels, side):
    picture = np.random.default_rng(0).integers(0, 256, (90, 95, channels), dtype=np.uint8)
    plain, mirrored = (cut(picture, Window(0, 2, side, side, flip), (30, 30)) for flip in (False, True))
    assert np.array_equal(mirrored, plain[:, ::-1]) and not np.array_equal(mirrored, plain)


def test_a_large_reduction_is_close_to_the_exact_one():
    picture = np.random.default_rng(0).integers(0, 256, (900, 900, 1), dtype=np.uint8)
    exact = Image.fromarray(picture[..., 0]).resize((30, 30), Image.Resampling.BICUBIC)
    difference = cut(picture, Window(0, 0, 900, 900), (30, 30))[..., 0].astype(int) - np.asarray(exact)
    assert np.abs(difference).max() <= 3


def test_held_out_windows_tile_the_picture_without_overlap():
    windows = held_out_windows(70, 100, (32, 32), "none", 100)
    assert windows == [Window(t, x, 32, 32) for t in (3, 35) for x in (2, 34, 66)]
    assert held_out_windows(70, 100, (32, 32), "none", 2) == [windows[1], windows[4]]


def test_a_single_held_out_window_lies_in_the_middle():
    assert held_out_windows(70, 100, (32, 32), "none", 1) == [Window(19, 34, 32, 32)]
    for resize in ("short-side", "random"):
        assert held_out_windows(70, 100, (32, 32), resize, 9) == [Window(0, 15, 70, 70)]
    assert held_out_windows(20, 100, (32, 32), "none", 9) == [Window(0, 40, 20, 20)]
