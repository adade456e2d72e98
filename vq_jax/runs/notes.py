"""What a run has to say, and its figures, for those who call it from Python."""

import contextlib
import logging
from collections.abc import Iterator

from vq_jax.errors import UserError, nearest_names

_log = logging.getLogger("vq_jax")


class MissingFigureError(UserError, KeyError):
    """A figure that a run does not have."""

    __str__ = Exception.__str__  # that of KeyError puts quotation marks around the message


class Figures(dict[str, float]):
    """Figures of a run by name; one that is missing says whether the run was stopped before it.

    Args:
      figures: by name.
      stopped: what stopped the run, in words; None where it is finished.
    """

    def __init__(self, figures: dict[str, float], stopped: str | None = None) -> None:
        super().__init__(figures)
        self._stopped = stopped

    def __missing__(self, name: str) -> float:
        if self._stopped is not None:
            raise MissingFigureError(
                f"there is no figure {name!r} yet: the run was stopped by {self._stopped}; call it again to "
                "resume it"
            )
        raise MissingFigureError(f"there is no figure {name!r} of this run{nearest_names(name, self)}")


@contextlib.contextmanager
def shown_notes() -> Iterator[None]:
    """Shows the notes of vq_jax while the block runs, unless the program has decided what is logged of it."""
    if _log.level != logging.NOTSET:
        yield
        return
    handler = None if _log.hasHandlers() else logging.StreamHandler()
    _log.setLevel(logging.INFO)
    if handler is not None:
        _log.addHandler(handler)
    try:
        yield
    finally:
        _log.setLevel(logging.NOTSET)
        if handler is not None:
            _log.removeHandler(handler)
