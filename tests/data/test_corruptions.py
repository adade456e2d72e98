"""Corruptions of pictures at five severities."""

import numpy as np
import pytest
import skimage.color

from vq_jax.data.corruptions import CORRUPTIONS, corrupt


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
