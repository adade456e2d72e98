"""The error for a user's mistake, checks, and suggestions for a name that is not known."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake of the user's, told in one message: what was expected, what came, what to do.

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
