"""Clips: what is drawn once for all frames, and the data that have none."""

import functools

import numpy as np
import pytest
from PIL import Image

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


def videos(count=6, frames=7):
    """uint8 [count, frames, 10, 12, 3], all different."""
    return np.random.default_rng(1).integers(0, 256, (count, frames, 10, 12, 3), dtype=np.uint8)


def as_arrays(place, given, **more):
    np.savez(place / "videos.npz", images=given, **more)
    return f"arrays:{place / 'videos.npz'}"


def as_folders(place, given):
    for number, video in enumerate(given):
        folder = place / "frames" / f"v{number}"
        folder.mkdir(parents=True)
        for frame, pixels in enumerate(video):
            Image.fromarray(pixels).save(folder / f"frame{frame + 8}.png")  # 8, 9, 10 and so on
    return f"frames:{place / 'frames'}"


@pytest.mark.parametrize("written", [as_arrays, as_folders])
def test_clips_of_arrays_and_of_folders_of_pictures(written, tmp_path):
    given = videos()
    config = DataConfig(frames=3, frame_stride=2, image_size=8, batch_size=4, test_fraction=0.4)
    spec = written(tmp_path, given)
    train, test = (data.open_source(spec, split, config, 3) for split in ("train", "test"))
    known = {video[0].tobytes(): number for number, video in enumerate(given)}
    split_of = [set(), set()]
    for source, step, found in ((train, 1, split_of[0]), (test, 5, split_of[1])):
        for index in range(0, len(source), 3 if step == 1 else 1):  # the first clip of each video
            clip = source[index]["image"]
            number = known[clip[0].tobytes()]
            np.testing.assert_array_equal(clip, given[number][:5:2])
            found.add(number)
    assert not split_of[0] & split_of[1] and split_of[0] | split_of[1] == set(range(6))
    assert len(train) == 3 * len(split_of[0]) and len(test) == len(split_of[1])
    last = train[2]["image"]
    np.testing.assert_array_equal(last, given[known[train[0]["image"][0].tobytes()]][2::2])
    with data.train_batches(train, config, seed=0) as batches:
        assert next(batches)["image"].shape == (4, 3, 8, 8, 3)
    with pytest.raises(UserError, match=r"at least 9 frames in .*the longest has 7: lower one of them"):
        data.open_source(spec, "train", DataConfig(frames=9), 3)


def test_videos_of_an_array_have_labels_and_its_own_test_set(tmp_path):
    labels = np.array(["run", "jump", "run", "jump", "run", "jump"])
    more = {"test_images": videos(2), "test_labels": labels[:2], "labels": labels}
    spec = as_arrays(tmp_path, videos(), **more)
    train, test = (data.open_source(spec, split, DataConfig(frames=6), 3) for split in ("train", "test"))
    assert train.class_names == ("jump", "run") and train.labels.tolist() == [1, 1, 0, 0] * 3
    assert len(test) == 2 and [test[k]["label"] for k in range(2)] == [1, 0]
    with pytest.raises(UserError, match=r"expected videos in images of shape \[N, T, H, W, C\]"):
        data.open_source(as_arrays(tmp_path, videos().swapaxes(2, 4)), "train", DataConfig(frames=6), 3)


def test_frames_of_another_size_or_broken_cost_their_clips_alone(tmp_path, caplog):
    given = videos(3, 60)
    for split, number in (("train", 0), ("train", 1), ("test", 2)):
        as_folders(tmp_path / f"{split}{number}", given[number : number + 1])
    for split, number in (("train", 0), ("train", 1), ("test", 2)):
        (tmp_path / "all" / split).mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{split}{number}" / "frames" / "v0").rename(tmp_path / "all" / split / f"v{number}")
    root = tmp_path / "all"
    (root / "train" / "v0" / "frame10.png").write_bytes(b"no picture")
    Image.fromarray(given[0, 0, :5]).save(root / "train" / "v1" / "frame10.png")
    source = data.open_source(f"frames:{root}", "train", DataConfig(frames=2), 3)
    broken = [int(source[index]["broken"]) for index in range(118)]
    assert [index for index, count in enumerate(broken) if count] == [1, 2, 60, 61]
    assert "frame10.png has another size than the frames before it, 5 x 12 and 10 x 12" in caplog.text
    assert source.left_out == ("clips with 1 pictures that cannot be read",)
