"""The program `vq-jax`: its commands and its errors."""

import importlib
import logging
import sys
from collections.abc import Callable
from typing import Any

from vq_jax.cli.failures import explain
from vq_jax.cli.overview import overview
from vq_jax.errors import UserError, nearest_names
from vq_jax.host.compilation import keep_compiled_programs
from vq_jax.host.interruption import stopping
from vq_jax.host.memory import keep_freed_memory
from vq_jax.host.streams import forgiving_streams, silence

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
    "predict": "vq_jax.cli.predict",
    "evaluate": "vq_jax.cli.evaluate",
    "restore": "vq_jax.cli.restoration",
    "inspect": "vq_jax.cli.inspect_run",
    "prepare": "vq_jax.cli.prepare",
    "convert": "vq_jax.cli.convert",
    "export": "vq_jax.cli.convert",
    "push": "vq_jax.cli.push",
    "plan": "vq_jax.cli.plan",
}
# These take the arguments as they are: the run decides which options there are.
_READS_ARGUMENTS = ("train", "resume")


def main(arguments: list[str] | None = None) -> int:
    """Runs a command.

    Returns:
      0 for success, 2 for a user's mistake, 130, 143 and 129 after Ctrl-C, SIGTERM and SIGHUP, 1 for the
      rest.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    # What a run writes is in its directory: one that cannot speak goes on.
    is_run = arguments[:1] and arguments[0] in _READS_ARGUMENTS
    with forgiving_streams(output=bool(is_run)), stopping():
        logging.basicConfig(format="vq-jax: %(message)s", level=logging.WARNING)
        logging.getLogger("vq_jax").setLevel(logging.INFO)
        try:
            status = _run(arguments)
            sys.stdout.flush()
            return status
        except BrokenPipeError:  # whoever read the output has left, as `| head` does
            silence(sys.stdout)
            return 1
        except OSError as error:  # of the last words
            silence(sys.stdout)
            print(f"vq-jax: cannot write to standard output: {error.strerror or error}", file=sys.stderr)
            return 1


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview({name: _command(name).__doc__ for name in _COMMANDS}))
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
    except (Exception, KeyboardInterrupt) as error:
        if (told := explain(error)) is None:
            raise
        message, status = told
        print(f"vq-jax: {message}", file=sys.stderr)
        return status


def _call(name: str, arguments: list[str]) -> int:
    from vq_jax.cli.arguments import call

    if name in _READS_ARGUMENTS:
        return _command(name)(arguments)
    return call(_command(name), arguments, f"vq-jax {name}")


def _command(name: str) -> Callable[..., int]:
    command: Any = getattr(importlib.import_module(_COMMANDS[name]), name)
    return command


if __name__ == "__main__":
    sys.exit(main())
