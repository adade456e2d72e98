"""What is to be filled, out of masks as people draw them."""

import numpy as np
import pytest
from PIL import Image

from vq_jax.data import read_mask

PICTURE = np.random.default_rng(0).integers(0, 256, (12, 10, 3)).astype(np.uint8)
HOLE = np.zeros((12, 10), bool)
HOLE[3:7, 2:6] = True


def strokes(colour, opacity=255):
    return np.dstack([np.broadcast_to(colour, (12, 10, 3)), HOLE * opacity]).astype(np.uint8)


def erased():
    return np.dstack([PICTURE, ~HOLE * 255]).astype(np.uint8)


MASKS = {
    "white on black": np.where(HOLE, 255, 0).astype(np.uint8),
    "white on black, opaque": np.dstack([*[np.where(HOLE, 255, 0)] * 3, np.full_like(HOLE, 255, int)]).astype(
        np.uint8
    ),
    "white on black, all transparent": np.dstack([*[np.where(HOLE, 255, 0)] * 3, 0 * HOLE]).astype(np.uint8),
    "white strokes": strokes(255),
    "black strokes": strokes(0),
    "red strokes": strokes((255, 0, 0)),
    "faint strokes": strokes(255, opacity=76),
    "grey strokes with transparency": np.dstack([0 * HOLE, HOLE * 255]).astype(np.uint8),
    "erased": erased(),
    "erased to black": np.where(HOLE[..., None], 0, erased()).astype(np.uint8),
    "erased to white": np.where(HOLE[..., None], np.array([255, 255, 255, 0]), erased()).astype(np.uint8),
}


@pytest.mark.parametrize("name", MASKS)
def test_the_hole_is_found(name, tmp_path):
    Image.fromarray(MASKS[name]).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", PICTURE), HOLE)


def test_an_erased_copy_of_a_grey_picture_is_one_too(tmp_path):
    grey = PICTURE[..., :1]
    Image.fromarray(np.dstack([grey, ~HOLE * 255]).astype(np.uint8)).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", grey), HOLE)


def test_strokes_of_the_colour_of_the_ground_are_strokes(tmp_path):
    Image.fromarray(strokes(0)).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", np.zeros_like(PICTURE)), HOLE)
    palette = Image.new("P", (10, 12))
    palette.putdata(np.where(HOLE, 1, 0).ravel().tolist())
    palette.putpalette([0, 0, 0, 0, 0, 0])
    palette.save(tmp_path / "palette.png", transparency=0)
    np.testing.assert_array_equal(read_mask(tmp_path / "palette.png", PICTURE), HOLE)
