"""Keeps what orbax and its libraries print on their own off the terminal."""

import logging
import os
import sys
import traceback
from typing import Any

_ORBAX = os.path.join("orbax", "checkpoint")  # in the path of every file of its code
TENSORSTORE = " [tensorstore_spec"  # from here on its messages are pages of context


def quieten_orbax() -> None:
    """Keeps orbax off the terminal: every one of its failures reaches the caller as an error.

    When one array does not restore, orbax closes its event loop while others are being read. Their failure
    is reported later, by asyncio's log and by `sys.unraisablehook`.
    """
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_not_from_orbax)
    show = sys.unraisablehook
    if getattr(show, "__module__", None) != __name__:

        def show_but_for_orbax(unraisable: Any) -> None:
            late_read = str(unraisable.exc_value) == "Event loop is closed"
            code = getattr(unraisable.object, "cr_code", None)  # of a coroutine never resumed
            files = [getattr(code, "co_filename", "")]
            files += [frame.filename for frame in traceback.extract_tb(unraisable.exc_traceback)]
            if not (late_read or any(_ORBAX in file for file in files)):
                show(unraisable)

        sys.unraisablehook = show_but_for_orbax


def _not_from_orbax(record: logging.LogRecord) -> bool:
    if _ORBAX in record.pathname or _ORBAX in record.getMessage():
        return False
    return record.exc_info is None or TENSORSTORE not in str(record.exc_info[1])
