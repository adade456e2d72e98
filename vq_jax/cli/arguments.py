"""Reading of arguments: tyro reads them, one short message refuses them, and their values are checked."""

import contextlib
import functools
import inspect
import io
import re
import typing
from collections.abc import Callable
from typing import Any

import tyro

from vq_jax.configs.fields import check_value
from vq_jax.errors import UserError, nearest_names

_HINTS = {
    "--lr": "--optimizer.learning-rate",
    "--epochs": "--steps, which counts updates",
    "--batch": "--batch-size",
    "--output-dir": "--workdir",
}
_OR = str.maketrans({"{": "", "}": "", "|": " or "})
_LONGEST = 600  # characters of a message


def read(kind: Any, arguments: list[str], prog: str, **options: Any) -> Any:
    """Reads arguments, see `tyro.cli`; help ends the program as there.

    Args:
      kind: dataclass, or function whose arguments are bound and not yet used.
      arguments: from the command line.
      prog: name of the command, for messages.
      **options: of `tyro.cli`.

    Raises:
      UserError: tyro, or a dataclass, refuses the arguments.
    """
    boxes = io.StringIO()
    try:
        with contextlib.redirect_stderr(boxes):
            return tyro.cli(kind, args=arguments, prog=prog, **options)
    except SystemExit as ended:
        if ended.code != 2:
            raise
        raise UserError(f"{brief(boxes.getvalue())}\nSee {prog} --help") from None
    except ValueError as error:  # tyro words those of the parts of a configuration, not of the whole
        raise UserError(str(error)) from error


def call(command: Callable[..., int], arguments: list[str], prog: str) -> int:
    """Calls the function of a command with arguments from the command line, once they are checked.

    Raises:
      UserError: they are refused.
    """

    @functools.wraps(command)
    def bind(*args: Any, **keywords: Any) -> inspect.BoundArguments:
        return inspect.signature(command).bind(*args, **keywords)

    bound = read(bind, arguments, prog)
    hints = typing.get_type_hints(command, include_extras=True)
    positional = {
        name for name, hint in hints.items() if tyro.conf.Positional in getattr(hint, "__metadata__", ())
    }
    try:
        for name, value in bound.arguments.items():
            bound.arguments[name] = check_value(hints[name], value, _called(name, name in positional))
    except ValueError as error:
        raise UserError(str(error)) from error
    return command(*bound.args, **bound.kwargs)


def _called(name: str, positional: bool) -> str:
    return name.upper() if positional else f"--{name.replace('_', '-')}"


def brief(boxes: str) -> str:
    """Returns the message in tyro's boxes on one line.

    Its rules, help texts and the way to the help are left out, and of the options that it proposes only the
    names are kept.
    """
    lines = [line.strip("│ ") for line in boxes.splitlines() if line[:1] not in "╭╰"]
    sections: list[list[str]] = [[]]
    for line in lines:
        if line and not line.strip("─-"):
            sections.append([])
        else:
            sections[-1].append(line)
    if "╭" not in boxes:  # standard output does not hold such characters: the title is a section of its own
        del sections[0]
    message = _reworded(" ".join(filter(None, sections[0])))
    for section in sections[1:]:
        if section[:1] == ["Perhaps you meant:"]:
            names = dict.fromkeys(re.findall(r"--[\w.-]+", " ".join(section)))
            message += f"; did you mean {' or '.join(list(names)[:3])}?"
        elif section[:1] == ["Unrecognized options:"]:
            message += f"; {' '.join(section)}"
    for wrong, right in _HINTS.items():
        if re.search(rf"Unrecognized options: .*{wrong}\b", message) and "did you mean" not in message:
            message += f"; did you mean {right}?"
    return message[:_LONGEST]


def _reworded(message: str) -> str:
    # One value or several: tyro lists why each form does not fit.
    message = re.sub(
        r"no type matching (\S*\{\w+(?: \w+)+\}) could be instantiated from \[(.*?)\]\..*",
        lambda found: f"expected {found[1].translate(_OR)}, got {found[2] or 'nothing'}",
        message,
    )
    # A union is refused with the reasons of all its types; the last is that of the one that is not None.
    message = re.sub(r"no type matching .* - <class '\w+'>: ", "", message)
    message = re.sub(
        r"invalid literal for int\(\) with base 10: (.*)", r"expected a whole number, got \1", message
    )
    message = re.sub(r"could not convert string to float: (.*)", r"expected a number, got \1", message)
    choice = re.match(r"invalid choice '(.*)' for argument '(\S+)'. Expected one of \((.*)\)\.$", message)
    if choice:
        given, option, choices = choice.groups()
        known = re.findall(r"'([^']*)'", choices)
        return f"{option} must be one of {', '.join(known)}, got {given!r}{nearest_names(given, known)}"
    return re.sub(r"^Error parsing \S+: (?=\S+ must )", "", message)
