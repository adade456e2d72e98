"""The program `vq-jax`. Heavy imports are inside the commands, so that help answers at once."""

import dataclasses
import errno
import io
import logging
import os
import signal
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from vq_jax.config import ExperimentConfig
from vq_jax.errors import UserError, nearest_names
from vq_jax.presets import DEFAULT_PRESET, load_experiment, presets

if TYPE_CHECKING:
    import numpy as np

    from vq_jax.pretrained import Tokenizer

Run = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
Pictures = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PICTURE [PICTURE ...]")]
Codes = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.npz")]
OutputDir = Annotated[Path, tyro.conf.arg(name="output", aliases=["-o"], metavar="DIR")]
OutputFile = Annotated[Path, tyro.conf.arg(name="output", aliases=["-o"], metavar="FILE.npz")]
Dir = Annotated[str | None, tyro.conf.arg(metavar="DIR")]

# The machine refuses to write, whatever the command was doing.
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


@dataclasses.dataclass(frozen=True)
class TrainArguments:
    """What `vq-jax train` takes: the fields of an experiment, and where its run is kept."""

    config: Annotated[ExperimentConfig, tyro.conf.arg(name="")]
    workdir: Dir = None
    """Run directory, local or gs://; runs/PRESET when absent."""


def train(arguments: list[str]) -> int:
    """Train a model, or go on with its run: vq-jax train [PRESET | FILE.py] [--steps N ...]"""
    name, rest = _split_preset(arguments)
    config = load_experiment(name)
    try:
        chosen = tyro.cli(
            TrainArguments,
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
    from vq_jax.train import NonFiniteError
    from vq_jax.train import train as train_run

    workdir = chosen.workdir or f"runs/{chosen.config.name}"
    try:
        result = train_run(chosen.config, workdir)
    except NonFiniteError as error:
        print(f"vq-jax: {error}", file=sys.stderr)
        return 1
    if result.signal is not None:
        _log(
            f"stopped at step {result.step} by {signal.Signals(result.signal).name} and saved; "
            "the same command goes on from there"
        )
        return 128 + result.signal
    if "test/psnr" in result.figures:
        lpips = result.figures.get("test/lpips")
        print(
            f"Test pictures: PSNR {result.figures['test/psnr']:.2f} dB, "
            f"SSIM {result.figures['test/ssim']:.3f}"
            + (f", LPIPS (AlexNet) {lpips:.3f}" if lpips is not None else "")
        )
    print(f"Report: {result.workdir / 'report.md'}")
    return 0


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
    from vq_jax.train.report import comparison_grid, encode_png

    targets = [output / f"{name}.png" for name in _output_names(pictures)]
    for target in targets:
        if any(target.resolve() == path.resolve() for path in pictures):
            raise UserError(f"{target} would overwrite a picture given; choose another -o DIR")
    tokenizer = _load_for(run, pictures)
    for path, target in zip(pictures, targets, strict=True):
        picture = _read_picture(path, tokenizer)
        decoded = tokenizer.reconstruct(picture[None])[0]
        _write(target, encode_png(comparison_grid([picture], [decoded])))
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
        picture = _read_picture(path, tokenizer)
        codes[f"codes_{index}"] = tokenizer.encode(picture[None])[0]
        sizes.append(picture.shape[:2])
        print(f"{path}: {codes[f'codes_{index}'].size} codes")
    target = output if output.suffix == ".npz" else output.with_name(output.name + ".npz")
    file = io.BytesIO()
    names = np.array(_output_names(pictures))
    np.savez_compressed(file, names=names, sizes=np.array(sizes, np.int32), **codes)
    _write(target, file.getvalue())
    print(f"{len(pictures)} {'picture' if len(pictures) == 1 else 'pictures'}, {target}")
    return 0


def decode(run: Run, codes: Codes, output: OutputDir) -> int:
    """Turn a file of codes into pictures.

    Args:
      run: directory that `vq-jax train` wrote, the one whose model made the codes.
      codes: file that `vq-jax encode` wrote.
      output: where to write NAME.png, one picture each.
    """
    from vq_jax.pretrained import load
    from vq_jax.train.report import encode_png

    names, sizes, grids = _read_codes(codes)
    tokenizer = load(run)
    # All are decoded before any is written: a bad one loses nothing.
    decoded = [tokenizer.decode(grid[None], size=size)[0] for grid, size in zip(grids, sizes, strict=True)]
    for name, picture in zip(names, decoded, strict=True):
        target = output / f"{name}.png"
        _write(target, encode_png(picture))
        print(target)
    return 0


def inspect(run: Run) -> int:
    """Show what a run is: parameters, codebook, last figures.

    Args:
      run: directory that `vq-jax train` wrote.
    """
    import jax

    from vq_jax.pretrained import load
    from vq_jax.train.rundir import read_metrics

    tokenizer = load(run)
    config = tokenizer.config
    print(f"{config.name}: {config.model.architecture}, step {tokenizer.step}, {config.data.source}")
    params = tokenizer.variables["params"]
    for name in sorted(params):
        print(f"  {name}: {sum(leaf.size for leaf in jax.tree.leaves(params[name])):,} parameters")
    print(f"  in all: {sum(leaf.size for leaf in jax.tree.leaves(params)):,} parameters")
    print(f"  codebook: {config.model.codebook_size} codes of {config.model.code_dim}")
    figures: dict[str, object] = {}
    for row in read_metrics(run):
        figures |= row
    for name, value in sorted(figures.items()):
        if name != "step":
            print(f"  {name}: {value:.5g}" if isinstance(value, float) else f"  {name}: {value}")
    return 0


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
    command.__name__: command for command in (train, reconstruct, encode, decode, inspect, prepare)
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
    name, rest = arguments[0], arguments[1:]
    try:
        if name not in _COMMANDS:
            raise UserError(f"unknown command {name!r}{nearest_names(name, _COMMANDS)}; see vq-jax --help")
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
    ]
    return "\n".join([*lines, "", "vq-jax COMMAND --help tells more; vq-jax --version."])


