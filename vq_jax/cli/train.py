"""The command that trains: `vq-jax train`."""

import contextlib
import dataclasses
import hashlib
import logging
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

import tyro

from vq_jax.cli.brief_help import read_with_brief_help
from vq_jax.cli.files import Dir
from vq_jax.cli.free_words import split_free_word
from vq_jax.configs.data import DataConfig, RestorerDataConfig
from vq_jax.configs.degradations import DEGRADATIONS, degradation_class
from vq_jax.configs.presets import DEFAULT_PRESET, load_preset, presets
from vq_jax.configs.quantizers import QUANTIZERS
from vq_jax.configs.runs import ExperimentConfig, RunConfig
from vq_jax.configs.serialize import to_dict
from vq_jax.errors import UserError
from vq_jax.host.storage import require_storage

if TYPE_CHECKING:
    from vq_jax.train import Callback, RunResult

Config = TypeVar("Config", bound=RunConfig)
Quantizer = Annotated[
    str | None,
    tyro.conf.arg(
        metavar="NAME",
        help=f"Quantizer of the tokenizer: {', '.join(QUANTIZERS)}; grouped:fsq is one made of others. Its "
        "fields: --model.quantizer.FIELD, and --model.quantizer.inner.FIELD.",
    ),
]
Degradation = Annotated[
    str | None,
    tyro.conf.arg(
        metavar="NAME",
        help=f"What makes pictures worse, for a model that restores them: {', '.join(DEGRADATIONS)}. Its "
        "fields: --data.degradation.FIELD.",
    ),
]
# What --help shows.
_MOST_SET = (
    *("--data", "--tokenizer", "--steps", "--batch-size", "--data.image-size", "--optimizer.learning-rate"),
    *("--quantizer", "--model.codebook-size", "--losses.perceptual-weight", "--losses.adversarial-weight"),
    *("--sampling.guidance", "--seed", "--workdir", "--init"),
)
_INIT_PARTS = ("--init-parts", "--training.init-parts")
_log = logging.getLogger("vq_jax")


@dataclasses.dataclass(frozen=True)
class TrainArguments(Generic[Config]):
    """What `vq-jax train` takes: the fields of an experiment, and where its run is kept."""

    config: Annotated[Config, tyro.conf.arg(name="")]
    quantizer: Quantizer = None
    degradation: Degradation = None
    workdir: Dir = None
    """Run directory, local or gs://; runs/PRESET when absent."""
    distributed: bool = False
    """One of several processes that train together: on TPU pods and under SLURM they find each other."""
    coordinator: str | None = None
    """HOST:PORT of process 0, for --distributed elsewhere."""
    num_processes: int | None = None
    """How many processes there are, for --distributed elsewhere."""
    process_id: int | None = None
    """Which of them this is, from 0, for --distributed elsewhere."""
    profile: str | None = None
    """START:STOP, steps to write a trace of into the run directory, for XProf."""
    wandb: Annotated[str | None, tyro.conf.arg(metavar="PROJECT")] = None
    """Project of Weights & Biases to log to as well (extra wandb)."""


def train(arguments: list[str]) -> int:
    """Train a model, or resume its run: vq-jax train [PRESET | FILE.py] [--steps N ...]"""
    return _run(parse(arguments), "train", arguments)


def resume(arguments: list[str]) -> int:
    """Resume a run without giving its options again: vq-jax resume RUN [--steps N ...]"""
    return _run(parse_resumed(arguments), "resume", arguments)


def _run(chosen: TrainArguments[Any], name: str, arguments: list[str]) -> int:
    is_main = _join(chosen)
    from vq_jax.runs.telemetry import parse_profile
    from vq_jax.train import NonFiniteError
    from vq_jax.train import train as train_run

    profile = None if chosen.profile is None else parse_profile(chosen.profile)
    workdir = chosen.workdir or _default_workdir(chosen.config)
    command = shlex.join(["vq-jax", name, *arguments])
    try:
        with _callbacks(chosen, workdir, is_main) as callbacks:
            result = train_run(chosen.config, workdir, profile=profile, callbacks=callbacks, command=command)
    except NonFiniteError as error:
        print(f"vq-jax: {error}", file=sys.stderr)
        return 1
    if result.signal is not None:
        _log.info(
            "stopped at step %d by %s and saved; the same command resumes from there",
            result.step,
            signal.Signals(result.signal).name,
        )
        return 128 + result.signal
    if is_main:
        _print_figures(result)
    return 0


