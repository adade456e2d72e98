"""Models of the Hugging Face hub, by their names."""

import os
import re

from etils import epath

from vq_jax.errors import UserError

_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_NAMES = ("config.json", "model.safetensors", "converted.safetensors")
_FILES = (*_NAMES, *(f"tokenizer/{name}" for name in _NAMES))


def is_hub_name(place: epath.PathLike) -> bool:
    """Whether a place has the form owner/name and is not a path that exists here."""
    return bool(_NAME.fullmatch(os.fspath(place))) and not epath.Path(place).exists()


def local_copy(place: epath.PathLike) -> epath.PathLike:
    """Downloads a model directory of the hub, unless its newest version is here already.

    Args:
      place: a path, or a name owner/name.

    Returns:
      The directory of the copy; the place itself where it is a path.

    Raises:
      UserError: the place is neither a path that exists nor a model that the hub gives.
    """
    if not is_hub_name(place):
        return place
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise UserError(
            f"there is no directory {place}; if it is a model of the Hugging Face hub, install the package "
            'that downloads it: pip install "vq-jax[hub]"'
        ) from error
    try:
        return epath.Path(snapshot_download(repo_id=os.fspath(place), allow_patterns=list(_FILES)))
    except Exception as error:  # of many kinds: of the network, of the hub, of its names
        reason = (str(error).strip().splitlines() or [""])[0]
        raise UserError(
            f"there is no directory {place}, and the Hugging Face hub does not give it as a model: "
            f"{type(error).__name__}: {reason}"
        ) from error
