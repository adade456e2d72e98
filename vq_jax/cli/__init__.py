"""The program `vq-jax`, one module a command or group of commands."""

import os
import sys


def program() -> int:
    """Runs a command as the program does, ready for signals and closed streams before the long imports.

    Returns:
      The exit status, see `main.main`.
    """
    from vq_jax.host import interruption, streams

    streams.fill_closed_streams()
    if sys.getfilesystemencoding() != "utf-8":  # of a locale such as C; checkpoints have names in UTF-8
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    interruption.handle(interruption.end_at_once)
    from vq_jax.cli.main import main

    return main()
