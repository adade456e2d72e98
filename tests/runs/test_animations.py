"""Videos that are written to be looked at."""

import numpy as np
import pytest
from etils import epath
from PIL import Image, ImageSequence

from vq_jax.errors import UserError
from vq_jax.runs import report
from vq_jax.runs.animations import write_video


def clip(channels=3, height=40, width=56, frames=5):
    """Smooth frames: each is of one colour, with a bright square that moves."""
    made = np.empty((frames, height, width, channels), np.uint8)
    for number in range(frames):
        made[number] = np.array([30 * number, 200 - 20 * number, 90])[:channels]
        made[number, 10:20, 8 * number : 8 * number + 10] = 240
    return made


@pytest.mark.parametrize("channels", [1, 3])
def test_a_gif_holds_the_frames_and_repeats(channels, tmp_path):
    write_video(tmp_path / "a.gif", clip(channels), fps=20)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.info["loop"] == 0 and image.info["duration"] == 50
        found = np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)])
    np.testing.assert_array_equal(found, np.broadcast_to(clip(channels), found.shape))  # few colours


def test_a_strip_has_the_frames_side_by_side(tmp_path):
    write_video(tmp_path / "a.png", clip(height=56))
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (5 * 56 + 4 * 4, 56)
        np.testing.assert_array_equal(np.asarray(image)[:, 60:116], clip(height=56)[1])


@pytest.mark.ci
@pytest.mark.parametrize("shape", [(3, 40, 56), (1, 40, 56), (3, 39, 55)])
def test_an_mp4_has_the_frames_their_colours_and_their_rate(shape, tmp_path):
    pytest.importorskip("av")
    from vq_jax.data.video_file import index_video, opened

    channels, height, width = shape
    frames = clip(*shape)
    write_video(epath.Path(tmp_path) / "a.mp4", frames, fps=12.5)
    video = index_video(tmp_path / "a.mp4")
    found = np.stack(video.read(range(5), channels))
    assert len(video) == 5 and found.shape[1:3] == (height + height % 2, width + width % 2)
    inside = np.abs(found[:, :height, :width].astype(int) - frames)
    assert np.median(inside) <= 2 and inside.mean() < 4
    with opened(tmp_path / "a.mp4") as (_, stream):
        assert float(stream.average_rate) == 12.5


def test_other_files_are_an_error_and_nothing_is_written(tmp_path):
    with pytest.raises(UserError, match=r"expected a file \.mp4, \.gif or \.png \(a strip\), got .*a\.avi"):
        write_video(tmp_path / "a.avi", clip())
    assert not list(tmp_path.iterdir())


def test_a_report_of_clips_shows_them_moving(tmp_path):
    (tmp_path / "images").mkdir()
    clips = [clip(), clip()]
    lines = report._animated(epath.Path(tmp_path), [clips, clips])
    assert lines[0] == "![The same clips, moving](images/final.gif)"
    with Image.open(tmp_path / "images" / "final.gif") as image:
        # Three times as large, two beside each other, two above each other.
        assert image.n_frames == 5 and image.size == (2 * 3 * 56 + 4, 2 * 3 * 40 + 4)
