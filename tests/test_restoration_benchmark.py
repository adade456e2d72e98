"""What the benchmark of restoration computes: kernels, choices of settings and tasks, sheets."""

import functools
import json
from types import SimpleNamespace

import fashion_restoration as fashion
import numpy as np
import pytest
import restoration as benchmark
from PIL import Image
from scipy import ndimage
from skimage import data as photographs

from vq_jax.configs import DownscaleConfig, GaussianNoiseConfig, MixConfig, MotionBlurConfig
from vq_jax.data.degrade import degrade
from vq_jax.errors import UserError

pytestmark = pytest.mark.ci

PHOTO = photographs.chelsea()[:150, :203]


def test_deconvolution_is_given_the_kernel_of_the_blur():
    dot = np.zeros((21, 21))
    dot[10, 10] = 1
    expected = ndimage.gaussian_filter(dot, 2.0)[2:19, 2:19]
    np.testing.assert_allclose(benchmark.gaussian_kernel(2.0), expected, atol=1e-6)
    for seed in range(3):
        blurred = degrade(PHOTO, MotionBlurConfig((11.0, 11.0)), np.random.default_rng(seed))
        kernel = benchmark.moved(np.random.default_rng(seed)).astype(float)
        expected = ndimage.convolve(PHOTO.astype(float), kernel[..., None], mode="reflect")
        np.testing.assert_allclose(blurred, expected, atol=0.51)


def test_the_setting_with_the_best_psnr_is_reported(monkeypatch):
    monkeypatch.setattr(
        benchmark, "distances", lambda a, b: dict.fromkeys(benchmark.FIGURES, float(b[0, 0, 0]))
    )

    def constant(picture, generator, *, value):
        return np.full((148, 200, 3), value, np.uint8)

    methods = {
        "constant": [functools.partial(constant, value=value) for value in (0, 120, 255)],
        "bm3d": [lambda *_: 1 / 0],
    }
    monkeypatch.setitem(benchmark.PACKAGES, "bm3d", "no_such_package")
    task = benchmark.Task(DownscaleConfig(4), methods)
    figures, results = benchmark.measure(task, {"cat": PHOTO}, {"ours": functools.partial(constant, value=7)})
    assert figures.keys() == {"constant", "ours"} and figures["constant"]["mean"]["psnr"] == 120
    assert results["given"][0].shape == (37, 50, 3) and results["original"][0].shape == (148, 200, 3)
    rows = benchmark.sheet_rows("title", {name: results[name] for name in ("given", "constant", "original")})
    assert rows.shape == (28 + 132, 3 * 132, 3)
    np.testing.assert_array_equal(rows[28:156, 264:392], results["original"][0][8:136, 32:160])


def test_runs_are_measured_on_what_they_learnt():
    assert benchmark.tasks_of(GaussianNoiseConfig((1.0, 50.0))).keys() == {"noise-25"}
    assert benchmark.tasks_of(DownscaleConfig(4, "area")).keys() == {"downscale-4"}
    (own,) = benchmark.tasks_of(MixConfig((DownscaleConfig(2),))).values()
    assert own.methods.keys() == {"bicubic", "lanczos"}
    run = SimpleNamespace(config=SimpleNamespace(data=SimpleNamespace(degradation=DownscaleConfig(2))))
    assert benchmark.chosen_tasks((), [run]).keys() == {"downscale-2"}
    with pytest.raises(UserError, match="unknown task 'jpeg'; did you mean jpeg-10"):
        benchmark.chosen_tasks(["jpeg"], [])


def test_a_restorer_is_measured_at_the_fidelities_that_it_has():
    def restorer(fidelities):
        config = SimpleNamespace(name="run")
        return SimpleNamespace(
            config=config, fidelities=fidelities, restore=lambda pictures, fidelity: [fidelity + pictures[0]]
        )

    ours = benchmark.of_run(restorer((0.0, 1.0)))
    assert {name: restore(1.0, None) for name, restore in ours.items()} == {
        "run fidelity 0": 1.0,
        "run fidelity 0.5": 1.5,
        "run fidelity 1": 2.0,
    }
    assert benchmark.of_run(restorer((1.0,))).keys() == {"run fidelity 1"}
    tokenizer = SimpleNamespace(config=SimpleNamespace(name="run"), reconstruct=lambda pictures: -pictures)
    assert benchmark.of_run(tokenizer)["run"](np.ones((2, 2, 3)), None).shape == (2, 2, 3)


def test_fashion_pictures_are_measured_beside_bicubic(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 28, 28, 1)).astype(np.uint8)
    labels = np.arange(20) % 10
    data = SimpleNamespace(
        degradation=DownscaleConfig(4), resolve=lambda _: SimpleNamespace(source="fashion", image_size=28)
    )
    restorer = SimpleNamespace(
        config=SimpleNamespace(name="zeros", data=data),
        tokenizer=SimpleNamespace(config=SimpleNamespace(data=None)),
        fidelities=(1.0,),
        restore=lambda pictures, fidelity: [np.zeros((28, 28, 1), np.uint8) for _ in pictures],
    )
    monkeypatch.setattr(fashion.vq_jax, "load_restorer", lambda run: restorer)
    monkeypatch.setattr(fashion, "training_seconds", lambda run: 5.0)
    monkeypatch.setattr(fashion.judging, "fashion", lambda split: (images, labels))
    monkeypatch.setattr(fashion.judging, "classifier", lambda path: {})
    monkeypatch.setattr(fashion.judging, "fingerprint", lambda params: "")
    monkeypatch.setattr(fashion.judging, "classify", lambda params, given: (given[:, 0, 0, 0] % 10, None))
    monkeypatch.setattr(fashion, "lpips", lambda a, b: float(a.shape == b.shape == (56, 56, 1)))
    output = tmp_path / "rows.json"
    monkeypatch.setattr("sys.argv", ["x", "RUN", "--output", str(output), "--sheet", str(tmp_path / "s.png")])
    fashion.main()
    rows = {row["pictures"]: row for row in json.loads(output.read_text())["rows"]}
    assert list(rows) == ["originals", "bicubic", "lanczos", "zeros fidelity 1"]
    assert rows["zeros fidelity 1"]["accuracy"] == 0.1 and rows["zeros fidelity 1"]["training_seconds"] == 5.0
    small = [Image.fromarray(image[..., 0]).resize((7, 7), Image.Resampling.BICUBIC) for image in images]
    expected = [np.asarray(image.resize((28, 28), Image.Resampling.BICUBIC))[..., None] for image in small]
    mean = np.mean([benchmark.psnr(image, other) for image, other in zip(images, expected, strict=True)])
    assert rows["bicubic"]["psnr"] == pytest.approx(mean) and rows["bicubic"]["lpips_alex"] == 1.0
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.size == (10 * 58 - 2, 5 * 58 - 2)
    assert "| originals |  |  |  | " in capsys.readouterr().out
