"""Every mode and orientation that Pillow reads becomes uint8 in the channels asked for."""

import numpy as np
import pytest
from PIL import Image

from vq_jax.configs import DataConfig
from vq_jax.data import open_source, pictures
from vq_jax.data.crops import Window, cut
from vq_jax.data.pictures import decode_check, picture_extensions, read_picture, read_square

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


def test_big_endian_pictures_of_16_bits_keep_their_high_byte(tmp_path):
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


def window(*place):
    return lambda height, width: Window(*place)


def ramps(width=203, height=149):
    """A picture that shows where each of its pixels was: red grows to the right, green downwards."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns + 20, rows + 20, np.full_like(rows, 128)], -1).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "mode"),
    [("a.png", "RGB"), ("a.png", "P"), ("a.png", "RGBA"), ("a.png", "I;16"), ("a.jpg", "RGB"), ("a.jpg", "L"),
     ("a.jpg", "CMYK"), ("a.tif", "RGB")],
)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 3])
def test_a_square_is_cut_out_of_what_reading_the_whole_picture_gives(tmp_path, name, mode, channels):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    elif mode == "RGBA":
        image.putalpha(Image.fromarray(pixels[..., 1]))
    else:
        image = image.quantize(16) if mode == "P" else image.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path, image, name, exif=exif)
    whole = read_picture(path, channels)
    assert whole.shape[:2] == (50, 40)
    for place in ((7, 3, 30), (20, 0, 30, True), (5, 6, 16), (5, 6, 16, True), (5, 6, 9), (0, 0, 40)):
        square = read_square(path, channels, window(*place), 16, scaled=False)
        assert np.array_equal(square, cut(whole, Window(*place), 16)), place


def test_the_square_is_chosen_from_the_upright_size(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    path = saved(tmp_path, Image.new("RGB", (64, 48)), "a.jpg", exif=exif)
    sizes = []
    for scaled in (True, False):
        read_square(path, 3, lambda *size: sizes.append(size) or Window(0, 0, 48), 8, scaled)
    assert sizes == [(64, 48)] * 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_square_of_a_jpeg_decoded_smaller_is_in_the_same_place(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, Image.fromarray(ramps()), "a.jpg", exif=exif, quality=98, subsampling=0)
    height, width, _ = read_picture(path, 3).shape
    for place in (Window(height - 140, width - 140, 140), Window(0, 0, 140), Window(3, 5, 137)):
        for size in (8, 16, 32):  # an eighth, a quarter, a half
            whole, scaled = (read_square(path, 3, window(*place), size, scaled=s) for s in (False, True))
            assert not np.array_equal(whole, scaled)
            # A shift by one pixel of the file is a step of one.
            inside = (scaled.astype(int) - whole)[1:-1, 1:-1]
            assert np.abs(inside.mean((0, 1))).max() < 0.5 and np.abs(inside).max() <= 2, (place, size)


@pytest.mark.parametrize(
    ("name", "side", "decoded"),
    [("a.jpg", 47, 47), ("a.jpg", 48, 24), ("a.jpg", 96, 24), ("a.jpg", 192, 24), ("a.jpg", 384, 48),
     ("a.png", 384, 384)],
)  # fmt: skip
def test_a_jpeg_is_decoded_smaller_by_as_much_as_leaves_it_the_margin(
    tmp_path, monkeypatch, name, side, decoded
):
    sides = []
    original = pictures.shrink
    monkeypatch.setattr(pictures, "shrink", lambda *a: sides.append(a[0].size) or original(*a))
    path = saved(tmp_path, Image.new("RGB", (400, 400), COLOUR), name)
    square = read_square(path, 3, window(8, 8, side), 16, scaled=True)
    assert sides == [(decoded, decoded)] and square.shape == (16, 16, 3)
    assert np.abs(square.astype(int) - COLOUR).max() <= 3


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
@pytest.mark.parametrize("scaled", [True, False])
def test_a_square_of_a_truncated_picture_is_not_made_up(tmp_path, name, scaled):
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    path = saved(tmp_path, Image.fromarray(noise), name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises((OSError, ValueError, SyntaxError)):
        read_square(path, 3, window(0, 0, 128), 16, scaled)


@pytest.mark.parametrize(("size", "lowest"), [(64, 38.0), (128, 38.0)])
def test_photographs_decoded_smaller_are_close_to_those_decoded_whole(tmp_path, size, lowest):
    coffee = open_source("photos", "test", DataConfig(), 3)[1]["image"]
    path = saved(tmp_path, Image.fromarray(coffee), "a.jpg", quality=90)
    whole, scaled = (read_square(path, 3, window(0, 100, 400), size, scaled=s) for s in (False, True))
    error = np.mean((scaled.astype(float) - whole) ** 2)
    assert error > 0 and 10 * np.log10(255**2 / error) > lowest
