"""Every mode and orientation that Pillow reads becomes uint8 in the channels asked for."""

import dataclasses
import io
import re
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from vq_jax.configs import DataConfig
from vq_jax.data import open_source, pictures
from vq_jax.data.crops import Window, cut
from vq_jax.data.pictures import (
    FORMATS,
    Reading,
    decode_check,
    picture_extensions,
    read_crop,
    read_picture,
)
from vq_jax.errors import UserError

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
def test_a_part_is_cut_out_of_what_reading_the_whole_picture_gives(tmp_path, name, mode, channels):
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
    squares = ((7, 3, 30, 30), (20, 0, 30, 30, True), (5, 6, 16, 16), (5, 6, 16, 16, True), (5, 6, 9, 9))
    for place in (*squares, (0, 0, 40, 40), (4, 3, 46, 30, True), (7, 3, 16, 24)):
        for size in ((16, 16), (16, 24)):
            crop = read_crop(path, channels, window(*place), size, scaled=False)
            assert np.array_equal(crop, cut(whole, Window(*place), size)), (place, size)


def test_the_part_is_chosen_from_the_upright_size(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    path = saved(tmp_path, Image.new("RGB", (64, 48)), "a.jpg", exif=exif)
    sizes = []
    for scaled in (True, False):
        read_crop(path, 3, lambda *size: sizes.append(size) or Window(0, 0, 48, 48), (8, 8), scaled)
    assert sizes == [(64, 48)] * 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_part_of_a_jpeg_decoded_smaller_is_in_the_same_place(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, Image.fromarray(ramps()), "a.jpg", exif=exif, quality=98, subsampling=0)
    height, width, _ = read_picture(path, 3).shape
    corner = (height - 140, width - 140, 140, 140)
    for place in (corner, (0, 0, 140, 140), (3, 5, 137, 137), (height - 140, 0, 140, width)):
        for size in (8, 16, 32):  # an eighth, a quarter, a half
            sides = (size, size * place[3] // place[2])
            whole, scaled = (read_crop(path, 3, window(*place), sides, scaled=s) for s in (False, True))
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
    crop = read_crop(path, 3, window(8, 8, side, side), (16, 16), scaled=True)
    assert sides == [(decoded, decoded)] and crop.shape == (16, 16, 3)
    assert np.abs(crop.astype(int) - COLOUR).max() <= 3


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
@pytest.mark.parametrize("scaled", [True, False])
def test_a_part_of_a_truncated_picture_is_not_made_up(tmp_path, name, scaled):
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    path = saved(tmp_path, Image.fromarray(noise), name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises((OSError, ValueError, SyntaxError)):
        read_crop(path, 3, window(0, 0, 128, 128), (16, 16), scaled)


@pytest.mark.parametrize(("size", "lowest"), [(64, 38.0), (128, 38.0)])
def test_photographs_decoded_smaller_are_close_to_those_decoded_whole(tmp_path, size, lowest):
    coffee = open_source("photos", "test", DataConfig(), 3)[1]["image"]
    path = saved(tmp_path, Image.fromarray(coffee), "a.jpg", quality=90)
    whole, scaled = (
        read_crop(path, 3, window(0, 100, 400, 400), (size, size), scaled=s) for s in (False, True)
    )
    error = np.mean((scaled.astype(float) - whole) ** 2)
    assert error > 0 and 10 * np.log10(255**2 / error) > lowest


# Of every mode with more than 8 bits, or with another sense of its numbers: what is stored, and what is read.
def tiff(path, pixels, **tags):
    """A plain TIFF with the tags that it says: bits, sample format, photometric interpretation."""
    data = np.ascontiguousarray(pixels).tobytes()
    height, width = pixels.shape
    tags = {
        256: width, 257: height, 258: tags.get("bits", 8 * pixels.itemsize), 259: 1,
        262: tags.get("photometric", 1), 273: 8, 277: 1, 278: height, 279: tags.get("bytes", len(data)),
        339: tags.get("sample", {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]),
    }  # fmt: skip
    data = tags.pop("data", data)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    place = 8 + len(data)
    path.write_bytes(
        b"II*\0" + struct.pack("<I", place) + data + struct.pack("<H", len(tags)) + entries + bytes(4)
    )
    return path


RAMP = np.linspace(0, 1, 12).reshape(3, 4)


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        (np.uint16, RAMP * 65535, RAMP * 255),
        (np.int16, RAMP * 65535 - 32768, RAMP * 255),
        (np.int16, RAMP * 255, RAMP * 255),
        (np.uint16, RAMP * 200, RAMP * 200),
        (np.uint32, RAMP * (2**32 - 1), RAMP * 255),
        (np.int32, RAMP * (2**32 - 1) - 2**31, RAMP * 255),
        (np.int32, RAMP * 255, RAMP * 255),
        (np.int32, RAMP * 65535, RAMP * 255),
        (np.int8, RAMP * 255 - 128, RAMP * 255),
    ],
)
def test_numbers_of_any_width_and_sign_are_scaled_by_what_the_file_says(tmp_path, dtype, values, expected):
    path = tiff(tmp_path / "a.tif", np.floor(values).astype(dtype))
    got = read_picture(path, 1)[..., 0]
    assert np.abs(got - expected).max() <= 1
    crop = read_crop(path, 1, window(0, 0, 3, 3), (3, 3), False)[..., 0]
    assert np.array_equal(got, crop) or got.shape != (3, 3)
    inverted = tiff(tmp_path / "b.tif", np.floor(values).astype(dtype), photometric=0)
    if dtype == np.uint16:  # Pillow does not open the others
        assert np.array_equal(read_picture(inverted, 1)[..., 0], 255 - got)


def colours_of_16_bits(path, pixels, **options):
    """A PNG of uint16 [H, W, C], or a TIFF with options of tifffile."""
    if path.suffix == ".tif":
        planes = pixels.transpose(2, 0, 1) if options["planarconfig"] == "separate" else pixels
        alpha = {"extrasamples": ["unassalpha"]} if pixels.shape[-1] == 4 else {}
        tifffile.imwrite(path, planes, photometric="rgb", **options, **alpha)
        return path
    height, width, channels = pixels.shape
    head = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels))
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    with path.open("ab") as file:
        for kind, data in ((b"IHDR", head), (b"IDAT", rows), (b"IEND", b"")):
            file.write(
                struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            )
    return path


