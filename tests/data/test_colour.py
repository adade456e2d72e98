"""Changes of the colours of training pictures."""

import colorsys
import functools

import numpy as np
import pytest

from vq_jax import data
from vq_jax.configs import ColourConfig, DataConfig
from vq_jax.data.colour import change_colours
from vq_jax.data.crops import Window
from vq_jax.data.examples import ExampleBuilder, RecordRng
from vq_jax.data.in_memory import MemorySource
from vq_jax.data.source import take_crop
from vq_jax.data.variants import Variants

PICTURE = np.random.default_rng(0).integers(85, 145, (16, 16, 3), dtype=np.uint8)
MIDDLE = np.array([0.5, 0.5, 0.5, 0.9])
SWITCHES = {
    "permute": ColourConfig(permute=True),
    "hue": ColourConfig(hue=0.5),
    "saturation": ColourConfig(saturation=0.9),
    "brightness": ColourConfig(brightness=0.5),
}
LUMA = np.array([0.299, 0.587, 0.114])


def changed(colour, seed=0, picture=PICTURE):
    return change_colours(picture, colour, np.random.default_rng(seed))


def test_permuted_channels_take_all_six_orders():
    orders = set()
    for seed in range(40):
        result = changed(SWITCHES["permute"], seed)
        orders.add(
            tuple(next(k for k in range(3) if (result[..., c] == PICTURE[..., k]).all()) for c in range(3))
        )
    assert len(orders) == 6


@pytest.mark.parametrize("name", ["hue", "saturation"])
def test_hue_and_saturation_keep_luma_and_greys(name):
    grey = np.repeat(PICTURE[..., :1], 3, axis=-1)
    for seed in range(5):
        # Rounding to whole numbers, of three channels with weights that sum to one.
        np.testing.assert_allclose(changed(SWITCHES[name], seed) @ LUMA, PICTURE @ LUMA, atol=1.0)
        np.testing.assert_array_equal(changed(SWITCHES[name], seed, grey), grey)
        assert np.abs(changed(SWITCHES[name], seed).astype(int) - PICTURE).max() > 3


def test_a_hue_turns_by_up_to_its_share_and_brightness_is_a_factor():
    pixel = np.array([[[120, 90, 80]]], np.uint8)
    hues = [
        colorsys.rgb_to_hsv(*(changed(ColourConfig(hue=0.1), seed, pixel)[0, 0] / 255))[0]
        for seed in range(60)
    ]
    turns = (np.array(hues) - colorsys.rgb_to_hsv(*(pixel[0, 0] / 255))[0] + 0.5) % 1 - 0.5
    assert -0.15 < turns.min() < -0.05 and 0.05 < turns.max() < 0.15  # hue of YIQ is not quite that of HSV
    factors = [changed(ColourConfig(brightness=0.5), seed).mean() / PICTURE.mean() for seed in range(60)]
    assert 0.49 < min(factors) < 0.6 and 1.4 < max(factors) < 1.51


def test_values_are_clipped():
    bright = np.full((2, 2, 3), 250, np.uint8)
    results = [changed(SWITCHES["brightness"], seed, bright) for seed in range(9)]
    assert max(result.max() for result in results) == 255


def test_a_switch_does_not_change_what_the_others_draw():
    both = ColourConfig(permute=True, brightness=0.5)
    factor = changed(SWITCHES["brightness"])[0, 0, 0] / PICTURE[0, 0, 0]
    np.testing.assert_allclose(changed(both), changed(SWITCHES["permute"]) * factor, atol=2.0)


def test_training_crops_change_by_their_own_generator_and_held_out_ones_never():
    config = DataConfig(image_size=16, colour=ColourConfig(permute=True, hue=0.5, brightness=0.3))
    record = functools.partial(take_crop, MemorySource(PICTURE[None]), 0)
    build = ExampleBuilder(config)
    first, again = (build(record, RecordRng(MIDDLE, (3,)))["image"] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (first != build(record, RecordRng(MIDDLE, (4,)))["image"]).any()
    np.testing.assert_array_equal(build(record, RecordRng(Window(0, 0, 16, 16), (3,)))["image"], PICTURE)


def test_cached_variants_with_other_colours_have_another_fingerprint():
    source, plain = MemorySource(PICTURE[None]), DataConfig(image_size=16)
    coloured = DataConfig(image_size=16, colour=SWITCHES["hue"])
    assert Variants(source, plain, 2).fingerprint != Variants(source, coloured, 2).fingerprint
    assert (Variants(source, plain, 2)[0]["image"] != Variants(source, coloured, 2)[0]["image"]).any()


def test_grey_pictures_are_refused_where_they_come_in():
    grey = MemorySource(np.zeros((3, 16, 16, 1), np.uint8))
    config = DataConfig(image_size=16, batch_size=1, colour=SWITCHES["hue"])
    with pytest.raises(ValueError, match="have 1 channel: omit it"):
        data.train_batches(grey, config, seed=0)
    with pytest.raises(ValueError, match="have 1 channel: omit it"):
        Variants(grey, config, 1)
