"""Models of the Hugging Face hub, by their names."""

import importlib
import os
import re

from etils import epath

from vq_jax.errors import UserError

_HUB = "hf://"
_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_NAMES = ("config.json", "model.safetensors", "converted.safetensors")
FILES = (*_NAMES, *(f"tokenizer/{name}" for name in _NAMES))
"""What a model directory may consist of."""


def is_hub_name(place: epath.PathLike) -> bool:
    """Whether a place begins with hf://, or has the form owner/name and is not a path that exists here."""
    text = os.fspath(place)
    return text.startswith(_HUB) or bool(_NAME.fullmatch(text) and not epath.Path(text).exists())


def hub_name(name: str) -> str:
    """Returns owner/name of a name with or without hf://.

    Raises:
      UserError: it has another form.
    """
    found = name.removeprefix(_HUB)
    if not _NAME.fullmatch(found):
        raise UserError(
            f"expected the name of a model of the Hugging Face hub as OWNER/NAME or {_HUB}OWNER/NAME, got "
            f"{name!r}"
        )
    return found


def require_hub(does: str, otherwise: str = "") -> None:
    """Checks that the hub's package is installed.

    Args:
      does: what it does here, after "the package that".
      otherwise: begin of the message.

    Raises:
      UserError: it is not.
    """
    try:
        importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise UserError(f'{otherwise}install the package that {does}: pip install "vq-jax[hub]"') from error


def reason(error: Exception) -> str:
    """The kind of an error and the first line of what it says."""
    lines = [line.strip() for line in str(error).splitlines()]
    return f"{type(error).__name__}: {next(filter(None, lines), '')}"


def local_copy(place: epath.PathLike) -> epath.PathLike:
    """Downloads a model directory of the hub, unless its newest version is here already.

    Args:
      place: a path, or a name owner/name or hf://owner/name.

    Returns:
      The directory of the copy; the place itself where it is a path.

    Raises:
      UserError: the place is neither a path that exists nor a model that the hub gives.
    """
    if not is_hub_name(place):
        return place
    given = os.fspath(place)
    name = hub_name(given)
    maybe = "" if given.startswith(_HUB) else f"there is no directory {given}"
    unless = f"{maybe}; if it is a model of the Hugging Face hub, " if maybe else ""
    require_hub("downloads models", unless)
    from huggingface_hub import snapshot_download

    try:
        return epath.Path(snapshot_download(repo_id=name, allow_patterns=list(FILES)))
    except Exception as error:  # of many kinds: of the network, of the hub, of its names
        raise UserError(
            f"{maybe}{', and ' if maybe else ''}the Hugging Face hub does not give "
            f"{'it' if maybe else name} as a model: {reason(error)}"
        ) from error