def _log(message: str) -> None:
    logging.getLogger("vq_jax").info(message)


def _load_for(run: str, pictures: tuple[Path, ...]) -> "Tokenizer":
    """Loads a run's model and makes sure, before anything is written, that it can take all pictures."""
    from vq_jax.pretrained import load

    if not pictures:
        raise UserError("expected at least one picture file, got none")
    for path in pictures:
        if not path.is_file():
            raise UserError(f"no such picture: {path}")
    tokenizer = load(run)
    for path in pictures:
        _read_picture(path, tokenizer)
    return tokenizer


def _read_picture(path: Path, tokenizer: "Tokenizer") -> "np.ndarray":
    from vq_jax.data import read_picture

    try:
        picture = read_picture(path, tokenizer.channels)
    except Exception as error:  # of many kinds, Pillow's
        raise UserError(f"{path} cannot be read as a picture: {error or type(error).__name__}") from error
    try:
        tokenizer.check(picture[None])
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return picture


def _output_names(pictures: tuple[Path, ...]) -> list[str]:
    """The files' names without suffix; numbered where one was there before."""
    names: list[str] = []
    for path in pictures:
        name, number = path.stem, 0
        while name in names:
            number += 1
            name = f"{path.stem}-{number}"
        names.append(name)
    return names


def _read_codes(
    path: Path,
) -> tuple[list[str], list[tuple[int, ...]], list["np.ndarray"]]:
    """Names, sizes and codes of the pictures in a file that `encode` wrote."""
    import numpy as np

    if not path.is_file():
        raise UserError(f"no such file of codes: {path}")
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path} is not an .npz file: expected one that `vq-jax encode` wrote")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"the .npz file {path} cannot be read: {error}") from error
    missing = [name for name in ("names", "sizes", "codes_0") if name not in arrays]
    if missing:
        raise UserError(
            f"{path} has no {', '.join(missing)}: expected a file that `vq-jax encode` wrote; it has "
            f"{', '.join(arrays) or 'nothing'}"
        )
    names, sizes = arrays["names"], arrays["sizes"]
    if names.ndim != 1 or sizes.shape != (len(names), 2) or sizes.dtype.kind not in "iu":
        raise UserError(
            f"{path}: expected names [N] and integer sizes [N, 2], got {list(names.shape)} and "
            f"{sizes.dtype} {list(sizes.shape)}"
        )
    missing = [name for name in (f"codes_{i}" for i in range(len(names))) if name not in arrays]
    if missing:
        raise UserError(f"{path} names {len(names)} pictures and has no {', '.join(missing)}")
    return (
        [Path(str(name)).name for name in names],
        [tuple(size) for size in sizes.tolist()],
        [arrays[f"codes_{index}"] for index in range(len(names))],
    )


def _write(target: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    part = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(target)
    except OSError as error:
        if part.is_file():
            part.unlink()
        raise UserError(f"cannot write {target}: {error.strerror or error}") from error


if __name__ == "__main__":
    sys.exit(main())
