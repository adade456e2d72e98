"""Every mode and orientation that Pillow reads becomes uint8 in the wanted channels."""

import numpy as np
import pytest
from PIL import Image

from vq_jax.data.pictures import decode_check, picture_extensions, read_picture

COLOUR = (200, 100, 40)
GREY = 124  # 0.299 * 200 + 0.587 * 100 + 0.114 * 40


def saved(tmp_path, image, name, **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


def plain(mode="RGB", size=(8, 6)):
    image = Image.new("RGB", size, COLOUR)
    return image.quantize(4) if mode == "P" else image.convert(mode)


@pytest.mark.parametrize(
    ("mode", "name"),
    [("RGB", "a.png"), ("P", "a.gif"), ("P", "a.png"), ("RGBA", "a.png"), ("CMYK", "a.tif"),
     ("RGB", "a.bmp"), ("RGB", "a.webp"), ("YCbCr", "a.tif"), ("LAB", "a.tif"), ("CMYK", "a.jpg"),
     ("RGB", "a.jpg"), ("RGB", "a.ppm"), ("RGB", "a.tga"), ("RGB", "a.jp2")],
)  # fmt: skip
def test_colour_modes_keep_their_colour(tmp_path, mode, name):
    if mode == "LAB":
        image = Image.new("LAB", (8, 6), (138, 128 + 37, 128 + 50))  # about COLOUR in CIELAB
    else:
        image = plain(mode)
    path = saved(tmp_path, image, name)
    colour = read_picture(path, 3)
    assert colour.shape == (6, 8, 3) and colour.dtype == np.uint8
    tolerance = 6
    assert np.abs(colour.astype(int) - COLOUR).max() <= tolerance
    grey = read_picture(path, 1)
    assert grey.shape == (6, 8, 1) and np.abs(grey.astype(int) - GREY).max() <= tolerance
    decode_check(path)


@pytest.mark.parametrize(("mode", "value", "expected"), [("1", 1, 255), ("L", 77, 77), ("1", 0, 0)])
def test_grey_modes_keep_their_value(tmp_path, mode, value, expected):
    path = saved(tmp_path, Image.new(mode, (8, 6), value), "grey.png")
    assert np.unique(read_picture(path, 1)).tolist() == [expected]
    assert np.unique(read_picture(path, 3)).tolist() == [expected]


@pytest.mark.parametrize("name", ["deep.png", "deep.tif", "deep.pgm"])
def test_pictures_of_16_bits_keep_their_high_byte(tmp_path, name):
    deep = np.array([[0, 255, 256], [0x1234, 0x8000, 0xFFFF]], np.uint16)
    path = saved(tmp_path, Image.fromarray(deep), name)
    expected = [[0, 0, 1], [0x12, 0x80, 0xFF]]
    assert read_picture(path, 1)[..., 0].tolist() == expected
    assert read_picture(path, 3)[..., 2].tolist() == expected


def test_big_endian_pictures_of_16_bits_are_read_alike(tmp_path):
    image = Image.new("I;16B", (3, 2), 0x1234)
    assert np.unique(read_picture(saved(tmp_path, image, "big.tif"), 1)).tolist() == [0x12]


def test_transparent_pictures_are_laid_on_white(tmp_path):
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0] = [*COLOUR, 255]
    pixels[1, 1] = [0, 0, 0, 128]
    got = read_picture(saved(tmp_path, Image.fromarray(pixels), "a.png"), 3)
    assert got[0, 0].tolist() == list(COLOUR) and got[0, 1].tolist() == [255] * 3
    assert np.abs(got[1, 1].astype(int) - 127).max() <= 1


@pytest.mark.parametrize("mode", ["LA", "P", "L", "RGB"])
def test_every_kind_of_transparency_counts(tmp_path, mode):
    if mode == "LA":
        path = saved(tmp_path, Image.new("LA", (2, 2), (0, 0)), "a.png")
    else:
        black = Image.new(mode, (2, 2), 0)
        path = saved(tmp_path, black, "a.png", transparency=(0, 0, 0) if mode == "RGB" else 0)
    assert np.unique(read_picture(path, 3)).tolist() == [255]
    assert np.unique(read_picture(path, 1)).tolist() == [255]


def test_the_orientation_in_exif_is_applied(tmp_path):
    upright = np.zeros((4, 6, 3), np.uint8)
    upright[0, 0] = 255
    turns = {1: upright, 2: upright[:, ::-1], 3: np.rot90(upright, 2), 4: upright[::-1],
             5: np.transpose(upright, (1, 0, 2)), 6: np.rot90(upright, 1),
             7: np.rot90(upright, 2).transpose(1, 0, 2), 8: np.rot90(upright, -1)}  # fmt: skip
    for orientation, stored in turns.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        image = Image.fromarray(np.ascontiguousarray(stored))
        path = saved(tmp_path, image, f"{orientation}.png", exif=exif)
        assert np.array_equal(read_picture(path, 3), upright), orientation


def test_a_jpeg_of_orientation_6_is_turned_upright(tmp_path):
    image = Image.new("RGB", (40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_picture(saved(tmp_path, image, "a.jpg", exif=exif), 3).shape == (40, 20, 3)


def test_of_several_frames_the_first_is_read(tmp_path):
    frames = [Image.new("L", (4, 4), value) for value in (10, 200)]
    path = saved(tmp_path, frames[0], "a.gif", save_all=True, append_images=frames[1:])
    assert np.unique(read_picture(path, 1)).tolist() == [10]


def test_floating_point_pixels_have_no_range_and_are_refused(tmp_path):
    path = saved(tmp_path, Image.new("F", (4, 4), 0.5), "a.tif")
    for read in (lambda: read_picture(path, 3), lambda: decode_check(path)):
        with pytest.raises(ValueError, match="8 or 16 bits"):
            read()


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_a_truncated_picture_does_not_pass_the_check(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = saved(tmp_path, Image.fromarray(noise), name)
    decode_check(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    for read in (lambda: read_picture(path, 3), lambda: decode_check(path)):
        with pytest.raises((OSError, ValueError, SyntaxError)):
            read()


def test_the_extensions_are_those_of_pictures():
    assert {".jpg", ".jpeg", ".png", ".webp", ".tif", ".bmp", ".gif"} <= picture_extensions()
    assert not {".pdf", ".mpg", ".h5", ".eps", ".txt"} & picture_extensions()
