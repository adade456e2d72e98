"""The program `vq-jax`. Heavy imports are inside the commands, so that help answers at once."""

import dataclasses
import errno
import io
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

import tyro

from vq_jax.cli.files import (
    Codes,
    Dir,
    OutputDir,
    OutputFile,
    Pictures,
    Run,
    output_names,
    read_codes,
    read_picture,
    write,
)
from vq_jax.cli.generate import inpaint, sample
from vq_jax.cli.plan import plan
from vq_jax.configs.presets import DEFAULT_PRESET, load_experiment, presets
from vq_jax.configs.runs import RunConfig
from vq_jax.errors import UserError, nearest_names
from vq_jax.host.compilation import keep_compiled_programs
from vq_jax.host.memory import keep_freed_memory

if TYPE_CHECKING:
    from vq_jax.pretrained.prior import Prior
    from vq_jax.pretrained.tokenizer import Tokenizer
    from vq_jax.train import RunResult

# The machine refuses to write, whatever the command was doing.
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


Config = TypeVar("Config", bound=RunConfig)


@dataclasses.dataclass(frozen=True)
class TrainArguments(Generic[Config]):
    """What `vq-jax train` takes: the fields of an experiment, and where its run is kept."""

    config: Annotated[Config, tyro.conf.arg(name="")]
    workdir: Dir = None
    """Run directory, local or gs://; runs/PRESET when absent."""
    distributed: bool = False
    """One of several processes that train together: TPU pods and SLURM say themselves who is there."""
    coordinator: str | None = None
    """HOST:PORT of process 0, for --distributed elsewhere."""
    num_processes: int | None = None
    """How many processes there are, for --distributed elsewhere."""
    process_id: int | None = None
    """Which of them this is, from 0, for --distributed elsewhere."""
    profile: str | None = None
    """START:STOP, steps to write a trace of into the run directory, for XProf."""


def train(arguments: list[str]) -> int:
    """Train a model, or go on with its run: vq-jax train [PRESET | FILE.py] [--steps N ...]"""
    name, rest = _split_preset(arguments)
    config = load_experiment(name)
    try:
        kind: Any = TrainArguments[type(config)]  # type: ignore[misc]  # of a tokenizer or of a prior
        chosen = tyro.cli(
            kind,
            args=rest,
            default=TrainArguments(config),
            prog=f"vq-jax train {name}",
            description=(
                f"Trains {config.name}, or goes on with the run that the directory holds. Every field "
                "of the experiment can be given another value.\n\n"
                f"Others to train: vq-jax train PRESET, of {', '.join(presets())}; "
                "or vq-jax train FILE.py, a Python file that exposes `config`."
            ),
            config=(tyro.conf.SuppressFixed,),
        )
    except ValueError as error:  # tyro words those of the parts of the configuration, not of the whole
        raise UserError(str(error)) from error
    speaks = _join(chosen)
    from vq_jax.runs.telemetry import parse_profile
    from vq_jax.train import NonFiniteError
    from vq_jax.train import train as train_run

    profile = None if chosen.profile is None else parse_profile(chosen.profile)
    workdir = chosen.workdir or f"runs/{chosen.config.name}"
    try:
        result = train_run(chosen.config, workdir, profile=profile)
    except NonFiniteError as error:
        print(f"vq-jax: {error}", file=sys.stderr)
        return 1
    if result.signal is not None:
        _log(
            f"stopped at step {result.step} by {signal.Signals(result.signal).name} and saved; "
            "the same command goes on from there"
        )
        return 128 + result.signal
    if speaks:
        _print_figures(result)
    return 0


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


def _join(chosen: TrainArguments[Any]) -> bool:
    """Joins the other processes of the run, where there are any; whether this one is to speak for all."""
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
        logging.getLogger("vq_jax").setLevel(logging.WARNING)
    return distributed.is_main()


