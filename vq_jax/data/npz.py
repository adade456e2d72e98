"""Reads .npz files of which nothing is believed: what their headers claim is compared with what they hold."""

import lzma
import math
import tokenize
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from vq_jax.errors import UserError
from vq_jax.host.files import require_regular
from vq_jax.host.memory import total_memory

_MAX_HEADER = 2**16
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, NotImplementedError)
# Of these, RuntimeError is a file with a password; the others are what a damaged header of an array gives.
_ERRORS = (*_ZIP_ERRORS, RuntimeError, ValueError, TypeError, SyntaxError, tokenize.TokenError)


def read_npz(
    path: Path, what: str, names: Collection[str] | None = None, advice: str = ""
) -> dict[str, np.ndarray]:
    """Reads arrays of an .npz file.

    Args:
      path: the file.
      what: what was expected, with an article, for the messages.
      names: the arrays to read, as far as the file has them; all when absent.
      advice: end of the message where it is another kind of file.

    Returns:
      The arrays by name. One that is not read has only its name and the shape [0].

    Raises:
      UserError: it is not such a file, is damaged, holds pickled objects, or claims more than it holds or
        than this machine's memory has room for.
    """
    require_regular(path)
    if not path.exists():
        raise UserError(f"expected {what}, {path} does not exist")
    try:
        is_zip = zipfile.is_zipfile(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    if not is_zip:
        raise UserError(f"expected {what}, {path} is not an .npz file{advice}")
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as file:
            for member in file.infolist():
                name = member.filename.removesuffix(".npy")
                if names is None or name in names:
                    arrays[name] = _read(file, member)
                else:
                    arrays.setdefault(name, np.zeros(0))
    except MemoryError as error:
        raise UserError(f"{path} takes more memory than there is") from error
    except _ERRORS as error:
        raise UserError(f"the .npz file {path} cannot be read: {error or type(error).__name__}") from error
    return arrays


def _read(file: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """Reads an array; raises one of `_ERRORS`."""
    with file.open(member) as stream:
        try:
            version = npy.read_magic(stream)
        except ValueError as error:
            raise ValueError(f"{member.filename} is not an array that NumPy wrote") from error
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read_header(stream, max_header_size=_MAX_HEADER)
        if dtype.hasobject:
            raise ValueError(f"{member.filename} holds pickled objects, which could run any code")
        claimed = math.prod(shape) * dtype.itemsize
        if claimed > member.file_size or any(length < 0 for length in shape):
            raise ValueError(
                f"{member.filename} claims an array of shape {list(shape)}, {claimed:,} bytes, and holds "
                f"{member.file_size:,}"
            )
        memory = total_memory()
        if claimed > memory:
            raise ValueError(
                f"{member.filename} takes {claimed / 2**30:.1f} GiB, and this machine has "
                f"{memory / 2**30:.1f} GiB of memory"
            )
    with file.open(member) as stream:
        array: np.ndarray = npy.read_array(stream, allow_pickle=False, max_header_size=_MAX_HEADER)
        if stream.read(1):
            raise ValueError(f"{member.filename} holds more than its array")
        return array
