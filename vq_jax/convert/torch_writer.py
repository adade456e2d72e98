"""Files that `torch.load` reads, written without PyTorch."""

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping

import ml_dtypes
import numpy as np

_STORAGES = {
    np.dtype("float32"): "FloatStorage",
    np.dtype("float64"): "DoubleStorage",
    np.dtype("float16"): "HalfStorage",
    np.dtype(ml_dtypes.bfloat16): "BFloat16Storage",
    np.dtype("int64"): "LongStorage",
    np.dtype("int32"): "IntStorage",
    np.dtype("int16"): "ShortStorage",
    np.dtype("int8"): "CharStorage",
    np.dtype("uint8"): "ByteStorage",
    np.dtype("bool"): "BoolStorage",
}


def torch_file(tensors: Mapping[str, np.ndarray], within: str | None = None) -> bytes:
    """Returns the content of a file that `torch.load(FILE, weights_only=True)` reads.

    Args:
      tensors: by their names.
      within: the key that they are under, such as "state_dict"; None for the state dict itself.
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        # Members without the time of day, for equal tensors to make equal files.
        archive.writestr(zipfile.ZipInfo("archive/data.pkl"), _pickle(tensors, within))
        archive.writestr(zipfile.ZipInfo("archive/byteorder"), b"little")
        for number, tensor in enumerate(tensors.values()):
            member = zipfile.ZipInfo(f"archive/data/{number}")
            archive.writestr(member, np.ascontiguousarray(tensor).tobytes())
        archive.writestr(zipfile.ZipInfo("archive/version"), b"3\n")
    return file.getvalue()


def _pickle(tensors: Mapping[str, np.ndarray], within: str | None) -> bytes:
    """The pickle, opcode by opcode: a dictionary whose tensors refer to the storages 0, 1, ..."""
    parts = [pickle.PROTO, b"\x02"]
    if within is not None:
        parts += [pickle.EMPTY_DICT, _text(within)]
    parts += [_name("collections", "OrderedDict"), pickle.EMPTY_TUPLE, pickle.REDUCE, pickle.MARK]
    for number, (name, tensor) in enumerate(tensors.items()):
        strides = [stride // tensor.itemsize for stride in np.ascontiguousarray(tensor).strides]
        parts += [_text(name), _name("torch._utils", "_rebuild_tensor_v2"), pickle.MARK]
        parts += [pickle.MARK, _text("storage"), _name("torch", _STORAGES[tensor.dtype])]
        parts += [_text(str(number)), _text("cpu"), _number(tensor.size), pickle.TUPLE, pickle.BINPERSID]
        parts += [_number(0), _numbers(tensor.shape), _numbers(strides[: tensor.ndim]), pickle.NEWFALSE]
        parts += [_name("collections", "OrderedDict"), pickle.EMPTY_TUPLE, pickle.REDUCE]
        parts += [pickle.TUPLE, pickle.REDUCE]
    parts += [pickle.SETITEMS]
    if within is not None:
        parts += [pickle.SETITEM]
    return b"".join([*parts, pickle.STOP])


def _name(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _text(text: str) -> bytes:
    encoded = text.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded


def _number(number: int) -> bytes:
    if number < 2**31:
        return pickle.BININT + struct.pack("<i", number)
    encoded = pickle.encode_long(number)
    return pickle.LONG1 + bytes([len(encoded)]) + encoded


def _numbers(numbers: "tuple[int, ...] | list[int]") -> bytes:
    return pickle.MARK + b"".join(map(_number, numbers)) + pickle.TUPLE
