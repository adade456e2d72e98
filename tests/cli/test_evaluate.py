"""`vq-jax evaluate`: the figures of a run's own evaluation, as a table and as JSON."""

import json

import pytest
from cli_runs import call, trained_run
from prior_runs import STEPS, prior_run
from restorer_runs import restorer_run

from vq_jax.runs.rundir import read_metrics


def last_validation(run):
    rows = [row for row in read_metrics(run) if "validation/loss" in row]
    prefix = "validation/"
    return {name.removeprefix(prefix): value for name, value in rows[-1].items() if name.startswith(prefix)}


def test_the_figures_of_a_tokenizer_are_those_of_its_run(tmp_path, capsys):
    run = trained_run()
    capsys.readouterr()
    assert call("evaluate", run, "-o", tmp_path / "figures.json") == 0
    table = capsys.readouterr().out
    report = json.loads((tmp_path / "figures.json").read_text())
    assert (report["kind"], report["version"], report["step"]) == ("evaluation", 1, 4)
    assert report["figures"] == pytest.approx(last_validation(run), rel=1e-5)
    assert f"{report['pictures']} held-out pictures" in table
    assert f"psnr        {report['figures']['psnr']:.5g}\n" in table
    assert call("evaluate", run, "--metrics", "codes") == 0
    assert "psnr" not in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["maskgit", "noise"])
def test_the_figures_of_a_prior_are_those_of_its_run(kind, tmp_path):
    run = prior_run(kind)
    assert call("evaluate", run, "-o", tmp_path / "figures.json") == 0
    report = json.loads((tmp_path / "figures.json").read_text())
    assert report["step"] == STEPS
    assert report["figures"] == pytest.approx(last_validation(run), rel=1e-5)


@pytest.mark.parametrize("kind", ["restorer", pytest.param("regressor", marks=pytest.mark.ci)])
def test_the_figures_of_a_restorer_are_those_of_its_run(kind, tmp_path):
    run = restorer_run(kind)
    assert call("evaluate", run, "-o", tmp_path / "figures.json") == 0
    figures = json.loads((tmp_path / "figures.json").read_text())["figures"]
    assert figures == pytest.approx(last_validation(run), rel=1e-5)
    assert {"psnr", "input_psnr"} <= figures.keys() and ("codes_psnr" in figures) == (kind == "restorer")


@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoints", "model.safetensors"])
def test_what_is_left_of_a_run_is_not_a_folder_of_pictures(name, tmp_path, capsys):
    (tmp_path / name).mkdir()
    assert call("evaluate", tmp_path, "--against", tmp_path) == 2
    message = capsys.readouterr().err
    assert f"has {name}, as a run or model has, and no config.json: put that back" in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["TOKENIZER", "--metrics", "code"], "unknown metric 'code'; did you mean codes"),
        (["TOKENIZER", "-o", "figures.txt"], "expected a .json file"),
        (["PRIOR", "--metrics", "codes"], "holds a prior, which has only metrics of its own"),
        (["nowhere"], "nowhere is no"),
        (
            ["TOKENIZER", "--metrics", "FID"],
            "give --metrics fd-inception --inception pt_inception-2015-12-05-",
        ),
        (["TOKENIZER", "--metrics", "precision"], "precision is prdc-inception with the published weights"),
    ],
)
def test_a_mistake_is_one_line(arguments, words, capsys):
    runs = {"TOKENIZER": trained_run(), "PRIOR": prior_run()}
    capsys.readouterr()
    assert call("evaluate", *(runs.get(argument, argument) for argument in arguments)) == 2
    output, message = capsys.readouterr()
    assert output == "" and words in message and message.count("\n") == 1
