"""Files of PyTorch, read without PyTorch and without running what they hold.

Since 1.6 such a file is a zip archive: `data.pkl`, a pickle of containers whose tensors refer to storages,
and `data/KEY`, the numbers of each storage. Before, it was five parts in a row: three pickles with a magic
number, a version and the machine's sizes, the pickle of the containers, and the storages, each after its
length.
"""

import functools
import io
import pickletools
import struct
import zipfile
from typing import Any, BinaryIO

from etils import epath

from vq_jax.convert import safe_pickle
from vq_jax.convert.torch_tensor import Storage, dtype_of
from vq_jax.errors import UserError

_MAGIC = 0x1950A86A20F9469CFC6C


def is_torch(head: bytes) -> bool:
    """Whether the first bytes of a file are those of one that PyTorch saved."""
    return head.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x04"))


def read_torch(path: epath.Path) -> Any:
    """Reads a file that `torch.save` wrote.

    Args:
      path: the file.

    Returns:
      What was saved: containers with a `TensorInFile` for each tensor, which reads its numbers when asked.

    Raises:
      UserError: the file is damaged, or its pickle names something that may run code.
    """
    with path.open("rb") as file:
        if file.read(4).startswith(b"PK"):
            return _read_archive(path)
        file.seek(0)
        return _read_in_a_row(file, path)


def _read_archive(path: epath.Path) -> Any:
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise UserError(f"{path} is damaged or incomplete ({error}): download it again") from error
    found = [name for name in names if name.rpartition("/")[2] == "data.pkl"]
    if len(found) != 1:
        raise UserError(f"{path} is a zip archive without a data.pkl: expected a file that torch.save wrote")
    root = found[0].removesuffix("data.pkl")
    if f"{root}constants.pkl" in names:
        raise UserError(
            f"{path} is a TorchScript program, not a file of weights: save the state dict of its module"
        )

    def member(name: str) -> bytes:
        try:
            with path.open("rb") as file, zipfile.ZipFile(file) as archive:
                return archive.read(root + name)
        except (KeyError, zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError) as error:
            raise UserError(
                f"{path} is damaged or incomplete: {name} in it cannot be read ({error}); download it again"
            ) from error

    if f"{root}byteorder" in names and member("byteorder") != b"little":
        raise UserError(f"{path} was saved on a machine of the other byte order: save it again on this kind")

    def storage_of(saved_id: Any) -> Storage:
        kind, dtype, key, _, count = saved_id
        _check(kind == "storage", saved_id)
        return Storage(str(key), dtype_of(dtype), int(count), functools.partial(member, f"data/{key}"))

    return safe_pickle.load(io.BytesIO(member("data.pkl")), path, storage_of)


def _read_in_a_row(file: BinaryIO, path: epath.Path) -> Any:
    """Reads a file from before PyTorch 1.6; its storages come last."""
    places: dict[str, int] = {}
    widths: dict[str, int] = {}  # bytes a number of each storage

    def storage_of(saved_id: Any) -> Storage:
        kind, name, key, _, count, view = saved_id
        _check(kind == "storage" and view is None, saved_id)
        dtype = dtype_of(name)
        widths[key] = dtype.itemsize

        def read() -> bytes:
            if key not in places:
                raise ValueError(f"there is no storage {key}")
            with path.open("rb") as again:
                again.seek(places[key])
                content: bytes = again.read(int(count) * dtype.itemsize)
            return content

        return Storage(str(key), dtype, int(count), read)

    magic = _first_number(file)
    if magic != _MAGIC:
        raise UserError(
            f"{path} is a pickle, but not one that torch.save wrote: expected a file of weights, such as "
            "NAME.ckpt, NAME.pt or NAME.safetensors"
        )
    for _ in range(2):  # the version, and the sizes of the machine's integers
        safe_pickle.load(file, path, storage_of)
    content = safe_pickle.load(file, path, storage_of)
    keys = safe_pickle.load(file, path, storage_of)
    for key in keys:
        length = file.read(8)
        if len(length) < 8 or key not in widths:
            raise UserError(f"{path} is damaged or incomplete: storage {key} is cut off; download it again")
        places[key] = file.tell()
        file.seek(struct.unpack("<q", length)[0] * widths[key], io.SEEK_CUR)
    return content


def _first_number(file: BinaryIO) -> Any:
    """The number that a pickle at the start of a file is; None where it is something else. Runs nothing."""
    numbers = []
    try:
        for code, value, _ in pickletools.genops(file):
            if code.name.startswith(("LONG", "BININT")):
                numbers.append(value)
            elif code.name not in ("PROTO", "STOP", "FRAME"):
                return None
    except ValueError:
        return None
    return numbers[0] if len(numbers) == 1 else None


def _check(right: bool, saved_id: Any) -> None:
    if not right:
        raise ValueError(f"a storage described by {saved_id!r}")
