"""`vq-jax evaluate --corruptions`: a table and a plot of how robust a tokenizer is."""

import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cli_runs import call, trained_run
from PIL import Image

from vq_jax import evaluate
from vq_jax.data.corruptions import CORRUPTIONS


def test_figures_of_corrupted_pictures_are_worked_out_by_hand():
    evaluator = evaluate.Robustness()
    target, image = np.zeros((2, 4, 4, 1), np.float32), np.full((2, 4, 4, 1), 0.2, np.float32)
    codes = np.array([[[0, 1], [2, 3]], [[0, 0], [0, 0]]]), np.array([[1], [1]])
    found = np.array([[[0, 1], [2, 0]], [[9, 9], [9, 9]]]), np.array([[2], [1]])
    output = types.SimpleNamespace(reconstruction=jnp.full((2, 4, 4, 1), 0.1), indices=found)
    batch = {"image": image, "target": target, "codes": codes, "valid": np.array([True, False])}
    figures = evaluator.compute(jax.jit(lambda: evaluator.update(evaluator.init(), batch, output))())
    decibel = lambda difference: 20 * np.log10(2 / difference)  # noqa: E731
    expected = {"input_psnr": decibel(0.2), "clean_psnr": decibel(0.1), "psnr": decibel(0.1)}
    assert figures == pytest.approx({**expected, "codes_changed": 2 / 5}, rel=1e-5)


@pytest.mark.ci
def test_a_tokenizer_has_a_table_a_plot_and_figures_of_every_corruption(tmp_path, capsys):
    out, plot = tmp_path / "figures.json", tmp_path / "plot.png"
    arguments = ("--corruptions", "--num", 2, "--plot", plot, "-o", out)
    assert call("evaluate", trained_run(), *arguments) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in CORRUPTIONS) and "2 held-out pictures, corrupted" in text
    with Image.open(plot) as image:
        assert image.width > 1000
    figures = json.loads(out.read_text())["figures"]
    assert len(figures) == len(CORRUPTIONS) * 5 * 4
    for name in CORRUPTIONS:
        assert 0.0 <= figures[f"{name}/5/codes_changed"] <= 1.0
    assert figures["gaussian_noise/5/input_psnr"] < figures["gaussian_noise/1/input_psnr"]


def test_options_that_do_not_belong_together_are_refused(tmp_path, capsys):
    for arguments, words in (
        (("--plot", tmp_path / "plot.png"), "together with --corruptions"),
        (("--corruptions", "--plot", tmp_path / "plot.jpg"), "expected --plot FILE.png"),
        (("--corruptions", "--metrics", "ssim"), "leave --metrics, --against and --save-statistics out"),
    ):
        assert call("evaluate", "nowhere", *arguments) == 2
        assert words in capsys.readouterr().err and not list(tmp_path.iterdir())
