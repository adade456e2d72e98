"""Pickles of PyTorch read without running anything that they name.

A pickle is a program that may call any function by its name. Here only plain containers and descriptions of
tensors are made; classes of other packages, as in the hyperparameters of a training framework, become objects
that hold nothing and do nothing; every other name of Python itself is refused.
"""

import collections
import pickle
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

from vq_jax.convert.torch_tensor import DTYPES, DtypeName, TensorInFile, rebuild, rebuild_v3
from vq_jax.errors import UserError

# What is made: containers that are not written in Python, for a pickle may set attributes of what it names.
_CONTAINERS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): collections.defaultdict,
    ("collections", "deque"): collections.deque,
    ("torch", "Size"): tuple,
    **{("builtins", kind.__name__): kind for kind in (set, frozenset, dict, list, tuple)},
    **{("builtins", kind.__name__): kind for kind in (int, float, bool, str, complex)},
}
_PYTHON_2 = {"__builtin__": "builtins", "UserDict": "collections"}
# Of Python, values of settings, of which an inert object is made as of other packages' classes.
_SETTINGS = ("argparse", "pathlib", "datetime", "decimal", "enum", "typing", "uuid")
_RUNS_CODE = frozenset(sys.stdlib_module_names) | {"commands", "__main__", "pip", "_pytest"}


class Inert:
    """In place of an object of a class that is not known here: holds nothing, and does nothing.

    Attributes:
      called: name of the class or function.
    """

    called = ""

    def __new__(cls, *_: Any, **__: Any) -> "Inert":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...

    def __setitem__(self, *_: Any) -> None: ...

    def append(self, _: Any) -> None: ...

    def extend(self, _: Any) -> None: ...


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, path: Any, storage_of: Callable[[Any], Any]) -> None:
        super().__init__(file, encoding="latin1")
        self._path, self._storage_of = path, storage_of

    def find_class(self, module: str, name: str) -> Any:
        module = _PYTHON_2.get(module, module)
        if (module, name) in _CONTAINERS:
            return _CONTAINERS[module, name]
        if (module, name) == ("_codecs", "encode"):  # bytes, in pickles of protocol 2
            return _latin1
        if module in ("torch", "torch.storage") and name in DTYPES:
            return DtypeName(name)
        if module == "torch._utils" and name in _REBUILDERS:
            return _REBUILDERS[name]
        if module.partition(".")[0] in _RUNS_CODE and module.partition(".")[0] not in _SETTINGS:
            raise UserError(
                f"{self._path} is not read: its pickle asks for {module}.{name}, which no file of weights "
                "needs and which may run anything.\nIf you trust the file, load it where it was made and "
                "save the tensors alone, as safetensors"
            )
        return type(name, (Inert,), {"called": f"{module}.{name}"})

    def persistent_load(self, saved_id: Any) -> Any:
        return self._storage_of(saved_id)


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1")


def _rebuild_v2(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> TensorInFile:
    return rebuild(storage, offset, size, stride)


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


_REBUILDERS: dict[str, Callable[..., Any]] = {
    "_rebuild_tensor": rebuild,
    "_rebuild_tensor_v2": _rebuild_v2,
    "_rebuild_tensor_v3": rebuild_v3,
    "_rebuild_parameter": _rebuild_parameter,
    "_rebuild_parameter_with_state": _rebuild_parameter,
}


def load(file: BinaryIO, path: Any, storage_of: Callable[[Any], Any]) -> Any:
    """Reads one pickle.

    Args:
      file: where it starts; left where it ends.
      path: of the file, for messages.
      storage_of: function from what the pickle says of a storage to an object that stands for it.

    Returns:
      Plain containers, numbers, strings, `TensorInFile` and `Inert` objects.

    Raises:
      UserError: it names something that may run code, or is damaged.
    """
    try:
        return _Unpickler(file, path, storage_of).load()
    except UserError:
        raise
    except Exception as error:  # of many kinds: a damaged pickle may do anything to the containers
        raise UserError(
            f"{path} is damaged or incomplete: its pickle cannot be read ({type(error).__name__}: {error}); "
            "download it again"
        ) from error
