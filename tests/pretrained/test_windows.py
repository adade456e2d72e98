"""Large pictures go through a network window by window, and no window's border shows."""

import numpy as np
import pytest
from scipy import ndimage

from vq_jax.pretrained.windows import in_windows


def blurred(pictures, scale=1):
    """A network that sees 4 px around each pixel, and enlarges."""
    given = pictures.repeat(scale, axis=1).repeat(scale, axis=2).astype(np.float32)
    found = [ndimage.uniform_filter(picture, (9, 9, 1), mode="nearest") for picture in given]
    return np.round(found).astype(np.uint8)


@pytest.mark.parametrize("blend", [4, 8])
@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("size", [(120, 90), (33, 64), (32, 32), (40, 200), (5, 3)])
def test_a_picture_in_windows_is_that_of_the_whole(size, scale, blend):
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    calls = []

    def network(pictures):
        calls.append(pictures.shape)
        return blurred(pictures, scale)

    found = in_windows(network, picture, window=32, margin=8, blend=blend, scale=scale, multiple=4)
    np.testing.assert_array_equal(found, blurred(picture[None], scale)[0])
    assert len(set(calls)) == 1 and max(calls[0][1:3]) <= 32 and not any(n % 4 for n in calls[0][1:3])


def test_windows_that_disagree_fade_into_one_another():
    numbers = iter(range(0, 250, 40))

    def network(pictures):
        return np.full_like(pictures, next(numbers))

    options = {"window": 32, "margin": 8, "blend": 8, "scale": 1, "multiple": 4}
    row = in_windows(network, np.zeros((8, 72, 1), np.uint8), **options)
    steps = np.diff(row[0, :, 0].astype(int))
    assert row[0, 0, 0] == 0 and steps.min() >= 0 and steps.max() <= 6  # 40 levels over 8 px
