"""Runs that start from another run, and runs that are resumed without their options."""

import json
import shutil

import cli_runs
import jax
import numpy as np
import pytest
from cli_runs import SMALL, STEPS, arrays_file, call

from vq_jax.cli.train import parse
from vq_jax.pretrained.load_tokenizer import load_tokenizer
from vq_jax.runs.rundir import read_config, read_metrics

SIZES = SMALL[SMALL.index("--data.image-size") :]  # the model is that of the run that it starts from


@pytest.fixture(scope="session")
def run():
    return cli_runs.trained_run()


def moved(before, after):
    """The parts of a tokenizer's variables that are not the same to the bit."""
    parts = {
        **{part: (before["params"][part], after["params"][part]) for part in before["params"]},
        "codebook": (before["codebook"], after["codebook"]),
    }
    same = lambda a, b: all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))  # noqa: E731
    return {name for name, (a, b) in parts.items() if not same(a, b)}


def test_a_decoder_is_trained_further_with_encoder_and_codebook_unchanged(run, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    start = ("--data", f"arrays:{arrays_file()}", "--steps", 2, "--init", run, "--init-parts", "decoder")
    assert call("train", "vqvae-photos", *SIZES, *start) == 0
    tuned = load_tokenizer("runs/vqvae-photos-tuned")
    assert tuned.config.model == read_config(run).model
    assert moved(load_tokenizer(run).variables, tuned.variables) == {"decoder"}
    assert f"Starting from the weights in {run}, of step {STEPS}; training decoder only" in caplog.text


@pytest.mark.ci
def test_the_decoder_of_a_gan_is_trained_further_and_resumes_without_the_run_it_started_from(
    run, tmp_path, monkeypatch, caplog
):
    monkeypatch.chdir(tmp_path)
    source = shutil.copytree(run, tmp_path / "source")
    arguments = (
        *("train", "vqgan-photos", *SIZES, "--data", f"arrays:{arrays_file()}", "--init", source),
        *("--init-parts", "decoder", "--losses.perceptual-weight", 0),
        *("--losses.disc-start", 0, "--losses.adversarial-start", 0),
    )
    assert call(*arguments, "--steps", 2) == 0
    assert "with a new discriminator" in caplog.text
    before = load_tokenizer(source).variables
    assert moved(before, load_tokenizer("runs/vqgan-photos-tuned").variables) == {"decoder"}
    assert (
        call(
            "train",
            "vqgan-photos",
            *SIZES,
            "--data",
            f"arrays:{arrays_file()}",
            "--steps",
            1,
            "--workdir",
            "next",
            "--init",
            "runs/vqgan-photos-tuned",
            "--losses.perceptual-weight",
            0,
        )
        == 0
    )
    assert "its discriminator too" in caplog.text
    shutil.rmtree(source)
    assert call(*arguments, "--steps", 4) == 0
    assert call("resume", "runs/vqgan-photos-tuned", "--steps", 6) == 0
    tuned = load_tokenizer("runs/vqgan-photos-tuned")
    assert tuned.step == 6 and moved(before, tuned.variables) == {"decoder"}


def test_resume_ends_as_the_uninterrupted_run_did(run, tmp_path):
    copied = shutil.copytree(run, tmp_path / "copy")
    shutil.rmtree(copied / "checkpoints" / str(STEPS))
    assert call("resume", copied) == 0
    rows = [
        [{n: v for n, v in row.items() if "time/" not in n} for row in read_metrics(at)]
        for at in (run, copied)
    ]
    assert rows[0] == rows[1]
    digests = [
        json.loads((at / "checkpoints" / str(STEPS) / "meta" / "metadata").read_text())
        for at in (run, copied)
    ]
    assert digests[0] == digests[1]


def test_parts_are_given_with_commas_or_spaces_and_the_model_is_that_of_the_run(run):
    for parts in (
        ["--init-parts", "encoder,decoder"],
        ["--init-parts=encoder,decoder"],
        ["--init-parts", "encoder", "decoder"],
    ):
        chosen = parse(["vqvae-photos", "--init", str(run), *parts, "--model.codebook-size", "32"])
        assert chosen.config.training.init_parts == ("encoder", "decoder")
        assert chosen.config.training.trained_groups == ("encoder", "decoder")
        assert chosen.config.model.channels == 8 and chosen.config.model.quantizer.codebook_size == 32


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["vqvae-photos", "--init-parts", "decoder"], "needs training.init"),
        (["vqvae-photos", "--init", "nowhere"], "nowhere is not a run directory"),
        (["vqgan-photos", "--init", "RUN", "--init-parts", "encoder"], "set losses.adaptive to False"),
        (
            ["vqvae-photos-phases", "--init", "RUN", "--init-parts", "encoder"],
            "the phase codebook trains codebook",
        ),
        (["prior-fashion", "--init", "RUN"], "trains a prior, and RUN holds a tokenizer"),
        (
            ["vqvae-photos", "--init", "RUN", "--model.codebook-size", "32"],
            "codebook_size: 16 there, 32 here",
        ),
    ],
)
def test_a_start_that_cannot_be_is_one_message_and_makes_no_run(
    arguments, words, run, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    named = [str(run) if argument == "RUN" else argument for argument in arguments]
    assert call("train", *named, "--data", f"arrays:{arrays_file()}") == 2
    message = capsys.readouterr().err
    assert words.replace("RUN", str(run)) in " ".join(message.split()) and "Traceback" not in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "expected a run directory"),
        (["nowhere"], "not a run directory"),
        (["RUN", "--seed", "3"], "training.seed: 0 there, 3 requested"),
        (["RUN", "--steps", "3"], "has taken 4 steps, and training.steps = 3 is fewer"),
    ],
)
def test_what_cannot_be_resumed_is_one_message(arguments, words, run, capsys):
    assert call("resume", *[run if argument == "RUN" else argument for argument in arguments]) == 2
    assert words in capsys.readouterr().err
