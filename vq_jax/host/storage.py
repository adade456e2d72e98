"""What a path needs to be read: the package for its storage."""

import importlib.util
import os

from vq_jax.errors import UserError


def require_storage(path: str | os.PathLike[str]) -> None:
    """Raises UserError for a path on gs:// if no package that reads from there is installed."""
    # etils.epath, which opens all such paths, uses TensorFlow if it is installed, else gcsfs.
    packages = ("gcsfs", "tensorflow")
    if os.fspath(path).startswith("gs://") and not any(map(importlib.util.find_spec, packages)):
        raise UserError(f'{path} needs a package for Google Cloud Storage: pip install "vq-jax[gcs]"')
