"""Holes in pictures: which codes they take, the seam, and windows of the prior's grid."""

import numpy as np
import pytest

from vq_jax.generate.inpainting import composite, cover_hole, feather, fill_windows, hole_codes


def box(height, width, top, left, bottom, right):
    hole = np.zeros((height, width), bool)
    hole[top:bottom, left:right] = True
    return hole


@pytest.mark.parametrize("ring, size", [(0, 1), (1, 3), (2, 5)])
def test_a_hole_takes_the_codes_it_touches_and_a_ring_around(ring, size):
    codes = hole_codes(box(28, 26, 13, 13, 15, 15), (4, 4), ring)
    assert codes.shape == (7, 7) and codes.sum() == size * size
    assert codes[3, 3] and codes[3 - ring, 3 + ring]


def test_a_ring_that_would_leave_nothing_is_left_out():
    assert hole_codes(box(12, 12, 4, 4, 8, 8), (4, 4), 1).sum() == 1


def test_the_covered_hole_does_not_depend_on_what_is_in_it():
    rng = np.random.default_rng(0)
    hole = box(12, 16, 3, 4, 9, 11)
    one = rng.integers(0, 256, (12, 16, 3)).astype(np.uint8)
    other = np.where(hole[..., None], rng.integers(0, 256, one.shape).astype(np.uint8), one)
    np.testing.assert_array_equal(cover_hole(one, hole), cover_hole(other, hole))
    np.testing.assert_array_equal(cover_hole(one, hole)[~hole], one[~hole])


def test_weights_are_one_in_the_hole_zero_outside_the_codes_and_fall_between():
    hole = box(32, 30, 12, 12, 20, 20)
    codes = hole_codes(hole, (4, 4), 1)
    weights = feather(hole, codes, (4, 4))
    inside = np.repeat(np.repeat(codes, 4, 0), 4, 1)[:32, :30]
    assert (weights[hole] == 1.0).all() and (weights[~inside] == 0.0).all()
    assert (np.diff(weights[16, 20:25]) < 0.0).all() and weights[16, 24] == 0.0
    rng = np.random.default_rng(1)
    picture, filled = rng.integers(0, 256, (2, 32, 30, 3)).astype(np.uint8)
    mixed = composite(picture, filled, weights)
    np.testing.assert_array_equal(mixed[~inside], picture[~inside])
    np.testing.assert_array_equal(mixed[hole], filled[hole])


@pytest.mark.parametrize("hole, calls", [((3, 4, 6, 8), 1), ((0, 0, 2, 2), 1), ((2, 1, 12, 12), None)])
def test_windows_fill_every_hole_once_and_leave_the_rest(hole, calls):
    unknown = np.stack([box(12, 13, *hole), box(12, 13, 5, 5, 6, 6)])
    codes = np.arange(2 * 12 * 13).reshape(2, 12, 13)
    seen = []

    def fill(given, known):
        assert given.shape == known.shape == (2, 5, 5) and (given[~known] == 0).all()
        seen.append(int((~known).sum()))
        return np.full_like(given, 999)

    filled = fill_windows(codes, unknown, (5, 5), fill)
    assert sum(seen) == unknown.sum() and (calls is None or len(seen) == calls)
    np.testing.assert_array_equal(filled, np.where(unknown, 999, codes))


def test_height_and_width_may_have_strides_of_their_own():
    hole = box(16, 18, 5, 7, 7, 8)
    codes = hole_codes(hole, (8, 2), 0)
    assert codes.shape == (2, 9)
    np.testing.assert_array_equal(codes, box(2, 9, 0, 3, 1, 4))
    weights = feather(hole, codes, (8, 2))
    assert (weights[:8, 6:8] > 0.0).all() and (weights[hole] == 1.0).all()
    assert np.count_nonzero(weights) == 16


def test_several_codes_a_position_are_filled_together():
    unknown = np.stack([box(6, 7, 1, 1, 3, 3)])
    codes = np.arange(6 * 7 * 2).reshape(1, 6, 7, 2)

    def fill(given, known):
        assert given.shape == known.shape == (1, 5, 5, 2) and (known[..., 0] == known[..., 1]).all()
        return np.full_like(given, 999)

    filled = fill_windows(codes, unknown, (5, 5), fill)
    np.testing.assert_array_equal(filled, np.where(unknown[..., None], 999, codes))
