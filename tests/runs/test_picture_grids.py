"""Grids of pictures."""

import numpy as np

from vq_jax.runs.grids import comparison_grid, picture_grid

RNG = np.random.default_rng(0)


def picture(*shape):
    return RNG.integers(0, 255, shape).astype(np.uint8)


def test_pictures_of_several_sizes_stand_above_their_reconstructions():
    originals, others = ([picture(300, 451, 3), picture(400, 600, 3)] for _ in range(2))
    grid = comparison_grid(originals, others)
    assert grid.shape == (2 * 400 + 4, 451 + 4 + 600, 3)
    np.testing.assert_array_equal(grid[:300, :451], originals[0])
    np.testing.assert_array_equal(grid[304:604, :451], others[0])
    np.testing.assert_array_equal(grid[404:, 455:], others[1])
    assert (grid[300:304, :451] == 255).all() and (grid[:, 451:455] == 255).all()


def test_small_grey_pictures_are_enlarged():
    pair = picture(28, 28, 1), picture(28, 28, 1)
    grid = comparison_grid([pair[0]], [pair[1]])
    assert grid.shape == (2 * 112 + 4, 112, 3)
    np.testing.assert_array_equal(grid[-112::4, ::4], np.repeat(pair[1], 3, -1))


def test_small_pictures_stand_above_two_others_at_their_size():
    small, whole = picture(28, 14, 3), picture(56, 28, 1)
    grid = comparison_grid([small], [whole], [whole])
    assert grid.shape == (3 * 112 + 2 * 4, 56, 3)
    np.testing.assert_array_equal(grid[:112:4, ::4], small)
    np.testing.assert_array_equal(grid[-112::2, ::2], np.repeat(whole, 3, -1))


def test_pictures_of_one_size_stand_in_rows():
    pictures = picture(5, 56, 40, 3)
    grid = picture_grid(pictures, columns=2)
    assert grid.shape == (3 * 60 - 4, 2 * 44 - 4, 3)
    np.testing.assert_array_equal(grid[60:116, 44:], pictures[3])
    assert (grid[120:, 44:] == 255).all()


def test_clips_are_strips_above_their_reconstructions():
    originals, others = ([picture(3, 56, 40, 3) for _ in range(2)] for _ in range(2))
    grid = comparison_grid(originals, others)
    assert grid.shape == (4 * 56 + 2 * 4 + 12, 3 * 40 + 2 * 4, 3)
    np.testing.assert_array_equal(grid[:56, 44:84], originals[0][1])
    np.testing.assert_array_equal(grid[60:116, 88:], others[0][2])
    np.testing.assert_array_equal(grid[128:184, :40], originals[1][0])
    assert (grid[116:128] == 255).all() and (grid[:56, 40:44] == 255).all()
