"""The short help of commands with more options than a person reads: those that people set."""

import contextlib
import io
import re
import textwrap
from collections.abc import Sequence
from typing import Any

from vq_jax.cli.arguments import read

ALL = "--help-all"

_WIDTH = 80
_RULE = re.compile(r"[│ ]*[─-]{3}")
_NEW = re.compile(r"[│ ]{0,3}-")  # options stand at the left, their texts further in


def read_with_brief_help(
    kind: Any, arguments: list[str], prog: str, options: Sequence[str], **more: Any
) -> Any:
    """Reads arguments as `arguments.read`; `--help` shows some options only, `--help-all` all of them.

    Args:
      kind: see `read`.
      arguments: see `read`.
      prog: see `read`.
      options: those to show, where they exist, by any of their names.
      **more: of `tyro.cli`.
    """
    shown = io.StringIO()
    asked = ["--help" if argument == ALL else argument for argument in arguments]
    try:
        with contextlib.redirect_stdout(shown):
            return read(kind, asked, prog, **more)
    except SystemExit:
        text = shown.getvalue()
        print(text if ALL in arguments else _shortened(text, options, prog), end="")
        raise


def _shortened(text: str, options: Sequence[str], prog: str) -> str:
    """The head of a help text by tyro, and of its options those given."""
    head: list[str] = []
    entries: dict[str, list[str]] = {}
    entry = head
    for line in text.splitlines():
        if _NEW.match(line) and not _RULE.match(line):
            entry = []
            entries |= dict.fromkeys(re.findall(r"--[\w.-]+", line), entry)
        elif _RULE.match(line) or not line.strip("│ "):
            entry = head if not entries else []  # the title and the end of a group
        entry.append(line.strip("│ ") if entries else line)
    del head[-1 - head[::-1].index("") :]  # the title of the first group
    shown = [_wrapped(*entries[option]) for option in options if option in entries]
    return "\n".join([*head, "", *shown, "", f"{prog} {ALL} shows all options.", ""])


def _wrapped(option: str, *text: str) -> str:
    told = textwrap.fill(" ".join(text), _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return f"  {option}\n{told}"