TIFFS = [
    {"byteorder": order, "planarconfig": planes, "compression": compression}
    for order in "<>"
    for planes in ("contig", "separate")
    for compression in (None, "zlib")
]


@pytest.mark.parametrize(
    "channels, options", [*((c, {}) for c in (2, 3, 4)), *((c, options) for c in (3, 4) for options in TIFFS)]
)
def test_of_16_bit_colours_the_high_byte_is_read(tmp_path, channels, options):
    pixels = np.random.default_rng(0).integers(0, 2**16, (6, 9, channels), dtype=np.uint16)
    if channels != 3:
        pixels[..., -1] = 2**16 - 1
    path = colours_of_16_bits(tmp_path / ("a.tif" if options else "a.png"), pixels, **options)
    colours = pixels[..., :3] if channels > 2 else np.repeat(pixels[..., :1], 3, axis=-1)
    assert np.array_equal(read_picture(path, 3), colours >> 8)


@pytest.mark.parametrize(
    "channels, options", [*((c, {}) for c in (2, 3, 4)), *((c, options) for c in (3, 4) for options in TIFFS)]
)
def test_a_range_of_values_holds_for_16_bit_colours(tmp_path, channels, options):
    pixels = np.random.default_rng(0).integers(0, 2**16, (6, 9, channels), dtype=np.uint16) // 16
    if channels != 3:
        pixels[..., -1] = 2**16 - 1
    path = colours_of_16_bits(tmp_path / ("a.tif" if options else "a.png"), pixels, **options)
    colours = pixels[..., :3] if channels > 2 else np.repeat(pixels[..., :1], 3, axis=-1)
    reading = Reading((100.0, 4000.0))
    if options.get("planarconfig") == "separate" and options["compression"]:
        with pytest.raises(ValueError, match="compressed planes, of which 8 bits can be read: save it with"):
            read_picture(path, 3, reading)
        return
    expected = np.rint(np.clip((colours.astype(float) - 100) / 3900, 0, 1) * 255)
    assert np.array_equal(read_picture(path, 3, reading), expected)
    crop = read_crop(path, 3, window(1, 2, 4, 3), (3, 4), False, reading)
    assert np.array_equal(crop, cut(expected.astype(np.uint8), Window(1, 2, 4, 3), (3, 4)))
    assert decode_check(path, reading) is None


