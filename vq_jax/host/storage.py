"""Where a path lies, and what that needs."""

import importlib.util
import os

from vq_jax.errors import UserError


def require_storage(path: str | os.PathLike[str]) -> None:
    """Raises UserError where a path is on gs:// and no package that reads from there is installed."""
    # etils.epath, through which all such paths go, takes TensorFlow where it is installed, else gcsfs.
    packages = ("gcsfs", "tensorflow")
    if os.fspath(path).startswith("gs://") and not any(map(importlib.util.find_spec, packages)):
        raise UserError(f'{path} needs a package for Google Cloud Storage: pip install "vq-jax[gcs]"')
