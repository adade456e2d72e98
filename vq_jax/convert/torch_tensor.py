"""Tensors as PyTorch's files describe them: a part of a storage, by offset, shape and strides."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np

DTYPES: dict[str, np.dtype] = {
    **{name: np.dtype(name) for name in ("float32", "float64", "float16", "complex64", "complex128")},
    **{name: np.dtype(name) for name in ("int8", "int16", "int32", "int64", "uint8", "bool")},
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
    **{"float": np.dtype("float32"), "double": np.dtype("float64"), "half": np.dtype("float16")},
    **{"long": np.dtype("int64"), "int": np.dtype("int32"), "short": np.dtype("int16")},
    **{"FloatStorage": np.dtype("float32"), "DoubleStorage": np.dtype("float64")},
    **{"HalfStorage": np.dtype("float16"), "BFloat16Storage": np.dtype(ml_dtypes.bfloat16)},
    **{"LongStorage": np.dtype("int64"), "IntStorage": np.dtype("int32")},
    **{"ShortStorage": np.dtype("int16"), "CharStorage": np.dtype("int8")},
    **{"ByteStorage": np.dtype("uint8"), "BoolStorage": np.dtype("bool")},
    **{"UntypedStorage": np.dtype("uint8"), "ComplexFloatStorage": np.dtype("complex64")},
}
"""The dtypes of PyTorch's files by the names of dtypes and storages there."""


class DtypeName(str):
    """The name of a dtype or of a kind of storage, as a pickle gives it."""


@dataclasses.dataclass(frozen=True)
class Storage:
    """Numbers in a row, somewhere in a file.

    Attributes:
      key: its name there.
      dtype: of the numbers.
      count: how many there are.
      read: function to their bytes.
    """

    key: str
    dtype: np.dtype
    count: int
    read: Callable[[], bytes]


@dataclasses.dataclass(frozen=True)
class TensorInFile:
    """A tensor that is not read yet.

    Attributes:
      dtype: of its elements.
      shape: lengths of its axes.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    storage: Storage
    offset: int
    strides: tuple[int, ...]

    def read(self) -> np.ndarray:
        """Reads it.

        Raises:
          ValueError: the file has fewer numbers than it says, or the tensor lies outside its storage.
        """
        content = self.storage.read()
        if len(content) != self.storage.count * self.storage.dtype.itemsize:
            raise ValueError(
                f"storage {self.storage.key} should have {self.storage.count} {self.storage.dtype} and has "
                f"{len(content)} bytes"
            )
        flat = np.frombuffer(content, np.uint8 if self._is_viewed else self.storage.dtype)
        if self._is_viewed:
            flat = flat[: flat.size - flat.size % self.dtype.itemsize].view(self.dtype)
        if 0 in self.shape:
            return np.zeros(self.shape, self.dtype)
        spans = [(length - 1) * stride for length, stride in zip(self.shape, self.strides, strict=True)]
        if self.offset < 0 or min(spans, default=0) < 0 or self.offset + sum(spans) >= flat.size:
            raise ValueError(
                f"a tensor of shape {self.shape} lies outside its storage of {flat.size} numbers"
            )
        width = self.dtype.itemsize
        view = np.lib.stride_tricks.as_strided(
            flat[self.offset :], self.shape, [stride * width for stride in self.strides]
        )
        return np.array(view, order="C")

    @property
    def _is_viewed(self) -> bool:
        return self.dtype != self.storage.dtype


def rebuild(storage: Any, offset: int, size: Any, stride: Any) -> TensorInFile:
    """Describes a tensor of a storage, as `torch._utils._rebuild_tensor` makes one."""
    return _describe(storage, offset, size, stride, storage.dtype)


def rebuild_v3(
    storage: Any, offset: int, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any
) -> TensorInFile:
    """Describes a tensor of a storage of bytes, as `torch._utils._rebuild_tensor_v3` makes one."""
    return _describe(storage, offset, size, stride, dtype_of(dtype))


def dtype_of(name: Any) -> np.dtype:
    """Returns the dtype that a pickle names.

    Raises:
      ValueError: it is none.
    """
    if not isinstance(name, DtypeName):
        raise ValueError(f"expected a dtype, got {name!r}")
    return DTYPES[name]


def _describe(storage: Any, offset: int, size: Any, stride: Any, dtype: np.dtype) -> TensorInFile:
    if not isinstance(storage, Storage):
        raise ValueError("a tensor without a storage")
    shape, strides = (tuple(int(number) for number in numbers) for numbers in (size, stride))
    if len(shape) != len(strides) or min(shape, default=0) < 0:
        raise ValueError(f"a tensor of shape {shape} with strides {strides}")
    return TensorInFile(dtype, shape, storage, int(offset), strides)


def dtype_names(tensors: Mapping[str, Any]) -> dict[str, str]:
    """Returns the dtypes of the tensors that are not float32, by the tensors' names."""
    names = {dtype: name for name, dtype in reversed(DTYPES.items())}
    return {name: names[tensor.dtype] for name, tensor in tensors.items() if tensor.dtype != np.float32}
