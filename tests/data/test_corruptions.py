"""Corruptions of pictures at five severities."""

import io

import numpy as np
import PIL.Image
import pytest
import skimage.color
import skimage.filters
from scipy import ndimage

from vq_jax.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt


def textured(channels=3, size=112):
    """A picture with an edge, colours, even parts and texture."""
    rows, columns = np.mgrid[:size, :size] / size
    planes = [80 + 100 * rows, 60 + 120 * columns, 150 - 90 * rows * columns][:channels]
    picture = np.stack(planes, axis=-1)
    picture[size // 4 : size // 2, size // 4 : size // 2] = 230
    picture += np.random.default_rng(0).integers(-20, 20, picture.shape)
    return picture.astype(np.uint8)


def error(name, severity, picture):
    made = corrupt(picture, name, severity, np.random.default_rng(0))
    assert made.dtype == np.uint8 and made.shape == picture.shape
    return np.mean(np.square(made.astype(float) - picture))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_corruption_grows_and_depends_on_the_generator_alone(name):
    picture = textured()
    before = picture.copy()
    errors = [error(name, severity, picture) for severity in (1, 3, 5)]
    np.testing.assert_array_equal(picture, before)
    # The first two severities of saturation take colours away, the others add them.
    assert 0 < min(errors) and (name == "saturate" or errors[0] < errors[1] < errors[2]), errors
    assert error(name, 1, picture) == errors[0]
    grey = textured(channels=1)
    assert (error(name, 5, grey) > 0) == (name != "saturate")


def test_brightness_and_saturation_are_those_of_hsv():
    picture = textured()
    hsv = skimage.color.rgb2hsv(picture)
    brighter, coloured = hsv.copy(), hsv.copy()
    brighter[..., 2] = np.clip(hsv[..., 2] + 0.3, 0, 1)
    coloured[..., 1] = np.where(hsv[..., 1] > 0, np.clip(5 * hsv[..., 1] + 0.1, 0, 1), 0)
    for name, severity, expected in (("brightness", 3, brighter), ("saturate", 4, coloured)):
        found = corrupt(picture, name, severity, np.random.default_rng(0))
        np.testing.assert_allclose(found, 255 * skimage.color.hsv2rgb(expected), atol=0.51)


# The severities in the authors' code (ImageNet-C/create_c/make_imagenet_c.py of hendrycks/robustness), for
# pictures of 224 px.
PUBLISHED = {
    "gaussian_noise": (0.08, 0.12, 0.18, 0.26, 0.38),  # standard deviation
    "shot_noise": (60, 25, 12, 5, 3),  # photons of white
    "impulse_noise": (0.03, 0.06, 0.09, 0.17, 0.27),  # share of the values
    "speckle_noise": (0.15, 0.2, 0.35, 0.45, 0.6),  # standard deviation, of white
    "gaussian_blur": (1, 2, 3, 4, 6),  # standard deviation, px
    "defocus_blur": (3, 4, 6, 8, 10),  # radius of the disk, px
    "motion_blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),  # half the line and deviation, px
    "zoom_blur": ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),  # end and step
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),  # added to the value
    "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
    "saturate": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),  # times, plus
    "pixelate": (0.6, 0.5, 0.4, 0.3, 0.25),  # of the side
    "jpeg_compression": (25, 18, 15, 10, 7),  # quality
}


def corrupted(picture, name, severity):
    return corrupt(picture, name, severity, np.random.default_rng(0)).astype(float)


def in_hsv(picture, channel, factor, added):
    hsv = skimage.color.rgb2hsv(picture)
    changed = np.clip(hsv[..., channel] * factor + added, 0, 1)
    # Ours leaves grey grey, which has no hue; theirs makes it red.
    hsv[..., channel] = changed if channel == 2 else np.where(hsv[..., 1] > 0, changed, 0)
    return 255 * skimage.color.hsv2rgb(hsv)


def through_jpeg(picture, quality):
    file = io.BytesIO()
    PIL.Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(PIL.Image.open(file))


def in_squares(picture, share):
    side, box = len(picture), PIL.Image.Resampling.BOX
    small = PIL.Image.fromarray(picture).resize((int(side * share),) * 2, box)
    return np.asarray(small.resize((side, side), box))


THEIRS = {
    "gaussian_blur": lambda x, sigma: skimage.filters.gaussian(
        x.astype(float), sigma, channel_axis=-1, mode="reflect"
    ),
    "brightness": lambda x, added: in_hsv(x, 2, 1, added),
    "contrast": lambda x, factor: x.mean((0, 1)) + factor * (x - x.mean((0, 1))),
    "saturate": lambda x, change: in_hsv(x, 1, *change),
    "pixelate": in_squares,
    "jpeg_compression": through_jpeg,
}


