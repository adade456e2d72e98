import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cli_runs
import numpy as np
import pytest
from cli_runs import STEPS, call, pictures, train_arguments
from PIL import Image
from processes import Forked
from runs import poison

from vq_jax.cli.files import read_codes, write_codes
from vq_jax.cli.main import main
from vq_jax.cli.train import parse
from vq_jax.configs.presets import load_preset
from vq_jax.errors import UserError
from vq_jax.runs import orbax_managers


@pytest.fixture(scope="session")
def run():
    return cli_runs.trained_run()


@pytest.fixture
def copied(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


@pytest.fixture
def training():
    """Arguments that train the small run in a directory, with other values after it."""
    return lambda workdir, *more: train_arguments(workdir, *more)


@pytest.fixture
def refused(capsys):
    """Calls the program, which must refuse; returns its message."""

    def refused(*arguments):
        capsys.readouterr()
        assert call(*arguments) == 2
        output, message = capsys.readouterr()
        assert "Traceback" not in message and output == ""
        assert "vq-jax" in message
        return message

    return refused


@pytest.fixture
def picture_files(tmp_path):
    """Three picture files, of sizes that the model's stride does and does not divide."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    files = []
    for name, height, width in (("one.png", 16, 24), ("two.jpg", 17, 22), ("three.webp", 5, 31)):
        Image.fromarray(pictures(1, height, width)[0]).save(folder / name)
        files.append(folder / name)
    return files


def tree(directory):
    """Every file below a directory with its bytes."""
    return {path: path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def rows_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def newest(run):
    return max((run / "checkpoints").iterdir(), key=lambda path: int(path.name))


def test_help_names_every_command_and_preset(capsys):
    assert call("--help") == 0
    output = capsys.readouterr().out
    for name in ("train", "reconstruct", "encode", "decode", "inspect", "prepare", "vqvae-photos-phases"):
        assert f"\n  {name}" in output
    assert call() == 2
    assert call("--version") == 0
    assert capsys.readouterr().out.rstrip().endswith("vq-jax 0.1.0")


@pytest.mark.parametrize(
    "command, words",
    [
        (
            "train",
            ["--steps INT", "--batch-size INT", "--seed INT", "--data STR", "--workdir DIR", "vqvae-cifar10"],
        ),
        ("reconstruct", ["RUN PICTURE|VIDEO|FOLDER [...] -o DIR"]),
        ("encode", ["RUN PICTURE|VIDEO|FOLDER [...] -o FILE.npz"]),
        ("decode", ["RUN FILE.npz [...] -o DIR"]),
        ("inspect", ["RUN"]),
        ("prepare", ["NAME", "--data-dir DIR"]),
    ],
)
def test_help_of_a_command_says_what_it_takes(command, words, capsys):
    assert call(command, "--help") == 0
    output = capsys.readouterr().out
    assert all(word in output for word in words), output


@pytest.mark.parametrize(
    "preset, own", [("vqgan-photos", "--model.codebook-size"), ("prior-fashion", "--tokenizer")]
)
def test_help_of_training_shows_what_people_set_and_names_the_help_with_the_rest(preset, own, capsys):
    assert call("train", preset, "--help") == 0
    output = capsys.readouterr().out
    shown = [line.split()[0].strip(",") for line in output.splitlines() if line.startswith("  --")]
    assert own in shown and {"--data", "--steps", "--optimizer.learning-rate", "--init"} <= set(shown)
    assert 10 <= len(shown) <= 14
    assert f"vq-jax train {preset} --help-all" in output and "--training.keep-checkpoints" not in output


@pytest.mark.parametrize("preset", ["vqgan-photos", "prior-fashion", "prior-fashion-noise"])
def test_every_field_has_a_line_of_help(preset, capsys):
    call("train", preset, "--help-all")
    lines = [line.strip("│| ") for line in capsys.readouterr().out.splitlines()]
    bare = [
        option
        for option, text in zip(lines, lines[1:], strict=False)
        if option.startswith("--") and text.startswith("(default")
    ]
    assert set(bare) <= {
        "--optimizer.name {adam,adamw,lion,adafactor,sgd}",
        "--discriminator.optimizer.name {adam,adamw,lion,adafactor,sgd}",
        "--phases.0.kind {autoencoder,codebook,joint}",
    }


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["trian"], ["unknown command 'trian'; did you mean train"]),
        (["train", "vqvae-foto"], ["unknown preset 'vqvae-foto'; did you mean vqvae-photos"]),
        (["train", "nowhere.py"], ["no such file 'nowhere.py'"]),
        (["train", "--model.codebok-size", "3"], ["--model.codebok-size", "--model.codebook-size"]),
        (["train", "--steps", "many"], ["--steps", "expected a whole number, got 'many'"]),
        (
            ["train", "--losses.reconstruction", "l3"],
            ["must be one of l2, l1, log_laplace, bernoulli, got 'l3'; did you mean"],
        ),
        (
            ["train", "--model.codebook-size", "0"],
            ["model.quantizer.codebook_size must be at least 1, got 0"],
        ),
        (["train", "--steps", "3", "--optimizer.warmup-steps", "5"], ["warmup_steps = 5 must be less than"]),
        (["train", "--steps", "3", "--phases.0.steps", "5"], ["the phases take 5 steps"]),
        (["train", "--batch-size", "6"], ["data.batch_size = 6", "4 devices", "a multiple of 4"]),
        (["train", "--training.mesh-data", "3"], ["data = 3 and fsdp = 1", "4 devices"]),
        (["train", "--data.image-size", "30"], ["data.image_size = 30 must be a multiple of 4"]),
        (["train", "vqvae-fashion-mlp", "--data.image-size", "32"], ["--model.image-size 32 32"]),
        (["train", "vqvae-fashion", "--model.image-channels", "3"], ["3 channels", "fashion has 1"]),
        (["train", "--model.image-channels", "2"], ["model.image_channels must be 1 (grey) or 3"]),
        (["train", "--data", "fotos"], ["got 'fotos'; did you mean photos"]),
        (["train", "--data", "texts"], ["got 'texts'; did you mean folder:texts?"]),
        (["train", "--data", "grey.npz"], ["got 'grey.npz'; did you mean arrays:grey.npz?"]),
        (["train", "--data", "folder:nowhere"], ["nowhere"]),
        (["train", "--data", "folder:empty"], ["empty"]),
        (["train", "--data", "folder:texts"], ["expected pictures in texts", "1 files"]),
        (["train", "--data", "folder:broken"], ["expected at most one broken picture", "bad-0.jpg"]),
        (["train", "--data", "arrays:nowhere.npz"], ["nowhere.npz"]),
        (["train", "--data", "arrays:texts/note.txt"], ["texts/note.txt is not an .npz file"]),
        (["train", "--data", "arrays:other.npz"], ["an array named images", "the file holds pixels"]),
        (
            ["train", "--data", "arrays:grey.npz"],
            ["3 channels", "grey.npz has 1", "--model.image-channels 1"],
        ),
        (["train", "--workdir"], ["--workdir"]),
        (["train", "--workdir", "s3://bucket/run"], ["must be a local path or gs://"]),
        (["inspect", "http://host/run"], ["RUN must be a local path", "copy it to a local directory"]),
        (["encode", "run", "a\0b.png", "-o", "a.npz"], ["has a null byte"]),
        (["decode", "run", "a.npz", "-o", "s3://bucket/a"], ["--output must be a local path"]),
        (["train", "--workdir", "runs/" + "n" * 300], ["must be a shorter path"]),
        (["train", "a\0b.py"], ["has a null byte"]),
        (["train", "--lr", "1e-3"], ["--lr", "did you mean --optimizer.learning-rate?"]),
        (["train", "--seed", str(2**63)], ["training.seed must be at most 4294967295"]),
        (["train", "--optimizer.learning-rate", "inf"], ["learning_rate must be a finite number, got inf"]),
        (["sample", "run", "-o", "grid.png", "--num", str(10**20)], ["--num must be at most"]),
        (["sample", "run", "-o", "grid.png", "--num", "1.5"], ["--num: expected a whole number, got '1.5'"]),
        (["reconstruct", "run"], ["Missing from vq-jax reconstruct", "-o DIR"]),
        (["encode", "run", "-o", "a.npz", "--bad"], ["Unrecognized options: --bad"]),
    ],
)
def test_a_mistake_is_one_message_and_makes_no_run(arguments, words, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "texts", "broken"):
        Path(folder).mkdir()
    Path("texts/note.txt").write_text("no picture")
    for index in range(4):
        Path(f"broken/bad-{index}.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(40))
        Image.fromarray(pictures(1, 20, 20)[0]).save(f"broken/good-{index}.png")
    np.savez("other.npz", pixels=pictures(4, 20, 20))
    np.savez("grey.npz", images=pictures(4, 20, 20, 1)[..., 0])
    before = tree(tmp_path)
    message = refused(*arguments)
    assert all(word in " ".join(message.split()) for word in words), message
    assert len(message.splitlines()) <= 3, message
    assert tree(tmp_path) == before and not Path("runs").exists()


def test_a_run_writes_what_people_look_at(run, capsys, caplog):
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"2", "4"}
    assert {"config.json", "metrics.jsonl", "report.md"} <= {path.name for path in run.iterdir()}
    assert [row["step"] for row in rows_of(run)] == [2, 4]


def test_the_short_options_are_the_fields(run):
    config = json.loads((run / "config.json").read_text())
    assert config["training"]["steps"] == STEPS and config["data"]["batch_size"] == 8
    assert config["data"]["source"].startswith("arrays:") and config["training"]["seed"] == 0


def test_a_finished_run_says_so_and_a_longer_one_goes_on(copied, training, caplog, capsys):
    before = tree(copied / "checkpoints")
    assert call(*training(copied)) == 0
    assert f"has all its {STEPS} steps; nothing to do" in caplog.text
    assert tree(copied / "checkpoints") == before
    config = (copied / "config.json").read_bytes()
    assert call(*training(copied, "--steps", STEPS - 1)) == 2
    assert f"has taken {STEPS} steps, and training.steps = {STEPS - 1} is fewer" in capsys.readouterr().err
    assert (copied / "config.json").read_bytes() == config
    caplog.clear()
    assert call(*training(copied, "--steps", 6)) == 0
    assert "Resuming from the checkpoint of step 4" in caplog.text
    assert "The cosine schedule spans the run" in caplog.text
    assert newest(copied).name == "6"
    assert [row["step"] for row in rows_of(copied)] == [2, 4, 6]


def test_an_experiment_of_ones_own_is_trained_wherever_it_stands_on_the_line(tmp_path, training, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(
        "import dataclasses\n"
        "from vq_jax.configs.presets import load_preset\n"
        "config = dataclasses.replace(load_preset('vqvae-photos'), name='mine')\n"
    )
    asked = []

    def train(config, workdir, **options):
        asked.append((config.name, config.data.batch_size, str(workdir)))
        raise UserError("not here")

    monkeypatch.setattr("vq_jax.train.train", train)
    _, _, *rest = training("unused")
    fields = rest[: rest.index("--workdir")]
    assert call("train", *fields, "mine.py") == 2
    assert call("train", *fields, "--workdir", "vqvae-fashion", "mine.py") == 2
    assert asked == [("mine", 8, "runs/mine"), ("mine", 8, "vqvae-fashion")]


def test_a_run_of_another_configuration_is_left_alone(copied, training, refused):
    before = tree(copied)
    message = refused(*training(copied, "--seed", 3, "--model.codebook-size", 8))
    assert "model.quantizer.codebook_size: 16 there, 8 requested" in message
    assert "training.seed: 0 there, 3 requested" in message
    assert "another --workdir" in message
    assert tree(copied) == before


def test_other_pictures_in_the_same_place_are_noticed(copied, tmp_path, training, refused):
    config = json.loads((copied / "config.json").read_text())
    file = shutil.copy(config["data"]["source"].removeprefix("arrays:"), tmp_path / "pictures.npz")
    assert call(*training(copied, "--data", f"arrays:{file}")) == 0  # the same pictures, moved
    config = json.loads((copied / "config.json").read_text())
    assert config["data"]["source"] == f"arrays:{file}"
    np.savez(file, images=pictures(40, 24, 24, seed=1))
    for steps in (STEPS, STEPS + 1):
        message = refused(*training(copied, "--data", f"arrays:{file}", "--steps", steps))
        assert "are not those that the run in" in message
        assert json.loads((copied / "config.json").read_text()) == config


@pytest.mark.parametrize(
    "workdir, words",
    [
        ("file", "exists and holds no run"),
        ("file/below", "cannot write the run directory"),
        ("folder", "exists and holds no run"),
        ("torn", "cannot be read as a configuration"),
    ],
)
def test_a_directory_that_is_no_run_is_left_alone(workdir, words, tmp_path, training, refused):
    (tmp_path / "file").write_text("a file")
    for name, content in (("folder/note.txt", "notes"), ("torn/config.json", "{")):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(content)
    before = tree(tmp_path)
    assert words in refused(*training(tmp_path / workdir))
    assert tree(tmp_path) == before


def test_a_run_killed_while_its_configuration_was_written_starts_afresh(tmp_path, training, refused):
    (tmp_path / ".vq-jax-0.part").write_text("{")
    message = refused(*training(tmp_path, "--batch-size", 6))
    assert "a multiple of 4" in message
    assert call(*training(tmp_path)) == 0


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(damage, copied, training, caplog, capsys):
    largest = max((newest(copied) / "state/d").iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    before = tree(copied)
    assert call("inspect", copied) == 0
    assert "step 2," in capsys.readouterr().out
    assert "checkpoint of step 4" in caplog.text and "Trying the checkpoint before it" in caplog.text
    assert tree(copied) == before
    caplog.clear()
    assert call(*training(copied)) == 0
    assert "checkpoint of step 4" in caplog.text
    assert "Resuming from the checkpoint of step 2" in caplog.text
    assert {path.name for path in (copied / "checkpoints").iterdir()} == {"2", "4", "4.damaged"}


def test_a_run_without_a_whole_checkpoint_says_so(copied, refused):
    for step in (copied / "checkpoints").iterdir():
        (step / "_CHECKPOINT_METADATA").unlink(missing_ok=True)
        shutil.rmtree(step / "state")
    assert "none of the checkpoints" in refused("inspect", copied)
    shutil.rmtree(copied / "checkpoints")
    assert "holds no checkpoint yet" in refused("inspect", copied)


def test_a_disk_that_fills_in_a_save_leaves_the_last_whole_checkpoint(
    tmp_path, training, refused, monkeypatch
):
    saves = []

    def fill(point):
        if point == "during-save":
            saves.append(point)
            if len(saves) == 2:
                raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(orbax_managers, "at_point", fill)
    message = refused(*training(tmp_path / "run"))
    assert "checkpoint of step 4: not saved" in message and "no space left on device" in message
    assert "The checkpoint of step 2 is whole" in message
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["2"]
    assert call(*training(tmp_path / "run")) == 0


def test_a_disk_that_fills_between_saves_is_told(tmp_path, training, refused, monkeypatch):
    def fill(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "metrics.jsonl")

    monkeypatch.setattr("vq_jax.runs.metrics_log.MetricsLog.write", fill)
    message = refused(*training(tmp_path / "run"))
    assert "No space left on device: 'metrics.jsonl'; make room" in message


def test_a_loss_that_is_not_finite_stops_the_run_before_a_save(tmp_path, training, monkeypatch, capsys):
    poison(monkeypatch, "param_norm", float("inf"), step=4)
    assert call(*training(tmp_path, "--training.log-every", 1)) == 1
    message = capsys.readouterr().err
    assert "the run was stopped" in message and "optimizer.learning_rate" in message
    assert "\nvq-jax: param_norm is inf at step 4" in message and "Traceback" not in message
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["2"]
    assert [row["step"] for row in rows_of(tmp_path)] == [1, 2, 3]


def test_a_validation_loss_that_is_not_finite_is_never_saved(tmp_path, training, monkeypatch, capsys):
    monkeypatch.setattr(
        "vq_jax.train.tasks.validation.Validation.figures",
        lambda *_: ({"loss": float("nan")}, np.zeros(0)),
    )
    assert call(*training(tmp_path)) == 1
    assert "validation/loss is nan at step 2" in capsys.readouterr().err
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_broken_picture_and_a_small_one_do_not_end_a_run(tmp_path, training, caplog):
    folder = tmp_path / "folder"
    folder.mkdir()
    for index, picture in enumerate(pictures(11, 40, 40)):
        Image.fromarray(picture).save(folder / f"{index}.jpg")
    whole = (folder / "4.jpg").read_bytes()
    (folder / "4.jpg").write_bytes(whole[: len(whole) // 2])
    for index in range(5, 11):
        Image.fromarray(pictures(1, 5, 12)[0]).save(folder / f"{index}.jpg")
    arguments = training(tmp_path / "run", "--data", f"folder:{folder}", "--data.test-fraction", "0.2")
    assert call(*arguments) == 0
    assert "4.jpg" in caplog.text
    assert "pictures smaller than data.image_size 16 are enlarged" in caplog.text
    assert rows_of(tmp_path / "run")[-1]["data/broken_pictures"] >= 1


def test_decoding_what_was_encoded_is_the_reconstruction(run, picture_files, tmp_path, capsys):
    codes, decoded, beside = tmp_path / "deep/codes", tmp_path / "decoded", tmp_path / "beside"
    assert call("encode", run, *picture_files, "-o", codes) == 0
    assert call("decode", run, f"{codes}.npz", "-o", decoded) == 0
    assert call("reconstruct", run, *picture_files, "-o", beside) == 0
    assert capsys.readouterr().out.count("PSNR") == 3
    for path in picture_files:
        original = np.asarray(Image.open(path).convert("RGB"))
        alone = np.asarray(Image.open(decoded / f"{path.stem}.png"))
        grid = np.asarray(Image.open(beside / f"{path.stem}.png"))
        assert alone.shape == original.shape
        scale = grid.shape[1] // alone.shape[1]
        np.testing.assert_array_equal(grid[-scale * alone.shape[0] :: scale, ::scale], alone)
        np.testing.assert_array_equal(grid[: scale * alone.shape[0] : scale, ::scale], original)
    assert not list(tmp_path.rglob("*.part"))


def test_files_of_one_name_are_kept_apart(run, picture_files, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for name in ("one.png", "one-1.png"):
        shutil.copy(picture_files[0], other / name)
    assert call("encode", run, picture_files[0], *sorted(other.iterdir()), "-o", tmp_path / "codes.npz") == 0
    with np.load(tmp_path / "codes.npz") as file:
        assert len(set(file["names"].tolist())) == 3


def test_inspect_shows_parameters_codes_and_figures(copied, capsys):
    with (copied / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')  # a row that is being written
    assert call("inspect", copied) == 0
    output = capsys.readouterr().out
    for words in (
        "vqvae-patches, step 4",
        "encoder:",
        "16 codes, 4 wide, ema",
        "validation/loss:",
        "perplexity:",
    ):
        assert words in output


@pytest.mark.parametrize("command", ["inspect", "encode", "decode", "reconstruct"])
def test_a_directory_that_holds_no_run_is_named(command, picture_files, tmp_path, refused):
    np.savez(tmp_path / "codes.npz", names=["a"], sizes=[[4, 4]], codes_0=np.zeros((1, 1), np.int32))
    rest = {"inspect": [], "decode": [tmp_path / "codes.npz"]}.get(command, picture_files)
    output = [] if command == "inspect" else ["-o", tmp_path / "out"]
    message = refused(command, tmp_path, *rest, *output)
    assert "is not a run directory: it has no config.json" in message
    assert not (tmp_path / "out").exists()


def test_without_arguments_the_default_run_is_trained(monkeypatch):
    asked = []

    def train(config, workdir, **options):
        asked.append((config, str(workdir)))
        raise UserError("not here")

    monkeypatch.setattr("vq_jax.train.train", train)
    assert call("train") == 2
    assert asked == [(load_preset("vqgan-photos"), "runs/vqgan-photos")]


def test_a_quantizer_is_chosen_by_name_and_its_fields_are_set():
    short = parse(["vqvae-photos", "--model.codebook-size", "8"]).config.model.quantizer
    assert (short.name, short.num_stages, short.inner.name) == ("residual", 2, "ema")
    assert (short.inner.codebook_size, short.inner.revive_threshold) == (8, 0.03)
    arguments = [
        "--quantizer",
        "gradient",
        "--model.quantizer.codebook-weight",
        "0.5",
        "--model.code-dim",
        "4",
    ]
    for given in (arguments, [f"--quantizer={arguments[1]}", *arguments[2:]]):
        chosen = parse(["vqvae-photos", *given]).config.model.quantizer
        assert (chosen.name, chosen.codebook_weight, chosen.code_dim) == ("gradient", 0.5, 4)
        # what both quantizers have is kept
        assert (chosen.codebook_size, chosen.revive_threshold) == (256, 0.03)


def test_a_quantizer_is_chosen_around_another_and_the_fields_of_both_are_set():
    arguments = ["--quantizer", "grouped:fsq", "--model.quantizer.num-groups", "3"]
    chosen = parse(["vqvae-photos", *arguments, "--model.quantizer.inner.levels", "8", "6", "5"])
    quantizer = chosen.config.model.quantizer
    assert (quantizer.name, quantizer.num_groups, quantizer.inner.levels) == ("grouped", 3, (8, 6, 5))
    around = parse(["vqvae-photos", "--quantizer", "grouped", "--model.codebook-size", "8"])
    inner = around.config.model.quantizer.innermost
    assert (inner.name, inner.codebook_size, inner.revive_threshold) == ("ema", 8, 0.03)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["vqvae-photos", "--quantizer", "gradiant"], "unknown quantizer 'gradiant'; did you mean gradient?"),
        (["vqvae-photos", "--quantizer"], "--quantizer"),
        (["vqvae-photos", "--quantizer", "fsq:ema"], "the quantizer fsq wraps no other"),
        (["prior-fashion", "--quantizer", "ema"], "prior-fashion trains a prior: give it to the run of its"),
        (["vqvae-photos", "--model.quantizer.codebook-weight", "1"], "--model.quantizer.codebook-weight"),
    ],
)
def test_a_wrong_quantizer_is_refused(arguments, words, refused):
    assert words in " ".join(refused("train", *arguments).split())


def test_a_degradation_is_chosen_by_name_and_its_fields_are_set():
    sigma = ["--data.degradation.sigma", "10", "20.5"]
    for given in (["--degradation", "gaussian_noise"], ["--degradation=gaussian_noise"]):
        chosen = parse(["vqvae-photos", *given, *sigma]).config.data.degradation
        assert (chosen.name, chosen.sigma) == ("gaussian_noise", (10.0, 20.5))
    mix = parse(["vqvae-photos", "--degradation", "mix", "--data.degradation.steps.3.quality", "5", "9"])
    assert mix.config.data.degradation.steps[3].quality == (5, 9)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["vqvae-photos", "--degradation", "jpg"], "unknown degradation 'jpg'; did you mean jpeg?"),
        (["vqvae-photos", "--degradation", "downscale"], "one size: use a restorer"),
        (["vqvae-fashion", "--degradation", "grey"], "these pictures have 1 channel: choose another"),
        (["prior-fashion", "--degradation", "jpeg"], "which learns the codes of pictures as they are: omit"),
        (
            ["vqvae-photos", "--degradation", "jpeg", "--data.degradation.quality", "9", "5"],
            "data.degradation.quality must be two numbers, low and high",
        ),
    ],
)
def test_a_wrong_degradation_is_refused(arguments, words, refused):
    assert words in " ".join(refused("train", *arguments).split())


def test_files_of_codes_hold_one_grid_or_several_a_picture(tmp_path):
    grids = [np.arange(4).reshape(2, 2), np.arange(16).reshape(4, 4)]
    for codes in ([grids[0], grids[1]], [tuple(grids), tuple(grids[::-1])]):
        write_codes(tmp_path / "codes.npz", ["a", "b"], [(8, 8), (7, 5)], codes)
        with np.load(tmp_path / "codes.npz") as file:
            names = (
                {"codes_0", "codes_1"} if codes[0] is grids[0] else {"codes_0.0", "codes_0.1", "codes_1.0"}
            )
            assert names <= set(file)
            assert (str(file["kind"]), int(file["version"])) == ("codes", 1)
        found = read_codes(tmp_path / "codes.npz")
        assert found[:2] == (["a", "b"], [(8, 8), (7, 5)])
        for one, other in zip(found[2], codes, strict=True):
            assert type(one) is type(other)
            np.testing.assert_equal(one, other)


CODES = {"names": ["a", "b"], "sizes": [[8, 8], [8, 8]], "codes_0": np.zeros((2, 2), np.int32)}


@pytest.mark.parametrize(
    "arrays, words",
    [
        (
            {**CODES, "codes_1": np.full((2, 2), 16)},
            "codes from 0 to 15 for this model's codebook, got 16 to 16",
        ),
        ({**CODES, "codes_1": np.full((2, 2), -1)}, "got -1 to -1"),
        ({**CODES, "codes_1": np.zeros((2, 2))}, "expected integer codes, got float64"),
        ({**CODES, "codes_1": np.zeros(4, int)}, "expected codes of shape [B, 4, 4]"),
        ({**CODES, "codes_1": np.zeros((0, 2), int)}, "got none"),
        ({**CODES, "codes_1": np.zeros((1, 2), int)}, "expected a size of at most (4, 8)"),
        ({**CODES, "codes_1": np.array([{}])}, "cannot be read: codes_1.npy holds pickled objects"),
        (CODES, "names 2 pictures and has no codes_1"),
        ({**CODES, "codes_1": np.zeros((2, 2), int), "names": ["a", "b\0c"]}, "names that a file can have"),
        ({**CODES, "kind": "film", "version": 1}, "has kind 'film', expected codes"),
        ({**CODES, "kind": "codes", "version": 2}, "version 2"),
        ({"codes_0": np.zeros((2, 2), int)}, "has no names, sizes"),
        ({**CODES, "names": "a"}, "expected names [N] and integer sizes [N, 2]"),
        ({**CODES, "sizes": [[8.0, 8.0]] * 2}, "expected names [N] and integer sizes [N, 2]"),
        (b"no archive", "is not an .npz file"),
        ("truncated", "is not an .npz file"),
        ("flipped", "cannot be read"),
        (None, "codes.npz does not exist"),
    ],
)
def test_a_wrong_file_of_codes_is_refused_and_nothing_written(arrays, words, run, tmp_path, refused):
    file = tmp_path / "codes.npz"
    if isinstance(arrays, dict):
        np.savez(file, **arrays)
    elif isinstance(arrays, bytes):
        file.write_bytes(arrays)
    elif arrays is not None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **CODES, codes_1=np.arange(4).reshape(2, 2))
        content = bytearray(buffer.getvalue())
        if arrays == "truncated":
            content = content[:-60]
        else:
            content[content.find(b"codes_1.npy") + 60] ^= 255
        file.write_bytes(content)
    assert words in refused("decode", run, file, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["reconstruct", "encode"])
@pytest.mark.parametrize(
    "name, words",
    [
        ("nowhere.png", "no such picture"),
        ("note.png", "note.png cannot be read as a picture"),
        ("half.jpg", "half.jpg cannot be read as a picture"),
        (None, "expected at least one picture file or folder of pictures, got none"),
    ],
)
def test_a_wrong_picture_is_refused_and_nothing_written(
    command, name, words, run, picture_files, tmp_path, refused
):
    (tmp_path / "note.png").write_text("no picture")
    content = picture_files[1].read_bytes()
    (tmp_path / "half.jpg").write_bytes(content[: len(content) // 2])
    given = [] if name is None else [picture_files[0], tmp_path / name]
    assert words in refused(command, run, *given, "-o", tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


def test_an_output_that_cannot_be_written_is_named(run, picture_files, tmp_path, refused, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("a file")
    picture = picture_files[0]
    assert call("encode", run, picture, "-o", tmp_path / "codes.npz") == 0
    assert "cannot write file/one.png" in refused("decode", run, "codes.npz", "-o", "file")
    assert "the directory ." in refused("encode", run, picture, "-o", ".")
    assert "the directory pictures" in refused("encode", run, picture, "-o", "pictures")
    before = tree(tmp_path)
    assert "would overwrite a file that the command reads" in refused(
        "reconstruct", run, picture, "-o", "pictures"
    )
    assert tree(tmp_path) == before


@pytest.mark.parametrize("command, end", [("encode", "/codes.npz"), ("reconstruct", "")])
def test_an_output_below_a_file_is_told_after_its_picture(command, end, run, picture_files, tmp_path, capsys):
    (tmp_path / "file").write_text("a file")
    assert call(command, run, picture_files[0], "-o", f"{tmp_path}/file{end}") == 2
    assert capsys.readouterr().err.startswith("vq-jax: cannot write")


def test_an_interrupt_outside_training_ends_with_130(monkeypatch, capsys):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("vq_jax.cli.train.train", interrupted)
    assert main(["train"]) == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.ci
def test_signals_save_the_run_and_the_same_command_goes_on(tmp_path, training):
    run = tmp_path / "run"
    arguments = [str(part) for part in training(run, "--steps", 10**6)]

    def train_until(seen, number):
        process = Forked(main, arguments)
        deadline = time.monotonic() + 120
        while not seen() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        _, message = process.communicate(timeout=60)
        assert "Traceback" not in message, message
        return process.returncode, message

    def steps():
        names = [path.name for path in (run / "checkpoints").glob("*")]
        return [int(name) for name in names if name.isdigit()]

    status, message = train_until(steps, signal.SIGINT)
    assert status == 130
    assert "by SIGINT and saved; the same command resumes from there" in message
    first = max(steps())
    status, message = train_until(lambda: max(steps()) > first, signal.SIGTERM)
    assert status == 143
    assert f"Resuming from the checkpoint of step {first}" in message
    assert "by SIGTERM and saved" in message


def test_a_reader_that_leaves_early_gets_no_traceback():
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "vq_jax.cli.main", "--help"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, timeout=60)
    os.close(writing)
    assert done.returncode == 1 and done.stderr == b""
