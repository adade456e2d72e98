"""The error for a user's mistake, checks, and suggestions for a name that is not known."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

Member = TypeVar("Member")


class UserError(ValueError):
    """A user's mistake, reported in one message: what was expected, what came, what to do.

    The command line prints the message alone and exits with status 2.
    """


def nearest_names(name: str, known: Iterable[str]) -> str:
    """Returns `; did you mean X or Y?` for the known names nearest to `name`, else an empty string."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def require(condition: bool, message: str) -> None:
    """Raises ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def lookup(registry: Mapping[str, Member], name: str, what: str) -> Member:
    """Returns the member of a registry that has a name.

    Args:
      registry: members by name.
      name: the one wanted.
      what: what the members are, for the message, such as "quantizer".

    Raises:
      ValueError: there is none; the message has the nearest names and all known ones.
    """
    if name not in registry:
        known = ", ".join(sorted(registry))
        raise ValueError(f"unknown {what} {name!r}{nearest_names(name, registry)} (known: {known})")
    return registry[name]
