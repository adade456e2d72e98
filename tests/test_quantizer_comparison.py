"""The comparison of quantizers: its cases, its figures, and the program at its smallest."""

import json
import math

import jax
import numpy as np
import pytest
import quantizers as comparison
from PIL import Image

from vq_jax.configs.quantizers import QUANTIZERS
from vq_jax.evaluate import CodeUsage
from vq_jax.types import CodeSpec


def row(name="ema", bits=10, seed=0, **figures):
    return {"quantizer": name, "bits": bits, "seed": seed, "bits_a_position": float(bits), **figures}


def test_every_quantizer_of_the_registry_is_compared_at_about_the_bits():
    made = comparison.cases(7)
    assert {name.partition(":")[0] for name in made} == set(QUANTIZERS)
    for make in made.values():
        for bits in comparison.SIZES:
            latents = (comparison.GRID, comparison.GRID, make(bits).latent_channels)
            grids = jax.tree.leaves(make(bits).build().code_spec(latents))
            codes = [math.prod(spec.shape) * spec.codes_per_position for spec in grids]
            total = sum(n * math.log2(spec.codebook_size) for n, spec in zip(codes, grids, strict=True))
            assert total / comparison.GRID**2 == pytest.approx(bits, abs=0.35)


def test_figures_of_codes_are_known_values():
    specs = (CodeSpec((1,), 8), CodeSpec((2,), 16, codes_per_position=2))
    coarse = np.array([[4, 4, 0, 0, 0, 0, 0, 0]], np.float32)  # 8 codes: 1 bit
    fine = np.zeros((2, 16), np.float32)
    fine[0, :4] = 4  # 16 codes, of which one could use all 16: 2 bits
    fine[1, 5] = 16
    figures = comparison.code_figures(specs, CodeUsage(specs), (coarse, fine))
    assert figures["bits_a_position"] == 0.5 * 3 + 4 + 4
    assert figures["entropy"] == pytest.approx(0.5 * 1 + 2 + 0)
    assert figures["usage"] == pytest.approx((2 / 8 + 4 / 16 + 1 / 16) / 3)
    few = comparison.code_figures(CodeSpec((2,), 1024), CodeUsage(specs), np.eye(1, 1024, 3, np.float32) * 4)
    assert few["usage"] == 1 / 4  # of the four that four latents could use


def test_a_table_has_means_of_seeds_ratios_of_the_timing_and_gaps():
    ratios = {"step_ratio": 2.0, "encode_ratio": 1.0, "decode_ratio": 1.0, "memory_ratio": 1.5}
    figures = {"lpips": 0.2, "usage": 0.5, "entropy": 3.0}
    rows = [row(seed=seed, nmse=0.1 + 0.1 * seed, **figures) for seed in (0, 1)]
    rows += [row("fsq", 14, nmse=0.25)]
    times = [{"quantizer": "ema", "bits": 10, **ratios}]
    lines = comparison.table({"runs": rows, "times": times}).splitlines()
    assert lines[0].startswith("| 10 / 14 bits | nmse |") and len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| `ema` | 0.1500 / - | 0.200 / - | 50% / - | 3.0 / - | 2 / - |")
    assert lines[3].startswith("| `fsq` | - / 0.2500 | - / - |")


def test_sides_take_turns_and_the_fastest_call_counts(monkeypatch):
    calls, clock = [], [0.0]
    monkeypatch.setattr(comparison.time, "perf_counter", lambda: clock[0])

    def side(name, seconds):
        def call():
            calls.append(name)
            clock[0] += seconds[min(calls.count(name) - 1, len(seconds) - 1)]

        return call

    found = comparison.fastest([side("a", [9.0, 3.0, 2.0]), side("b", [9.0, 5.0])], turns=2)
    assert found == [2.0, 5.0] and calls == list("aabbaabb")


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Calls the program with an --output, and returns its report."""
    monkeypatch.chdir(tmp_path)

    def program(*arguments):
        monkeypatch.setattr("sys.argv", ["program", *arguments, "--output", "a.json"])
        comparison.main()
        return json.loads((tmp_path / "a.json").read_text())

    return program


def test_runs_with_other_settings_are_refused(program, tmp_path, capsys):
    (tmp_path / "a.json").write_text(json.dumps({"settings": {"steps": 3}, "runs": [], "times": []}))
    with pytest.raises(SystemExit) as exit:
        program("--steps", "2")
    assert exit.value.code == 2 and "give another --output" in capsys.readouterr().err


@pytest.mark.ci
def test_runs_are_made_once_and_shown(program, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(comparison, "EVALUATORS", ("reconstruction", "codes"))
    monkeypatch.setattr(comparison, "SHORTEST", 0.0)
    chosen = ["--quantizers", "residual:ema", "multi_scale", "--bits", "10", "--steps", "2"]
    first = program(*chosen, "--seeds", "0")
    assert [found["quantizer"] for found in first["runs"]] == ["residual:ema", "multi_scale"]
    assert all(found["step_ratio"] > 0 and found["machine"]["cores"] > 0 for found in first["times"])
    report = program(*chosen, "--seeds", "0", "1", "--plot", "a.png")
    both = report["runs"]
    assert [found for found in both if found["seed"] == 0] == first["runs"]
    assert report["times"] == first["times"]  # not run again
    assert [found["seed"] for found in both] == [0, 1, 0, 1]
    assert len({found["nmse"] for found in both}) == 4
    assert capsys.readouterr().out.count("| `multi_scale` |") == 2
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > 500
