"""Digests of files that notice when a file is replaced by another of the same name and size."""

import hashlib
import os
from typing import BinaryIO

_WHOLE = 2**16
_PIECE = 2**12
_PIECES = 8


def digest_of(file: BinaryIO) -> str:
    """Hashes the size of a file and its content: up to 64 KiB all of it, of a larger file eight evenly spaced
    pieces of 4 KiB, the first and the last bytes among them.

    Returns:
      16 hexadecimal digits.
    """
    size = os.fstat(file.fileno()).st_size
    found = hashlib.blake2b(str(size).encode(), digest_size=8)
    if size <= _WHOLE:
        file.seek(0)
        found.update(file.read())
    else:
        for piece in range(_PIECES):
            file.seek((size - _PIECE) * piece // (_PIECES - 1))
            found.update(file.read(_PIECE))
    return found.hexdigest()
