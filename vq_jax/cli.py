"""The program `vq-jax`. Heavy imports are inside the commands, so that help answers at once."""

import dataclasses
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro

from vq_jax.config import ExperimentConfig
from vq_jax.errors import UserError, nearest_names
from vq_jax.presets import DEFAULT_PRESET, load_experiment, presets

Run = Annotated[str, tyro.conf.Positional]
Pictures = Annotated[tuple[Path, ...], tyro.conf.Positional]
Output = Annotated[Path, tyro.conf.arg(name="output", aliases=["-o"])]


@dataclasses.dataclass(frozen=True)
class TrainArguments:
    """Trains an experiment, or goes on with the run that its directory holds."""

    config: Annotated[ExperimentConfig, tyro.conf.arg(name="")]
    workdir: str | None = None
    """Run directory, local or gs://; runs/<preset> when absent."""


def train(arguments: list[str]) -> int:
    """Train a model: vq-jax train [PRESET | FILE.py] [--workdir DIR] [--field value ...]"""
    name, rest = _split_preset(arguments)
    config = load_experiment(name)
    chosen = tyro.cli(
        TrainArguments,
        args=rest,
        default=TrainArguments(config),
        prog=f"vq-jax train {name}",
        config=(tyro.conf.SuppressFixed,),
    )
    from vq_jax.train import NonFiniteError
    from vq_jax.train import train as train_run

    workdir = chosen.workdir or f"runs/{chosen.config.name}"
    _log(f"{chosen.config.name}: {chosen.config.training.steps} steps, in {workdir}")
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
        print(
            f"Test pictures: PSNR {result.figures['test/psnr']:.2f} dB, "
            f"SSIM {result.figures['test/ssim']:.3f}"
        )
    print(f"Report: {result.workdir / 'report.md'}")
    return 0


