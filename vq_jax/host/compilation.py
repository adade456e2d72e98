"""Compiled programs are kept from one start of `vq-jax` to the next. Imports no jax."""

import os
import time
from pathlib import Path

VARIABLE = "JAX_COMPILATION_CACHE_DIR"  # jax's own, read when it is imported
_OFF = ("0", "false", "f", "no", "n", "off")  # as jax reads them
_MONTH = 30 * 24 * 3600.0


def keep_compiled_programs() -> Path | None:
    """Makes jax, imported after this call, write the programs it compiles to disk and read them back.

    They are kept in vq_jax/xla below XDG_CACHE_HOME, or ~/.cache, for a month. jax's own variables take
    precedence: JAX_COMPILATION_CACHE_DIR names another directory, which is left as it is, and
    JAX_ENABLE_COMPILATION_CACHE=false turns the cache off. Where the directory cannot be written,
    every start compiles anew. Removing it does no harm.

    Returns:
      The directory; None where another directory or none is used.
    """
    off = os.environ.get("JAX_ENABLE_COMPILATION_CACHE", "").lower() in _OFF
    if off or VARIABLE in os.environ:
        return None
    try:
        directory = _cache_home() / "vq_jax" / "xla"
        there = next(path for path in (directory, *directory.parents) if path.exists())
        if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
            return None
        for path in directory.glob("*-cache"):  # jax itself never removes one
            if time.time() - path.stat().st_mtime > _MONTH:
                path.unlink(missing_ok=True)
    except (OSError, RuntimeError):  # an unusable directory, or no home
        return None
    os.environ[VARIABLE] = str(directory)  # jax makes it with the first program
    return directory


def _cache_home() -> Path:
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return named if named.is_absolute() else Path.home() / ".cache"