def _split_preset(arguments: list[str]) -> tuple[str, list[str]]:
    """The experiment named on the command line, first or anywhere, and the other arguments."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], arguments[1:]
    known = presets()
    for index, argument in enumerate(arguments):
        is_workdir = index > 0 and arguments[index - 1] == "--workdir"
        if not is_workdir and (argument in known or argument.endswith(".py")):
            return argument, arguments[:index] + arguments[index + 1 :]
    return DEFAULT_PRESET, arguments


def reconstruct(run: Run, pictures: Pictures, output: OutputDir) -> int:
    """Send pictures through the codes and back; prints the PSNR.

    Args:
      run: directory that `vq-jax train` wrote.
      pictures: files of any format that Pillow reads.
      output: where to write NAME.png, each picture above its reconstruction.
    """
    from vq_jax.evaluate import psnr
    from vq_jax.runs.report import comparison_grid, encode_png

    targets = [output / f"{name}.png" for name in output_names(pictures)]
    for target in targets:
        if any(target.resolve() == path.resolve() for path in pictures):
            raise UserError(f"{target} would overwrite a picture given; choose another -o DIR")
    tokenizer = _load_for(run, pictures)
    for path, target in zip(pictures, targets, strict=True):
        picture = read_picture(path, tokenizer)
        decoded = tokenizer.reconstruct(picture[None])[0]
        write(target, encode_png(comparison_grid([picture], [decoded])))
        print(f"{path}: PSNR {psnr(picture, decoded):.2f} dB, {target}")
    return 0


def encode(run: Run, pictures: Pictures, output: OutputFile) -> int:
    """Turn pictures into a file of codes.

    Args:
      run: directory that `vq-jax train` wrote.
      pictures: files of any format that Pillow reads.
      output: file to write: names, sizes (height, width), and codes_0, codes_1, ...
    """
    import numpy as np

    if not output.name or output.is_dir():
        raise UserError(f"expected a file to write for -o, got the directory {output}")
    tokenizer = _load_for(run, pictures)
    codes, sizes = {}, []
    for index, path in enumerate(pictures):
        picture = read_picture(path, tokenizer)
        codes[f"codes_{index}"] = tokenizer.encode(picture[None])[0]
        sizes.append(picture.shape[:2])
        print(f"{path}: {codes[f'codes_{index}'].size} codes")
    target = output if output.suffix == ".npz" else output.with_name(output.name + ".npz")
    file = io.BytesIO()
    names = np.array(output_names(pictures))
    np.savez_compressed(file, names=names, sizes=np.array(sizes, np.int32), **codes)
    write(target, file.getvalue())
    print(f"{len(pictures)} {'picture' if len(pictures) == 1 else 'pictures'}, {target}")
    return 0


def decode(run: Run, codes: Codes, output: OutputDir) -> int:
    """Turn a file of codes into pictures.

    Args:
      run: directory that `vq-jax train` wrote, the one whose model made the codes.
      codes: file that `vq-jax encode` wrote.
      output: where to write NAME.png, one picture each.
    """
    from vq_jax.pretrained.restore import load_tokenizer
    from vq_jax.runs.report import encode_png

    names, sizes, grids = read_codes(codes)
    tokenizer = load_tokenizer(run)
    # All are decoded before any is written: a bad one loses nothing.
    decoded = [tokenizer.decode(grid[None], size=size)[0] for grid, size in zip(grids, sizes, strict=True)]
    for name, picture in zip(names, decoded, strict=True):
        target = output / f"{name}.png"
        write(target, encode_png(picture))
        print(target)
    return 0


def inspect(run: Run) -> int:
    """Show what a run is: parameters, codebook, last figures.

    Args:
      run: directory that `vq-jax train` wrote.
    """
    import jax

    from vq_jax.pretrained.load import load
    from vq_jax.runs.rundir import read_metrics

    trained = load(run)
    for line in _described(trained):
        print(line)
    params = trained.variables["params"]
    for name in sorted(params):
        print(f"  {name}: {sum(leaf.size for leaf in jax.tree.leaves(params[name])):,} parameters")
    print(f"  in all: {sum(leaf.size for leaf in jax.tree.leaves(params)):,} parameters")
    figures: dict[str, object] = {}
    for row in read_metrics(run):
        figures |= row
    for name, value in sorted(figures.items()):
        if name != "step":
            print(f"  {name}: {value:.5g}" if isinstance(value, float) else f"  {name}: {value}")
    return 0


def _described(trained: "Tokenizer | Prior") -> list[str]:
    from vq_jax.pretrained.prior import Prior

    config: Any = trained.config
    if isinstance(trained, Prior):
        classes = "no classes" if trained.num_classes is None else f"{trained.num_classes} classes"
        grid = " x ".join(map(str, trained.model.code_shape))
        return [
            f"{config.name}: {config.prior.architecture}, step {trained.step}, over {config.tokenizer}",
            f"  codes: {grid} of {trained.model.codebook_size}, {classes}",
        ]
    return [
        f"{config.name}: {config.model.architecture}, step {trained.step}, {config.data.source}",
        f"  codebook: {config.model.quantizer.describe()}",
    ]


def prepare(
    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")], data_dir: Dir = None
) -> int:
    """Download a tensorflow-datasets set and make it ready, once.

    Args:
      name: of the set, such as cifar10.
      data_dir: where to put it; tensorflow-datasets' own default when absent.
    """
    from vq_jax.data import prepare as prepare_set

    prepare_set(name, data_dir)
    return 0


_COMMANDS: dict[str, Callable[..., int]] = {
    command.__name__: command
    for command in (train, reconstruct, encode, decode, sample, inpaint, inspect, prepare, plan)
}


def main(arguments: list[str] | None = None) -> int:
    """Runs a command.

    Returns:
      0 for success, 2 for a user's mistake, 130 and 143 after Ctrl-C and SIGTERM, 1 for the rest.
    """
    logging.basicConfig(format="vq-jax: %(message)s", level=logging.WARNING)
    logging.getLogger("vq_jax").setLevel(logging.INFO)
    try:
        status = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Whoever read the output has left, as `| head` does; Python would complain again at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from vq_jax import __version__

        print(f"vq-jax {__version__}")
        return 0
    keep_freed_memory()
    name, rest = arguments[0], arguments[1:]
    try:
        if name not in _COMMANDS:
            raise UserError(f"unknown command {name!r}{nearest_names(name, _COMMANDS)}; see vq-jax --help")
        keep_compiled_programs()
        if name == "train":
            return train(rest)
        return tyro.cli(_COMMANDS[name], args=rest, prog=f"vq-jax {name}")
    except UserError as error:
        print(f"vq-jax: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        print(f"vq-jax: {error}; make room or choose another directory", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("vq-jax: interrupted", file=sys.stderr)
        return 130


def _help() -> str:
    lines = ["usage: vq-jax COMMAND ...", "", "Discrete codes for pictures: VQ-VAE in JAX.", ""]
    for name, command in _COMMANDS.items():
        lines.append(f"  {name:12} {(command.__doc__ or '').splitlines()[0]}")
    default = {DEFAULT_PRESET: f"{DEFAULT_PRESET} (the default)"}
    lines += ["", "presets for train:", *(f"  {default.get(name, name)}" for name in presets())]
    lines += [
        "",
        "for a start:",
        "  vq-jax train vqvae-fashion",
        "  vq-jax inspect runs/vqvae-fashion",
        "",
        "Compiled programs are kept for the next start in ~/.cache/vq_jax/xla, or where",
        "JAX_COMPILATION_CACHE_DIR says; JAX_ENABLE_COMPILATION_CACHE=false keeps none.",
    ]
    return "\n".join([*lines, "", "vq-jax COMMAND --help tells more; vq-jax --version."])


def _log(message: str) -> None:
    logging.getLogger("vq_jax").info(message)


def _load_for(run: str, pictures: tuple[Path, ...]) -> "Tokenizer":
    """Loads a run's model and makes sure, before anything is written, that it can take all pictures."""
    from vq_jax.pretrained.restore import load_tokenizer

    if not pictures:
        raise UserError("expected at least one picture file, got none")
    for path in pictures:
        if not path.is_file():
            raise UserError(f"no such picture: {path}")
    tokenizer = load_tokenizer(run)
    for path in pictures:
        read_picture(path, tokenizer)
    return tokenizer


if __name__ == "__main__":
    sys.exit(main())
