"""Video files: frames by their numbers, clips, and files that are not as they should be."""

import logging

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("av")
from made_videos import HEIGHT, WIDTH, number_of, numbered_frames, write, write_sound  # noqa: E402

from vq_jax.configs import DataConfig  # noqa: E402
from vq_jax.data import open_source, train_batches  # noqa: E402
from vq_jax.data.video_file import index_video  # noqa: E402
from vq_jax.errors import UserError  # noqa: E402

pytestmark = pytest.mark.ci  # the default installation has no PyAV

COUNT = 30


def folder(place, frames):
    """Two videos to train on, one held out."""
    for name in ("train/a", "train/b", "test/c"):
        (place / name).parent.mkdir(exist_ok=True)
        write(place / f"{name}.mp4", frames)
    return place


def opened(path, split="train", channels=3, **fields):
    return open_source(f"video:{path}", split, DataConfig(**{"frames": 4, **fields}), channels)


def numbers(clip):
    return [number_of(frame) for frame in clip]


# Containers whose times and keyframes are kept in different ways; frames that wait for later ones (bf).
FILES = {
    "plain.mp4": {},
    "waiting.mkv": {"bf": 3},
    "open-groups.mp4": {"bf": 2, "x264-params": "open-gop=1"},
    "no-index.ts": {"bf": 2},
    "old.mpg": {"codec": "mpeg2video", "bf": 2},
    "ten-bits.mkv": {"pix_fmt": "yuv420p10le", "bf": 2},
    "interlaced.mp4": {"flags": "+ildct+ilme", "bf": 2},
    "varying.mp4": {"times": [number * number // 3 + 4 * number for number in range(COUNT)], "bf": 2},
}


@pytest.mark.parametrize("name", FILES)
def test_frames_are_read_by_their_numbers_in_the_order_of_presentation(name, tmp_path):
    path = write(tmp_path / name, numbered_frames(COUNT), **FILES[name])
    video = index_video(path)
    assert len(video) == COUNT
    for first in (0, 1, 7, 8, 9, 16, 26):
        frames = video.read(range(first, first + 4), 3)
        assert numbers(frames) == list(range(first, first + 4))
        assert frames[0].shape == (HEIGHT, WIDTH, 3) and frames[0].dtype == np.uint8
    assert numbers(video.read([2, 11, 29], 1)) == [2, 11, 29]
    assert numbers(video.frames(1)) == list(range(COUNT))


def test_not_all_of_a_file_is_decoded(tmp_path, monkeypatch):
    from vq_jax.data import video_file

    video = index_video(write(tmp_path / "a.mp4", numbered_frames(40), g=4, bf=0))
    decoded, decode = [], video_file._frames
    monkeypatch.setattr(
        video_file, "_frames", lambda *places: (decoded.append(f) or f for f in decode(*places))
    )
    assert numbers(video.read([33, 34], 3)) == [33, 34] and len(decoded) == 3  # from the keyframe 32 on


def test_clips_are_cut_out_of_videos(tmp_path):
    folder(tmp_path, numbered_frames(COUNT))
    train, test = opened(tmp_path, frame_stride=3), opened(tmp_path, "test", frame_stride=3)
    # Ten frames from the first to the last of a clip.
    assert len(train) == 2 * (COUNT - 9) and len(test) == 3
    assert train[3]["image"].shape == (4, HEIGHT, WIDTH, 3) and numbers(train[3]["image"]) == [3, 6, 9, 12]
    assert numbers(train[-1]["image"]) == [20, 23, 26, 29]
    assert [numbers(test[k]["image"])[0] for k in range(3)] == [0, 10, 20]
    assert train.frames == 4 and train.num_classes is None
    single = opened(tmp_path, frames=None)
    assert len(single) == 2 * COUNT and single[5]["image"].shape == (HEIGHT, WIDTH, 3)
    assert numbers([single[5]["image"], single[COUNT + 7]["image"]]) == [5, 7]


def test_clips_are_the_same_whether_frames_stay_in_memory_or_not(tmp_path, monkeypatch):
    from vq_jax.data import clips

    for name in "ab":
        write(tmp_path / f"{name}.mp4", numbered_frames(COUNT))
    config = DataConfig(frames=4, batch_size=4, image_size=32, resize="random")
    batches = []
    for most in (2**29, 0):
        monkeypatch.setattr(clips, "_CACHE_BYTES", most)
        with train_batches(opened(tmp_path), config, seed=0) as stream:
            batches.append(next(stream)["image"])
    assert batches[0].shape == (4, 4, 32, 32, 3)
    np.testing.assert_array_equal(*batches)


def test_the_end_of_a_single_video_is_held_out(tmp_path):
    path = write(tmp_path / "a.mp4", numbered_frames(COUNT))
    train, test = opened(path, test_fraction=0.3), opened(path, "test", test_fraction=0.3)
    assert numbers(train[-1]["image"]) == [17, 18, 19, 20]
    assert [numbers(test[k]["image"])[0] for k in range(len(test))] == [21, 25]
    with pytest.raises(
        UserError, match=r"at least two videos in .*, or one of at least 40 frames.*one of 30"
    ):
        opened(path, frames=20)


def test_folders_of_videos_are_splits_and_classes(tmp_path):
    for split in ("train", "val"):
        for name in ("jump", "run"):
            (tmp_path / split / name).mkdir(parents=True)
            write(tmp_path / split / name / "a.mp4", numbered_frames(5))
    train, test = opened(tmp_path), opened(tmp_path, "test")
    assert train.class_names == test.class_names == ("jump", "run") and train.num_classes == 2
    assert train.labels.tolist() == [0, 0, 1, 1] and [test[k]["label"] for k in range(2)] == [0, 1]


def test_videos_shorter_than_a_clip_are_left_out(tmp_path):
    for name, count in (("a", 3), ("b", 6), ("c", 7)):
        write(tmp_path / f"{name}.mp4", numbered_frames(count))
    train, test = opened(tmp_path), opened(tmp_path, "test")
    assert len(train) + (4 if len(train) == 3 else 3) == 7 and len(test) == 1
    assert train.left_out == ("1 video of fewer than 4 frames",)
    message = r"at least 9 frames in video:.* \(data\.frames = 5, data\.frame_stride = 2\), the longest has 7"
    with pytest.raises(UserError, match=message):
        opened(tmp_path, frames=5, frame_stride=2)


def picture(path):
    Image.fromarray(numbered_frames(1)[0]).save(path, "PNG")


BAD = {
    "picture.mp4": (picture, r"it is a picture: use folder:PATH"),
    "sound.mp4": (write_sound, "it has no video stream"),
    "text.mp4": (lambda path: path.write_text("a video"), "it is no video, or damaged or truncated"),
    "empty.mp4": (lambda path: path.write_bytes(b""), "it is no video, or damaged or truncated"),
    "unordered.avi": (
        lambda path: write(path, numbered_frames(9), bf=3),
        "no times in their order: rewrite it with ffmpeg",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_no_video_is_an_error_alone_and_left_out_among_others(name, tmp_path, caplog):
    make, message = BAD[name]
    make(tmp_path / name)
    for path in (tmp_path / name, tmp_path):
        with pytest.raises(UserError, match=rf"none can be read: {name} \(.*{message}"):
            opened(path)
    for other in "ab":
        write(tmp_path / f"{other}.mp4", numbered_frames(5))
    with caplog.at_level(logging.WARNING):
        source = opened(tmp_path)
    assert len(source) == 2 and source.left_out == ("1 that cannot be read",)
    assert f"broken video {name} (" in caplog.text and "left out" in caplog.text


def test_what_is_not_there_or_has_only_pictures_is_an_error(tmp_path):
    with pytest.raises(UserError, match="a video file or a folder of them, .*nothing.mp4 does not exist"):
        opened(tmp_path / "nothing.mp4")
    picture(tmp_path / "a.png")
    with pytest.raises(
        UserError, match=r"none of its 1 files has the extension of a video.*left out: 1 \.png"
    ):
        opened(tmp_path)
    with pytest.raises(UserError, match=r"did you mean video:.*a\.mp4"):
        open_source(str(write(tmp_path / "a.mp4", numbered_frames(2))), "train", DataConfig(), 3)


def test_of_a_truncated_file_the_whole_frames_are_used(tmp_path, caplog):
    noise = np.random.default_rng(0).integers(0, 256, (COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8)
    whole = write(tmp_path / "whole.mp4", noise, container_options={"movflags": "faststart"}, bf=2)
    content = whole.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(content[: len(content) * 2 // 3])
    with caplog.at_level(logging.WARNING):
        source = opened(cut, frames=None, test_fraction=0.1)
    found, _ = source._stretches[0].video, source[0]
    assert 10 < len(found) < 25
    assert f"truncated video cut.mp4: of 30 frames the first {len(found)} are used" in caplog.text
    original = index_video(whole).read(range(len(found)), 3)
    np.testing.assert_array_equal(found.read(range(len(found)), 3)[:-3], original[:-3])


def test_a_clip_that_is_damaged_is_replaced_by_one_of_the_next_video(tmp_path, caplog):
    noise = np.random.default_rng(0).integers(0, 256, (COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8)
    source = opened(folder(tmp_path, noise))
    first = source._stretches[0].video.path
    content = bytearray(first.read_bytes())
    start = content.find(b"mdat") + 3000
    content[start : start + 3000] = bytes(3000)
    first.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        broken = [int(source[index]["broken"]) for index in range(len(source))]
    assert sum(broken) > 0 and set(broken) == {0, 1} and not any(broken[COUNT - 3 :])
    assert caplog.text.count("broken video train/a.mp4, clips of it are replaced") == 1
    replaced = source[broken.index(1)]["image"]
    np.testing.assert_array_equal(replaced, source[COUNT - 3]["image"])


def test_a_turned_video_is_read_upright(tmp_path):
    frames = numbered_frames(4)
    frames[:, : HEIGHT // 2] = 0  # the upper half
    turned = index_video(write(tmp_path / "a.mp4", frames, rotation=90)).read([0], 3)[0]
    assert turned.shape == (WIDTH, HEIGHT, 3)
    plain = index_video(write(tmp_path / "b.mp4", frames)).read([0], 3)[0]
    np.testing.assert_array_equal(turned, np.rot90(plain))


def test_colours_are_those_that_were_written(tmp_path):
    frames = np.empty((2, 48, 64, 3), np.uint8)
    frames[:] = (200, 60, 30)
    for options in ({}, {"pix_fmt": "yuvj420p"}, {"pix_fmt": "yuv420p10le"}):
        found = index_video(write(tmp_path / "a.mkv", frames, **options)).read([1], 3)[0]
        assert np.abs(found.astype(int) - (200, 60, 30)).max() <= 2


def test_without_pyav_the_message_says_how_to_get_it(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r'need PyAV, which is not installed: pip install "vq-jax\[video\]"'):
        opened(tmp_path)
