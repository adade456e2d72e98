"""Commands with a prior of clips: `sample` of clips, `predict`."""

import re

import numpy as np
import pytest
from cli_runs import call
from clip_runs import FRAMES, SIDE, clip_prior
from PIL import Image
from prior_runs import untrained_prior
from shared import made_once

from vq_jax.data.video_file import index_video


def model():
    return made_once("clip-prior-model", clip_prior().save)


def test_clips_are_drawn_into_animations_and_strips_with_each_in_a_file(tmp_path, capsys):
    assert call("sample", model(), "--num", 3, "--steps", 2, "-o", tmp_path / "drawn.gif") == 0
    assert "3 clips" in capsys.readouterr().out
    with Image.open(tmp_path / "drawn.gif") as image:
        assert image.n_frames == FRAMES and image.info["duration"] == 120  # GIF counts hundredths of a second
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == [f"0000{n}.gif" for n in range(3)]
    assert call("sample", model(), "--num", 2, "--steps", 2, "--frames", 3, "-o", tmp_path / "drawn.png") == 0
    with Image.open(tmp_path / "drawn.png") as image:
        assert image.size == (3 * (2 * SIDE + 4) - 4, 2 * 2 * SIDE + 12)
    names = {path.name for path in (tmp_path / "drawn").iterdir()}
    assert {"00000.png", "00001.png", "00002.gif"} <= names  # files of another kind are not its own


def test_clips_that_cannot_be_drawn_or_continued_are_refused(tmp_path, capsys):
    output, of_pictures = tmp_path / "out.gif", untrained_prior(tmp_path / "pictures", "maskgit")

    def refused(*arguments):
        assert call(*arguments) == 2
        assert not list(tmp_path.glob("out*"))
        return capsys.readouterr().err

    assert "expected a .png file to write for -o" in refused("sample", of_pictures, "-o", output)
    assert "expected --fps above 0" in refused("sample", model(), "--fps", 0, "-o", output)
    assert "draws pictures, not clips" in refused(
        "sample", of_pictures, "--frames", 3, "-o", output.with_suffix(".png")
    )
    assert "no such video" in refused("predict", model(), tmp_path / "none.mp4", "-o", output)
    assert "expected a file .mp4" in refused("predict", model(), tmp_path, "-o", tmp_path / "out.avi")


@pytest.fixture
def video(tmp_path):
    from made_videos import numbered_frames, write

    write(tmp_path / "video.mp4", numbered_frames(12))
    return tmp_path / "video.mp4"


@pytest.mark.ci
def test_a_video_is_continued_and_compared(tmp_path, capsys, video):
    steps = ("--steps", 2)
    assert call("predict", model(), video, "--given", 5, "--frames", 9, *steps, "-o", tmp_path / "a.png") == 0
    assert "5 given and 9 new frames" in capsys.readouterr().out
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (14 * (2 * SIDE + 4) - 4, 2 * SIDE)
    more = ("--given", 6, "--compare", *steps, "-o", tmp_path / "b.gif")
    assert call("predict", model(), video, *more) == 0
    said = capsys.readouterr().out
    assert "the last 5 of 6 given frames are used" in said and "4 of 4 frames are in the video: PSNR" in said
    with Image.open(tmp_path / "b.gif") as image:
        assert image.n_frames == 10 and image.size == (SIDE, 2 * SIDE)


@pytest.mark.ci
def test_frames_given_are_those_of_the_video_at_the_size_of_the_prior(tmp_path, video):
    assert call("predict", model(), video, "--steps", 2, "-o", tmp_path / "all.mp4") == 0
    continued = index_video(tmp_path / "all.mp4")
    frames = np.stack(list(continued.frames(1)))
    assert frames.shape == (FRAMES + 4, SIDE, SIDE, 1)  # what a window looks at is kept of a longer video
    levels = np.median(frames[:FRAMES], axis=(1, 2, 3))  # 5 more in each frame, from 40 on; the last 9 of 12
    np.testing.assert_allclose(levels, 40 + 5 * np.arange(3, 12), atol=3)  # as lossy as two encodings


@pytest.mark.ci
def test_videos_that_cannot_be_continued_are_refused(tmp_path, capsys, video):
    of_pictures = untrained_prior(tmp_path / "pictures", "maskgit")
    (tmp_path / "no.mp4").write_bytes(b"no video")
    for arguments, message in (
        ((model(), video, "--given", 99), "expected at least --given 99 frames in .*, got 12"),
        ((model(), video, "--given", 0), "expected --given of at least 1, got 0"),
        ((of_pictures, video), "draws pictures, not clips"),
        ((model(), tmp_path / "no.mp4"), "none can be read: no.mp4 .it is no video, or"),
    ):
        assert call("predict", *arguments, "-o", tmp_path / "out.gif") == 2
        error = capsys.readouterr().err
        assert re.search(message, error), error
    assert not (tmp_path / "out.gif").exists()