def test_16_bit_colours_that_hardly_use_their_range_are_warned_of(tmp_path, caplog):
    values = np.random.default_rng(0).integers(0, 4096, (6, 9, 3), dtype=np.uint16)
    for number in range(2):
        colours_of_16_bits(tmp_path / f"{number}.png", values)
    open_source(f"folder:{tmp_path}", "train", DataConfig(), 3)
    assert any("give --data.value-range 0 4095 to use" in record.getMessage() for record in caplog.records)
    caplog.clear()
    open_source(f"folder:{tmp_path}", "train", DataConfig(value_range=(0, 4095)), 3)
    assert not caplog.records


def test_pictures_of_12_bits_are_scaled_from_12_bits(tmp_path):
    values = np.floor(RAMP * 4095).astype(np.uint16)
    packed = bytearray()
    for first, second in values.reshape(-1, 2).tolist():
        packed += (first << 12 | second).to_bytes(3)
    path = tiff(tmp_path / "a.tif", values)
    whole = bytearray(path.read_bytes())
    whole[8 : 8 + len(packed)] = packed
    path.write_bytes(whole.replace(struct.pack("<HHII", 258, 4, 1, 16), struct.pack("<HHII", 258, 4, 1, 12)))
    assert read_picture(path, 1)[..., 0].tolist() == (values >> 4).tolist()


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32])
def test_a_range_of_values_decides_what_is_black_and_white(tmp_path, dtype):
    values = (RAMP * 4000 - 500 if dtype != np.uint16 else RAMP * 4000).astype(dtype)
    path = tiff(tmp_path / "a.tif", values)
    got = read_picture(path, 1, Reading((0.0, 3000.0)))[..., 0]
    assert np.abs(got - np.clip(values / 3000, 0, 1) * 255).max() <= 1
    crop = read_crop(path, 1, window(0, 0, 3, 3), (3, 3), False, Reading((0.0, 3000.0)))
    assert np.array_equal(crop[..., 0], got[:, :3])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (RAMP * 4095, r"only the values 0 to 4095 of 0 to 65535 .*--data.value-range 0 4095"),
        (RAMP * 65535, None),
        (RAMP * 255, None),
    ],
)
def test_a_range_that_is_hardly_used_is_warned_of_once(tmp_path, caplog, values, words):
    for number in range(3):
        Image.fromarray(np.floor(values).astype(np.uint16)).save(tmp_path / f"{number}.png")
    config = DataConfig(test_fraction=0.3)
    for split in ("train", "test"):
        open_source(f"folder:{tmp_path}", split, config, 1)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == (words is not None)
    assert words is None or re.search(words, messages[0])
    caplog.clear()
    open_source(f"folder:{tmp_path}", "train", dataclasses.replace(config, value_range=(0, 4095)), 1)
    assert not caplog.records


def test_a_picture_above_the_limit_says_so_and_one_below_is_read_without_pillow_s_warning(
    tmp_path, monkeypatch
):
    path = saved(tmp_path, Image.new("L", (1500, 1000)), "a.png")
    with pytest.raises(ValueError, match=r"^2 megapixels, more than data.max_megapixels 1: raise that"):
        read_picture(path, 1, Reading(max_megapixels=1))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert read_picture(path, 1).shape == (1000, 1500, 1)
    assert read_crop(path, 1, window(0, 0, 900, 900), (8, 8), False).shape == (8, 8, 1)
    assert decode_check(path) is None and Image.MAX_IMAGE_PIXELS == 1000


def test_a_folder_says_in_one_line_that_a_picture_is_too_large(tmp_path):
    saved(tmp_path, Image.new("L", (1500, 1000)), "a.png")
    with pytest.raises(UserError, match=r"a.png \(2 megapixels, more than data.max_megapixels 1: raise that"):
        open_source(f"folder:{tmp_path}", "train", DataConfig(max_megapixels=1), 1)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.eps", "a"])
@pytest.mark.parametrize("content", [EPS, b"%PDF-1.4 ...", b"\xd7\xcd\xc6\x9a" + bytes(60), b""])
def test_only_the_formats_of_the_list_are_opened_whatever_the_name(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    for read in (lambda path: read_picture(path, 3), decode_check):
        with pytest.raises(Image.UnidentifiedImageError):
            read(tmp_path / name)


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind not in ("JPEG2000", "DIB")] + ["JPEG2000"])
def test_every_format_of_the_list_is_read_by_its_content(tmp_path, kind):
    if kind not in Image.SAVE:
        Image.init()
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    image = Image.fromarray(np.repeat(np.repeat(pixels, 4, 0), 4, 1))
    options = {"quality": 100} if kind in ("JPEG", "WEBP", "AVIF") else {}
    path = saved(tmp_path, image, "named.otherwise", format=kind, **options)
    with Image.open(path) as reference:
        expected = np.asarray(reference.convert("RGB"))
    assert np.array_equal(read_picture(path, 3), expected)