def _split_preset(arguments: list[str]) -> tuple[str, list[str]]:
    """The experiment named on the command line, first or anywhere, and the other arguments."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], arguments[1:]
    known = presets()
    for index, argument in enumerate(arguments):
        if argument in known:
            return argument, arguments[:index] + arguments[index + 1 :]
    return DEFAULT_PRESET, arguments


def reconstruct(run: Run, pictures: Pictures, output: Output) -> int:
    """Reconstruct pictures; writes each above its reconstruction and prints the PSNR.

    Args:
      run: run directory.
      pictures: picture files.
      output: directory to write to.
    """
    from etils import epath

    from vq_jax.data import read_picture
    from vq_jax.evaluate import psnr
    from vq_jax.pretrained import load
    from vq_jax.train.report import comparison_grid, write_png

    _require_pictures(pictures)
    tokenizer = load(run)
    for path, name in zip(pictures, _output_names(pictures), strict=True):
        picture = read_picture(path, tokenizer.channels)
        decoded = tokenizer.reconstruct(picture[None])[0]
        target = output / f"{name}.png"
        _write(lambda: write_png(epath.Path(target), comparison_grid([picture], [decoded])), target)
        print(f"{path}: PSNR {psnr(picture, decoded):.2f} dB, {target}")
    return 0


def encode(run: Run, pictures: Pictures, output: Output) -> int:
    """Encode pictures to a file of codes.

    Args:
      run: run directory.
      pictures: picture files.
      output: .npz file to write: names, sizes (height, width), and codes_0, codes_1, ...
    """
    import numpy as np

    from vq_jax.data import read_picture
    from vq_jax.pretrained import load

    _require_pictures(pictures)
    tokenizer = load(run)
    codes, sizes = {}, []
    for index, path in enumerate(pictures):
        picture = read_picture(path, tokenizer.channels)
        codes[f"codes_{index}"] = tokenizer.encode(picture[None])[0]
        sizes.append(picture.shape[:2])
        print(f"{path}: {codes[f'codes_{index}'].size} codes")
    target = output if output.suffix == ".npz" else output.with_name(output.name + ".npz")

    def write() -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            target,
            names=np.array(_output_names(pictures)),
            sizes=np.array(sizes, np.int32),
            **codes,
        )

    _write(write, target)
    print(f"{len(pictures)} pictures, {target}")
    return 0


def decode(run: Run, codes: Annotated[Path, tyro.conf.Positional], output: Output) -> int:
    """Decode a file of codes to pictures.

    Args:
      run: run directory.
      codes: .npz file that `vq-jax encode` wrote.
      output: directory to write to.
    """
    from etils import epath

    from vq_jax.pretrained import load
    from vq_jax.train.report import write_png

    names, sizes, grids = _read_codes(codes)
    tokenizer = load(run)
    # All are decoded before any is written: a bad one loses nothing.
    decoded = [
        tokenizer.decode(grid[None], size=size)[0] for grid, size in zip(grids, sizes, strict=True)
    ]
    for name, picture in zip(names, decoded, strict=True):
        target = output / f"{name}.png"
        _write(lambda: write_png(epath.Path(target), picture), target)
        print(target)
    return 0


def inspect(run: Run) -> int:
    """Show what a run is: parameters, codes, figures.

    Args:
      run: run directory.
    """
    import jax

    from vq_jax.pretrained import load
    from vq_jax.train.rundir import read_metrics

    tokenizer = load(run)
    config = tokenizer.config
    print(
        f"{config.name}: {config.model.architecture}, step {tokenizer.step}, {config.data.source}"
    )
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


def prepare(name: Annotated[str, tyro.conf.Positional], data_dir: str | None = None) -> int:
    """Download and prepare a tensorflow-datasets set, once.

    Args:
      name: of the set, such as cifar10.
      data_dir: where to put it; the library's own default when absent.
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
    arguments = sys.argv[1:] if arguments is None else arguments
    logging.basicConfig(format="vq-jax: %(message)s", level=logging.WARNING)
    logging.getLogger("vq_jax").setLevel(logging.INFO)
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
            raise UserError(
                f"unknown command {name!r}{nearest_names(name, _COMMANDS)}; see vq-jax --help"
            )
        if name == "train":
            return train(rest)
        return tyro.cli(_COMMANDS[name], args=rest, prog=f"vq-jax {name}")
    except UserError as error:
        print(f"vq-jax: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("vq-jax: interrupted", file=sys.stderr)
        return 130


def _help() -> str:
    lines = ["usage: vq-jax COMMAND ...", "", "Discrete codes for pictures: VQ-VAE in JAX.", ""]
    for name, command in _COMMANDS.items():
        lines.append(f"  {name:12} {(command.__doc__ or '').splitlines()[0]}")
    lines += ["", f"  presets for train: {', '.join(presets())} (default {DEFAULT_PRESET})"]
    return "\n".join([*lines, "", "vq-jax COMMAND --help tells more; vq-jax --version."])


def _log(message: str) -> None:
    logging.getLogger("vq_jax").info(message)


def _require_pictures(pictures: tuple[Path, ...]) -> None:
    if not pictures:
        raise UserError("expected at least one picture file, got none")
    for path in pictures:
        if not path.is_file():
            raise UserError(f"no such picture: {path}")


def _output_names(pictures: tuple[Path, ...]) -> list[str]:
    """The files' names without suffix; numbered where two are the same."""
    stems = [path.stem for path in pictures]
    return [
        stem if stems.count(stem) == 1 else f"{stem}-{stems[:index].count(stem)}"
        for index, stem in enumerate(stems)
    ]


def _read_codes(path: Path) -> tuple[list[str], list[tuple[int, ...]], list[Any]]:
    """Names, sizes and codes of the pictures in a file that `encode` wrote."""
    import numpy as np

    if not path.is_file():
        raise UserError(f"no such file of codes: {path}")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not an .npz file: {error}") from error
    missing = [name for name in ("names", "sizes", "codes_0") if name not in arrays]
    if missing:
        raise UserError(
            f"{path} has no {', '.join(missing)}: expected a file that `vq-jax encode` wrote; it has "
            f"{', '.join(arrays) or 'nothing'}"
        )
    names = [Path(str(name)).name for name in arrays["names"]]
    sizes = [tuple(int(side) for side in size) for size in arrays["sizes"]]
    grids = [arrays.get(f"codes_{index}") for index in range(len(names))]
    if len(sizes) != len(names) or any(grid is None for grid in grids):
        raise UserError(f"{path} names {len(names)} pictures and does not have the codes of all")
    return names, sizes, grids


def _write(write: Callable[[], None], target: Path) -> None:
    try:
        write()
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror or error}") from error


if __name__ == "__main__":
    sys.exit(main())