@contextlib.contextmanager
def _callbacks(chosen: TrainArguments[Any], workdir: str, is_main: bool) -> "Iterator[list[Callback]]":
    if chosen.wandb is None or not is_main:
        yield []
        return
    from vq_jax.runs.weights_and_biases import WeightsAndBiases

    # The same run there, too, when it resumes.
    identity = hashlib.sha256(os.path.abspath(workdir).encode()).hexdigest()[:16]
    settings = {
        "name": chosen.config.name,
        "config": to_dict(chosen.config),
        "resume": "allow",
        "id": identity,
    }
    with contextlib.closing(WeightsAndBiases(chosen.wandb, **settings)) as callback:
        yield [callback]


def parse(arguments: list[str]) -> TrainArguments[Any]:
    """Reads the arguments of `vq-jax train`; exits with status 2 where tyro refuses them.

    Raises:
      UserError: an unknown preset, file, quantizer or degradation, or fields that do not go together.
    """
    named, rest = split_free_word(_split_commas(arguments), TrainArguments)
    name = DEFAULT_PRESET if named is None else named
    config = _with_degradation(_with_quantizer(_with_model(load_preset(name), rest), rest), rest)
    description = (
        f"Trains {config.name}, or resumes the run in the directory. Every field of the experiment "
        "can be given another value.\n\n"
        f"Others to train: vq-jax train PRESET, of {', '.join(presets())}; "
        "or vq-jax train FILE.py, a Python file that exposes `config`."
    )
    return _parsed(TrainArguments(config), rest, f"vq-jax train {name}", description)


def parse_resumed(arguments: list[str]) -> TrainArguments[Any]:
    """Reads the arguments of `vq-jax resume`: a run, and options of `vq-jax train` that may differ.

    Raises:
      UserError: the first argument is not a run, or a quantizer or degradation is unknown.
    """
    prog = "vq-jax resume RUN"
    run, rest = split_free_word(_split_commas(arguments), TrainArguments)
    if run is None:
        if {"-h", "--help", "--help-all"} & set(rest):
            print(f"usage: {prog} [--steps N ...]\n\n{resume.__doc__}\n\n{prog} --help shows the options.")
            raise SystemExit(0)
        raise UserError(f"expected a run directory: {prog} [--steps N ...]")
    from vq_jax.runs.rundir import read_config

    config = _with_degradation(_with_quantizer(read_config(run), rest), rest)
    default = TrainArguments(config, workdir=run)
    description = (
        f"Resumes {default.config.name} in {run} with the configuration that it has there. Options give "
        "another value to fields that may change within a run, such as --steps."
    )
    return _parsed(default, rest, prog, description)


def _parsed(
    default: TrainArguments[Any], arguments: list[str], prog: str, description: str
) -> TrainArguments[Any]:
    kind: Any = TrainArguments[type(default.config)]  # type: ignore[misc]  # of a tokenizer or of a prior
    suppressed = (tyro.conf.SuppressFixed,)
    chosen: TrainArguments[Any] = read_with_brief_help(
        kind, arguments, prog, _MOST_SET, default=default, description=description, config=suppressed
    )
    return chosen


def _default_workdir(config: RunConfig) -> str:
    """The directory of a run; one that starts from another has its own, for that one may be in the first."""
    return f"runs/{config.name}-tuned" if config.training.init else f"runs/{config.name}"


def _split_commas(arguments: list[str]) -> list[str]:
    """The arguments with `--init-parts encoder,decoder` as `--init-parts encoder decoder`."""
    split: list[str] = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        option, equals, value = argument.partition("=")
        if option in _INIT_PARTS and equals:
            split += [option, *value.split(",")]
        elif before in _INIT_PARTS:
            split += argument.split(",")
        else:
            split.append(argument)
    return split