def with_metadata(kind, block):
    """A picture turned by a block of EXIF, and with a comment."""
    image, file = Image.fromarray(ramps(24, 16)), io.BytesIO()
    image.save(file, kind, exif=block)
    return file.getvalue()


def exif_block(order):
    """EXIF with the orientation 6 after tags of every type; a damaged one may become anything."""
    exif = Image.Exif()
    exif.endian = {"II": "<", "MM": ">"}[order]
    exif[0x010F], exif[0x011A], exif[0x011B], exif[0x0128] = "maker", 72.0, 72.0, 2
    exif[0x0112] = 6
    exif.get_ifd(0x8769).update({0x829A: 0.01, 0x9000: b"0232", 0x9204: -0.5})
    exif.get_ifd(0x8825).update({1: "N", 2: (1.0, 2.0, 3.0)})
    return exif.tobytes()


@pytest.mark.parametrize("count", [200, pytest.param(3000, marks=pytest.mark.ci)])
def test_a_picture_with_damaged_metadata_is_read(tmp_path, count):
    rng = np.random.default_rng(count)
    kinds = ("JPEG", "PNG", "WEBP")
    block = exif_block("II")
    whole = {kind: with_metadata(kind, block) for kind in kinds}
    upright = {}
    for kind in kinds:
        path = tmp_path / kind
        path.write_bytes(whole[kind])
        upright[kind] = read_picture(path, 3)
        assert upright[kind].shape == (24, 16, 3)
    for number in range(count):
        kind = kinds[number % 3]
        content = bytearray(whole[kind])
        place = content.index(block[6:20]) if kind != "JPEG" else content.index(block[:20])
        for _ in range(rng.integers(1, 9)):
            content[place + rng.integers(len(block) - 6)] = rng.integers(256)
        path = tmp_path / kind
        path.write_bytes(content)
        got = read_picture(path, 3)
        assert sorted(got.shape) == [3, 16, 24]
        assert decode_check(path) is None
        if got.shape == (24, 16, 3) and number % 10 == 0:
            assert any(np.array_equal(got, turn) for turn in turns_of(upright[kind]))


def turns_of(upright):
    return [upright, upright[::-1], upright[:, ::-1], upright[::-1, ::-1]]


def png_with(chunks, after=()):
    """A PNG with further chunks before and after its pixels; their checksums are wrong where None."""
    file = io.BytesIO()
    Image.fromarray(ramps(24, 16)).save(file, "PNG")
    content = file.getvalue()

    def packed(chunks):
        return b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ wrong)
            for kind, data, wrong in chunks
        )

    return content[:33] + packed(chunks) + content[33:-12] + packed(after) + content[-12:]


LONG_TEXT = b"Comment\0\0" + zlib.compress(bytes(3 * 10**6))
CHUNKS = {
    "long text": (b"zTXt", LONG_TEXT, 0),
    "long international text": (b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(bytes(3 * 10**6)), 0),
    "a long profile": (b"iCCP", b"name\0\0" + zlib.compress(bytes(3 * 10**6)), 0),
    "a damaged profile": (b"iCCP", b"name\0\0no zlib", 0),
    "a wrong checksum": (b"tEXt", b"Comment\0hello", 1),
    "damaged EXIF": (b"eXIf", b"MM\0*\0\0\0\x08\xff\xff no entries", 0),
    "EXIF of nothing": (b"eXIf", b"", 0),
    "a short resolution": (b"pHYs", b"\0", 0),
    "an animation of nothing": (b"acTL", b"\0", 0),
    "a private chunk": (b"prVt", bytes(100), 7),
}


@pytest.mark.parametrize("name", CHUNKS)
def test_chunks_of_a_png_that_are_no_pixels_cannot_break_it(tmp_path, name):
    expected = ramps(24, 16)
    for chunks in (([CHUNKS[name]], []), ([], [CHUNKS[name]])):
        (tmp_path / "a.png").write_bytes(png_with(*chunks))
        assert np.array_equal(read_picture(tmp_path / "a.png", 3), expected)
        assert decode_check(tmp_path / "a.png") is None


