"""The commands of a tokenizer on video files."""

import re
import shutil

import numpy as np
import pytest
from cli_runs import call
from jitted import drawn
from PIL import Image
from shared import made_once

pytest.importorskip("av")
from made_videos import HEIGHT, WIDTH, numbered_frames, write  # noqa: E402

from vq_jax.cli.files import read_codes, write_codes  # noqa: E402
from vq_jax.configs import (  # noqa: E402
    DataConfig,
    ExperimentConfig,
    PatchVQVAE,
    VectorQuantizerEMAConfig,
    VideoVQVAE,
)
from vq_jax.data.video_file import index_video  # noqa: E402
from vq_jax.evaluate import psnr  # noqa: E402
from vq_jax.pretrained.build import build_model, image_shape  # noqa: E402
from vq_jax.pretrained.tokenizer import Tokenizer  # noqa: E402

pytestmark = pytest.mark.ci  # the default installation has no PyAV

SIZES = {"channels": 8, "residual_channels": 4, "num_res_blocks": 1}


def made(model, frames):
    """A tokenizer that was not trained, and the directory of its model."""
    network = model(
        image_channels=1, quantizer=VectorQuantizerEMAConfig(codebook_size=16, code_dim=4), **SIZES
    )
    config = ExperimentConfig("t", network, DataConfig(frames=frames, image_size=16))
    built = build_model(config)
    return Tokenizer(built, drawn(built, np.zeros((1, *image_shape(config)), np.float32), std=0.3), config, 0)


def saved(name, model, frames):
    place = made_once(name, lambda directory: made(model, frames).save(directory / "model"))
    return place / "model"


@pytest.fixture(scope="session")
def model():
    return saved("video-model", VideoVQVAE, 9)


@pytest.fixture
def video(tmp_path):
    (tmp_path / "videos").mkdir()
    return write(tmp_path / "videos" / "one.mp4", numbered_frames(27))


def frames_of(path):
    file = index_video(path)
    return np.stack(file.read(range(len(file)), 1))


def test_a_video_is_encoded_and_decoded_in_chunks_as_the_whole(model, video, tmp_path, capsys):
    assert call("encode", model, video, "-o", tmp_path / "codes.npz") == 0
    # 27 frames become 1 + 7 codes in time, of 4 x 4 pixels.
    codes = 8 * HEIGHT * WIDTH // 16
    assert f"{video}: 27 frames, {codes} codes\n1 video, {tmp_path}" in capsys.readouterr().out
    found = read_codes(tmp_path / "codes.npz")
    assert found.names == ["one"] and found.sizes == [(27, HEIGHT, WIDTH)] and found.rates == (25.0,)
    tokenizer, frames = made(VideoVQVAE, 9), frames_of(video)
    np.testing.assert_array_equal(found.codes[0], tokenizer.encode(frames))
    assert call("decode", model, tmp_path / "codes.npz", "-o", tmp_path / "out") == 0
    decoded = frames_of(tmp_path / "out" / "one.mp4")
    expected = tokenizer.reconstruct(frames)
    assert decoded.shape == expected.shape and np.median(np.abs(decoded.astype(int) - expected)) <= 3


def test_reconstructions_stand_below_their_frames(model, video, tmp_path, capsys):
    write(video.parent / "two.mp4", numbered_frames(5))
    (video.parent / "broken.mp4").write_text("no video")
    assert call("reconstruct", model, video.parent, "-o", tmp_path / "out") == 0
    out = capsys.readouterr().out
    assert "one.mp4: 27 frames, PSNR" in out and "2 videos (1 left out): mean PSNR" in out
    written, frames = frames_of(tmp_path / "out" / "one.mp4"), frames_of(video)
    assert written.shape == (27, 2 * HEIGHT, WIDTH, 1)
    assert np.median(np.abs(written[:, :HEIGHT].astype(int) - frames)) <= 2
    decoded = made(VideoVQVAE, 9).reconstruct(frames)
    mean = np.mean([psnr(a, b) for a, b in zip(frames, decoded, strict=True)])
    assert f"one.mp4: 27 frames, PSNR {mean:.2f} dB" in out


def test_a_model_that_is_not_causal_takes_whole_videos(video, tmp_path):
    model = saved("clip-model", PatchVQVAE, 8)
    assert call("encode", model, video, "-o", tmp_path / "codes.npz") == 0
    found = read_codes(tmp_path / "codes.npz")
    np.testing.assert_array_equal(found.codes[0], made(PatchVQVAE, 8).encode(frames_of(video)))
    assert call("decode", model, tmp_path / "codes.npz", "-o", tmp_path / "out") == 0
    assert len(index_video(tmp_path / "out" / "one.mp4")) == 27


def test_several_files_of_codes_have_a_video_each(model, video, tmp_path):
    shutil.copy(video, video.parent / "two.mp4")
    assert call("encode", model, video.parent, "-o", tmp_path / "codes", "--shard-rows", 1) == 0
    parts = [read_codes(tmp_path / f"codes-0000{number}.npz") for number in range(2)]
    assert [part.names for part in parts] == [["one"], ["two"]]


def test_pictures_and_videos_are_not_taken_for_each_other(model, video, tmp_path, capsys):
    picture = tmp_path / "picture.png"
    Image.fromarray(numbered_frames(1)[0]).save(picture)
    pictures = saved("picture-model", PatchVQVAE, None)
    output = ("-o", tmp_path / "out.npz")
    for run, given, message in (
        (model, [picture], "expected videos for the tokenizer in .*trained on clips, got pictures"),
        (pictures, [video], "expected pictures for the tokenizer in .*trained on pictures, got videos"),
        (model, [picture, video], "expected pictures or videos, got both, among them the video .*one.mp4"),
        (model, [tmp_path / "no.mp4"], "no such video"),
    ):
        assert call("encode", run, *given, *output) == 2
        assert re.search(message, capsys.readouterr().err)
    broken = video.parent / "broken.mp4"
    broken.write_bytes(picture.read_bytes())
    assert call("encode", model, video, broken, *output) == 2
    assert "broken.mp4 (it is a picture" in capsys.readouterr().err
    assert not (tmp_path / "out.npz").exists()


def test_codes_of_videos_that_do_not_fit_are_refused(model, tmp_path, capsys):
    grid = np.zeros((3, 4, 6), np.int32)
    for size, codes, message in (
        ((9, 16, 24), grid[:2], r"not those of a video of 9 x 16 x 24: expected a grid \(3, 4, 6\), got"),
        ((9, 16, 24), grid + 16, "in 0..15|below 16|16"),
    ):
        write_codes(tmp_path / "codes.npz", ["a"], [size], [codes], rates=[25.0])
        assert call("decode", model, tmp_path / "codes.npz", "-o", tmp_path / "out") == 2
        assert re.search(message, capsys.readouterr().err)
    write_codes(tmp_path / "codes.npz", ["a"], [(9, 16, 24)], [grid], rates=[0.0])
    assert call("decode", model, tmp_path / "codes.npz", "-o", tmp_path / "out") == 2
    assert "expected rates [N] above 0" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("preset", ["prior-fashion-noise", "upscale-photos-x4"])
def test_what_is_trained_over_codes_of_pictures_refuses_a_tokenizer_of_clips(preset, model, tmp_path, capsys):
    given = ("--tokenizer", model, "--workdir", tmp_path / "run")
    assert call("train", preset, *given) == 2
    assert "was trained on clips (data.frames = 9): give another --tokenizer" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
