"""What the commands share: their arguments, and the files that they read and write."""

import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from vq_jax.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from vq_jax.pretrained.tokenizer import Tokenizer

Run = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
Pictures = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PICTURE [PICTURE ...]")]
Codes = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.npz")]
OutputDir = Annotated[Path, tyro.conf.arg(name="output", aliases=["-o"], metavar="DIR")]
OutputFile = Annotated[Path, tyro.conf.arg(name="output", aliases=["-o"], metavar="FILE.npz")]
Dir = Annotated[str | None, tyro.conf.arg(metavar="DIR")]


def read_picture(path: Path, tokenizer: "Tokenizer") -> "np.ndarray":
    """Reads a picture that the tokenizer takes, uint8 [H, W, C].

    Raises:
      UserError: it cannot be read, or the tokenizer takes no such picture.
    """
    from vq_jax import data

    try:
        picture = data.read_picture(path, tokenizer.channels)
    except Exception as error:  # of many kinds, Pillow's
        raise UserError(f"{path} cannot be read as a picture: {error or type(error).__name__}") from error
    try:
        tokenizer.check(picture[None])
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return picture


def output_names(pictures: tuple[Path, ...]) -> list[str]:
    """The files' names without suffix; numbered where one was there before."""
    names: list[str] = []
    for path in pictures:
        name, number = path.stem, 0
        while name in names:
            number += 1
            name = f"{path.stem}-{number}"
        names.append(name)
    return names


def read_codes(
    path: Path,
) -> tuple[list[str], list[tuple[int, ...]], list["np.ndarray"]]:
    """Names, sizes and codes of the pictures in a file that `encode` wrote."""
    import numpy as np

    if not path.is_file():
        raise UserError(f"no such file of codes: {path}")
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path} is not an .npz file: expected one that `vq-jax encode` wrote")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"the .npz file {path} cannot be read: {error}") from error
    missing = [name for name in ("names", "sizes", "codes_0") if name not in arrays]
    if missing:
        raise UserError(
            f"{path} has no {', '.join(missing)}: expected a file that `vq-jax encode` wrote; it has "
            f"{', '.join(arrays) or 'nothing'}"
        )
    names, sizes = arrays["names"], arrays["sizes"]
    if names.ndim != 1 or sizes.shape != (len(names), 2) or sizes.dtype.kind not in "iu":
        raise UserError(
            f"{path}: expected names [N] and integer sizes [N, 2], got {list(names.shape)} and "
            f"{sizes.dtype} {list(sizes.shape)}"
        )
    missing = [name for name in (f"codes_{i}" for i in range(len(names))) if name not in arrays]
    if missing:
        raise UserError(f"{path} names {len(names)} pictures and has no {', '.join(missing)}")
    return (
        [Path(str(name)).name for name in names],
        [tuple(size) for size in sizes.tolist()],
        [arrays[f"codes_{index}"] for index in range(len(names))],
    )


def write(target: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    part = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(target)
    except OSError as error:
        if part.is_file():
            part.unlink()
        raise UserError(f"cannot write {target}: {error.strerror or error}") from error
