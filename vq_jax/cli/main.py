"""The program `vq-jax`: its commands, its errors and its help."""

import errno
import importlib
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from vq_jax.configs.presets import DEFAULT_PRESET, presets
from vq_jax.errors import UserError, nearest_names
from vq_jax.host.compilation import keep_compiled_programs
from vq_jax.host.memory import keep_freed_memory

# Where each command's function is. The modules import what is heavy inside the functions, so that help
# answers at once. The first line of a function's docstring stands in the help.
_COMMANDS = {
    "train": "vq_jax.cli.train",
    "resume": "vq_jax.cli.train",
    "reconstruct": "vq_jax.cli.codes",
    "encode": "vq_jax.cli.codes",
    "decode": "vq_jax.cli.codes",
    "sample": "vq_jax.cli.generate",
    "inpaint": "vq_jax.cli.generate",
    "evaluate": "vq_jax.cli.evaluate",
    "inspect": "vq_jax.cli.inspect_run",
    "prepare": "vq_jax.cli.prepare",
    "plan": "vq_jax.cli.plan",
}
_READS_ARGUMENTS = (
    "train",
    "resume",
)  # take the arguments as they are: the run decides which options there are

# The machine refuses to write, whatever the command was doing.
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


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
        return _call(name, rest)
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


def _call(name: str, arguments: list[str]) -> int:
    from vq_jax.cli.arguments import call

    if name in _READS_ARGUMENTS:
        return _command(name)(arguments)
    return call(_command(name), arguments, f"vq-jax {name}")


def _command(name: str) -> Callable[..., int]:
    command: Any = getattr(importlib.import_module(_COMMANDS[name]), name)
    return command


def _help() -> str:
    lines = ["usage: vq-jax COMMAND ...", "", "Discrete codes for pictures: VQ-VAE and VQ-GAN in JAX.", ""]
    for name in _COMMANDS:
        lines.append(f"  {name:12} {(_command(name).__doc__ or '').splitlines()[0]}")
    default = {DEFAULT_PRESET: f"{DEFAULT_PRESET} (the default)"}
    lines += ["", "presets for train:", *(f"  {default.get(name, name)}" for name in presets())]
    lines += [
        "",
        "for a start:",
        "  vq-jax train vqvae-fashion",
        "  vq-jax inspect runs/vqvae-fashion",
        "",
        "Compiled programs are kept for the next start in ~/.cache/vq_jax/xla, or in the directory",
        "JAX_COMPILATION_CACHE_DIR; JAX_ENABLE_COMPILATION_CACHE=false keeps none.",
    ]
    return "\n".join([*lines, "", "vq-jax COMMAND --help says more; vq-jax --version."])


if __name__ == "__main__":
    sys.exit(main())