def _given(arguments: list[str], *options: str) -> str | None:
    """The value of an option, of which the last holds; None where it is not given."""
    value = None
    for argument, after in zip(arguments, [*arguments, ""][1:], strict=True):
        name, equals, text = argument.partition("=")
        if name in options:
            value = text if equals else after
    return value


def _with_model(config: RunConfig, arguments: list[str]) -> RunConfig:
    """The experiment with the model of the run that `--init` names, or that is in the directory already."""
    init = _given(arguments, "--init", "--training.init")
    if not init:
        return config
    from vq_jax.pretrained.model_directory import read_model_config
    from vq_jax.runs.rundir import has_checkpoint

    workdir = require_storage(_given(arguments, "--workdir") or f"runs/{config.name}-tuned")
    place = workdir if has_checkpoint(workdir) else init
    found = read_model_config(place)
    if found.kind != config.kind:
        raise UserError(
            f"{config.name} trains a {config.called}, and {place} holds a {found.called}: give "
            "--init a run of the same kind"
        )
    field = next(name for name in ("model", "prior", "restorer") if hasattr(found, name))
    try:
        return dataclasses.replace(config, **{field: getattr(found, field)})
    except ValueError as error:
        raise UserError(f"the {field} in {place} does not fit {config.name}: {error}") from error


def _with_quantizer(config: RunConfig, arguments: list[str]) -> RunConfig:
    """The experiment with the quantizer of `--quantizer`, which decides which options there are."""
    name = _given(arguments, "--quantizer")
    if not name:
        return config
    if not isinstance(config, ExperimentConfig):
        raise UserError(
            f"--quantizer chooses the quantizer of a tokenizer, and {config.name} trains a {config.called}: "
            "give it to the run of its tokenizer"
        )
    try:
        return dataclasses.replace(config, model=config.model.override(quantizer=name))
    except ValueError as error:
        raise UserError(str(error)) from error


def _with_degradation(config: RunConfig, arguments: list[str]) -> RunConfig:
    """The experiment with the degradation of `--degradation`, which decides which options there are."""
    name = _given(arguments, "--degradation")
    if not name:
        return config
    if not isinstance(config.data, DataConfig | RestorerDataConfig):
        raise UserError(
            f"--degradation makes the pictures worse that a model restores, and {config.name} trains a "
            f"{config.called}, which learns the codes of pictures as they are: omit it"
        )
    try:
        chosen = degradation_class(name)
        if type(config.data.degradation) is chosen:
            return config
        data: Any = dataclasses.replace(config.data, degradation=chosen())
        return dataclasses.replace(config, data=data)
    except ValueError as error:
        raise UserError(str(error)) from error


def _join(chosen: TrainArguments[Any]) -> bool:
    """Joins the other processes of the run, if there are any; returns whether this one prints."""
    given = (chosen.coordinator, chosen.num_processes, chosen.process_id)
    if not chosen.distributed:
        if given != (None, None, None):
            raise UserError(
                "--coordinator, --num-processes and --process-id are for --distributed: give it too"
            )
        return True
    from vq_jax.runs import distributed

    distributed.start(*given)
    if not distributed.is_main():
        _log.setLevel(logging.WARNING)
    return distributed.is_main()


def _print_figures(result: "RunResult") -> None:
    if "test/psnr" in result.figures:
        lpips = result.figures.get("test/lpips")
        print(
            f"Test pictures: PSNR {result.figures['test/psnr']:.2f} dB, "
            f"SSIM {result.figures['test/ssim']:.3f}"
            + (f", LPIPS (AlexNet) {lpips:.3f}" if lpips is not None else "")
        )
    if "validation/bits_per_code" in result.figures:
        print(f"Held-out codes: {result.figures['validation/bits_per_code']:.3f} bits a code")
    print(f"Report: {result.workdir / 'report.md'}")