@pytest.mark.parametrize("after", [False, True])
def test_an_orientation_in_a_png_counts_before_and_after_the_pixels(tmp_path, after):
    chunk = [(b"eXIf", exif_block("MM")[6:], 0)]
    (tmp_path / "a.png").write_bytes(png_with([], chunk) if after else png_with(chunk))
    assert np.array_equal(read_picture(tmp_path / "a.png", 3), np.rot90(ramps(24, 16), -1))


def test_a_rational_without_denominator_does_not_break_a_jpeg(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x011A], exif[0x0128] = 8, 72.0, 2
    block = exif.tobytes()
    content = with_metadata("JPEG", block.replace(struct.pack(">II", 72, 1), struct.pack(">iI", -1, 0)))
    (tmp_path / "a.jpg").write_bytes(content)
    assert read_picture(tmp_path / "a.jpg", 3).shape == (24, 16, 3)


@pytest.mark.parametrize("text", ['tiff:Orientation="6"', "<tiff:Orientation>6</tiff:Orientation>"])
def test_an_orientation_in_xmp_counts_where_exif_has_none(tmp_path, text):
    file = io.BytesIO()
    Image.fromarray(ramps(24, 16)).save(file, "JPEG", xmp=f"<x:xmpmeta>{text}</x:xmpmeta>".encode())
    (tmp_path / "a.jpg").write_bytes(file.getvalue())
    assert read_picture(tmp_path / "a.jpg", 3).shape == (24, 16, 3)


def test_a_damaged_tiff_tag_costs_the_orientation_and_not_the_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path, Image.fromarray(ramps(24, 16)), "a.tif", exif=exif)
    assert np.array_equal(read_picture(path, 3), np.rot90(ramps(24, 16), -1))
    content = bytearray(path.read_bytes())
    place = content.index(struct.pack("<HHI", 0x0112, 3, 1))
    content[place + 8] = 99
    path.write_bytes(content)
    assert np.array_equal(read_picture(path, 3), ramps(24, 16))


MODES = ("1", "L", "P", "RGB", "CMYK", "YCbCr", "RGBA", "I;16")
# TIFF's JPEG has neither palettes nor 1 or 16 bits, and group 4 is of facsimiles.
WRITTEN = {
    **dict.fromkeys(("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"), MODES),
    "jpeg": ("L", "RGB", "CMYK", "YCbCr", "RGBA"),
    "group4": ("1",),
}


@pytest.mark.parametrize("compression, mode", [(name, mode) for name in WRITTEN for mode in WRITTEN[name]])
def test_a_tiff_without_its_metadata_decodes_to_the_same_pixels(tmp_path, compression, mode):
    image = Image.fromarray(ramps(48, 40))
    deep = Image.fromarray(ramps(48, 40)[..., 0].astype(np.uint16) * 256)
    image = deep if mode == "I;16" else image.quantize(8) if mode == "P" else image.convert(mode)
    path = saved(tmp_path, image, "a.tif", compression=compression, software="a name", dpi=(72, 72))
    with Image.open(path) as reference:
        opened = reference.convert("RGB") if mode != "I;16" else None
        expected = np.asarray(opened) if opened else (np.asarray(reference) >> 8).astype(np.uint8)[..., None]
    got = read_picture(path, 3 if opened else 1)
    assert np.array_equal(got, expected)


def test_damaged_tags_of_a_tiff_that_are_no_pixels_cannot_break_it(tmp_path):
    exif = Image.Exif()
    exif[0x010F], exif[0x011A], exif[0x0128], exif[0x0132] = "maker", 72.0, 2, "2020:01:01 00:00:00"
    path = saved(tmp_path, Image.fromarray(ramps(24, 16)), "a.tif", exif=exif)
    content, rng = path.read_bytes(), np.random.default_rng(0)
    (place,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, place)
    tags = {
        struct.unpack_from("<H", content, at)[0]: at for at in range(place + 2, place + 2 + 12 * count, 12)
    }
    for _ in range(100):
        damaged = bytearray(content)
        for tag in (0x010F, 0x011A, 0x0128, 0x0132):
            damaged[tags[tag] + 2 + rng.integers(10)] = rng.integers(256)
        path.write_bytes(damaged)
        assert np.array_equal(read_picture(path, 3), ramps(24, 16))
