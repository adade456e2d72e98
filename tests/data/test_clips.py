"""Clips: what is drawn once for all frames, and the data that have none."""

import functools

import numpy as np
import pytest

from vq_jax import data
from vq_jax.configs import (
    MLPVQVAE,
    ColourConfig,
    DataConfig,
    ExperimentConfig,
    PriorDataConfig,
    ResidualVQVAE,
    ViTVQ,
)
from vq_jax.configs.degradations import JpegConfig
from vq_jax.data.examples import ExampleBuilder, RecordRng
from vq_jax.data.source import crop_record
from vq_jax.data.variants import Variants
from vq_jax.errors import UserError


def still(frames=3, height=20, width=30):
    """A clip whose frames are the same picture."""
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.stack([picture] * frames)


@pytest.mark.parametrize("resize", ["none", "short-side", "random"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_every_frame_of_a_clip_is_cropped_mirrored_and_coloured_as_the_first(resize, mirrored):
    config = DataConfig(
        frames=3,
        image_size=(12, 8),
        resize=resize,
        colour=ColourConfig(permute=True, hue=0.3, brightness=0.2),
    )
    window = np.array([0.3, 0.7, 0.2, 0.1 if mirrored else 0.9])
    record = {"image": still()}
    example = ExampleBuilder(config)(functools.partial(crop_record, record), RecordRng(window, (5,)))
    clip = example["image"]
    assert clip.shape == (3, 12, 8, 3) and clip.dtype == np.uint8
    assert (clip == clip[:1]).all()
    # And as a picture of its own would be.
    record = {"image": still()[1]}
    alone = ExampleBuilder(config)(functools.partial(crop_record, record), RecordRng(window, (5,)))
    np.testing.assert_array_equal(clip[2], alone["image"])


def test_held_out_clips_are_cut_side_by_side_like_pictures():
    config = DataConfig(source="moving-fashion", frames=3, image_size=32, test_limit=12)
    source = data.open_source("moving-fashion", "test", config, 1)
    (batch,) = data.all_test_batches(source, config, batch_size=12)
    assert batch["image"].shape == (12, 3, 32, 32, 1) and batch["valid"].all()
    first = source[41]["image"]  # of 12 evenly spaced ones of 1,000
    np.testing.assert_array_equal(batch["image"][0], first[:, 16:48, 16:48])


def test_variants_of_clips_are_clips():
    config = DataConfig(frames=3, image_size=32)
    variants = Variants(data.open_source("moving-fashion:5", "train", config, 1), config, 2)
    assert len(variants) == 10 and variants[7]["image"].shape == (3, 32, 32, 1)


@pytest.mark.parametrize("spec, channels", [("photos", 3), ("fashion", 1)])
def test_pictures_where_clips_are_asked_for_are_an_error(spec, channels):
    message = f"expected videos for data.frames = 4, {spec} holds pictures: omit data.frames"
    with pytest.raises(UserError, match=message):
        data.open_source(spec, "train", DataConfig(frames=4), channels)


def test_what_is_for_pictures_alone_is_refused_with_clips():
    with pytest.raises(ValueError, match=r"data\.degradation jpeg is for pictures, and data\.frames = 4"):
        DataConfig(frames=4, degradation=JpegConfig())
    clips = DataConfig(frames=4, image_size=28)
    for model in (MLPVQVAE(), ViTVQ(image_size=(28, 28), patch_size=4)):
        with pytest.raises(ValueError, match=f"{model.architecture} takes pictures, and data.frames = 4"):
            ExperimentConfig("t", model, clips)
    assert ExperimentConfig("t", ResidualVQVAE(), clips).data.lengths == (4, 28, 28)


def test_a_run_over_a_tokenizer_of_clips_has_its_clips():
    tokenizer = DataConfig(source="moving-fashion", frames=9, frame_stride=2)
    assert PriorDataConfig().resolve(tokenizer).lengths == (9, 64, 64)
    assert PriorDataConfig(frames=5).resolve(tokenizer).lengths == (5, 64, 64)