@pytest.mark.parametrize("name", THEIRS)
def test_corruptions_without_chance_are_the_published_ones_at_each_severity(name):
    picture = textured(size=224)
    for severity, value in enumerate(PUBLISHED[name], start=1):
        expected = np.clip(THEIRS[name](picture, value), 0, 255)
        np.testing.assert_allclose(corrupted(picture, name, severity), expected, atol=0.51)


def test_zooms_are_the_published_ones_at_each_severity():
    """The middle of the picture, cut out along whole pixels and enlarged, as the authors do."""
    picture = ndimage.gaussian_filter(textured(size=224).astype(float), (2, 2, 0))
    for severity, (end, step) in enumerate(PUBLISHED["zoom_blur"], start=1):
        factors, total = np.arange(1, end, step), picture.copy()
        for factor in factors:
            side = int(np.ceil(224 / factor))
            cut = slice((224 - side) // 2, (224 - side) // 2 + side)
            total += ndimage.zoom(picture[cut, cut], (224 / side, 224 / side, 1), order=1)
        found = corrupted(picture.astype(np.uint8), "zoom_blur", severity)
        error = np.abs(found - total / (len(factors) + 1)).mean()
        other = np.abs(found - corrupted(picture.astype(np.uint8), "zoom_blur", severity % 5 + 1)).mean()
        assert error < 0.6 < other, (severity, error, other)


NOISES = {  # the grey that they are measured on, and their deviation there, where white is 1
    "gaussian_noise": (128, lambda grey, sigma: sigma),
    "shot_noise": (20, lambda grey, photons: np.sqrt(grey / photons)),
    "impulse_noise": (102, lambda grey, share: np.sqrt(share * (grey**2 + (1 - grey) ** 2) / 2)),
    "speckle_noise": (100, lambda grey, sigma: grey * sigma),
}


@pytest.mark.parametrize("name", NOISES)
def test_noises_are_as_strong_as_the_published_ones_at_each_severity(name):
    """Strong ones are clipped at black and white: so is what is expected."""
    value, deviation = NOISES[name]
    for severity, strength in enumerate(PUBLISHED[name], start=1):
        made = corrupted(np.full((224, 224, 3), value, np.uint8), name, severity)
        expected = deviation(value / 255, strength)
        if name.endswith(("gaussian_noise", "speckle_noise")):
            drawn = value / 255 + expected * np.random.default_rng(1).standard_normal(made.shape)
            expected = np.clip(drawn, 0, 1).std()
        assert made.std() / 255 == pytest.approx(expected, rel=0.03), severity


def published_variance(name, value):
    """Of the place where a point's light goes, along both axes together, px squared."""
    if name == "defocus_blur":
        places = np.arange(-value, value + 1)
        squares = np.square(places)[:, None] + np.square(places)
        return squares[squares <= value**2].mean()
    half, deviation = value
    places = np.arange(2 * half + 1)
    weights = np.exp(-np.square(places) / (2 * deviation**2))
    mean = np.average(places, weights=weights)
    return np.average(np.square(places - mean), weights=weights)


@pytest.mark.parametrize("name", ["defocus_blur", "motion_blur"])
def test_blurs_spread_a_point_as_far_as_the_published_ones(name):
    point = np.zeros((224, 224, 1), np.uint8)
    point[108:117, 108:117] = 255
    own = 2 * (9**2 - 1) / 12
    for severity, value in enumerate(PUBLISHED[name], start=1):
        made = corrupted(point, name, severity)[..., 0]
        rows, columns = np.mgrid[:224, :224]
        places = [
            np.average(np.square(x - np.average(x, weights=made)), weights=made) for x in (rows, columns)
        ]
        assert np.sqrt(sum(places) - own) == pytest.approx(np.sqrt(published_variance(name, value)), rel=0.08)


def test_every_corruption_has_its_published_severities():
    assert (
        set(PUBLISHED) == set(CORRUPTIONS) == {*THEIRS, *NOISES, "zoom_blur", "defocus_blur", "motion_blur"}
    )
    assert {len(values) for values in PUBLISHED.values()} == {SEVERITIES}


def test_half_of_the_impulses_are_black_and_half_white():
    found = corrupt(np.full((100, 100, 3), 99, np.uint8), "impulse_noise", 5, np.random.default_rng(0))
    assert set(np.unique(found)) == {0, 99, 255}
    assert (
        np.mean(found == 0)
        == pytest.approx(0.135, abs=0.01)
        == pytest.approx(np.mean(found == 255), abs=0.02)
    )


def test_an_unknown_corruption_or_severity_is_refused():
    for name, severity, words in (
        ("fog", 1, "unknown corruption 'fog'"),
        ("contrast", 6, "from 1 to 5, got 6"),
    ):
        with pytest.raises(ValueError, match=words):
            corrupt(textured(), name, severity, np.random.default_rng(0))
