"""Files of weights of any kind: names and shapes first, numbers when they are asked for."""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import safetensors
from etils import epath

from vq_jax.convert.safe_pickle import Inert
from vq_jax.convert.torch_files import is_torch, read_torch
from vq_jax.convert.torch_tensor import DTYPES, TensorInFile
from vq_jax.errors import UserError
from vq_jax.host.files import require_regular

_NAMED = 10  # tensors in a message
_SAFETENSORS = {
    **{"F32": "float32", "F64": "float64", "F16": "float16", "BF16": "bfloat16"},
    **{"I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"},
    **{"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"},
}
_FOLDER = ("diffusion_pytorch_model", "model", "pytorch_model")  # names of weights in a folder
_ENDS = (".safetensors", ".bin", ".pt")


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor of a file.

    Attributes:
      dtype: of its elements.
      shape: lengths of its axes.
      read: function to the array.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True)
class WeightsFile:
    """The tensors of a file, and what else it says.

    Attributes:
      path: of the file.
      kind: `torch`, `safetensors` or `flax`.
      tensors: by their names; those of flax are slash-joined.
      others: plain values outside the tensors, such as `global_step`.
      config: what the `config.json` beside the weights says, of a folder.
      under: the key of a PyTorch file that the tensors are under; None for its top.
    """

    path: epath.Path
    kind: str
    tensors: Mapping[str, Tensor]
    others: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    under: str | None = None

    def array(self, name: str) -> np.ndarray:
        """Reads a tensor.

        Raises:
          UserError: the file is damaged.
        """
        try:
            return self.tensors[name].read()
        except UserError:
            raise
        except Exception as error:  # of many kinds, where a pickle describes a tensor wrongly
            raise UserError(
                f"{self.path} is damaged or incomplete: {name} cannot be read ({error}); download it again"
            ) from error


def named(names: Iterable[str]) -> str:
    """Returns names for a message: ten at most, and how many more there are."""
    found = list(names)
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return ", ".join(found[:_NAMED]) + more


def open_weights(place: epath.PathLike, within: tuple[str, ...]) -> WeightsFile:
    """Opens a file of weights, or the one in a folder.

    Args:
      place: a file of PyTorch, safetensors or flax (msgpack), or a folder with one and a `config.json`.
      within: keys under which PyTorch's files of a project have the tensors, the first one that is there;
        without them, the tensors are at the top.

    Raises:
      UserError: there is none, or it is of no known kind, or damaged.
    """
    path = epath.Path(place)
    config: dict[str, Any] = {}
    if path.is_dir():
        path, config = _in_folder(path)
    require_regular(path)
    if not path.exists():
        raise UserError(f"there is no file {path}")
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    if not head:
        raise UserError(f"{path} is empty")
    if head[8:9] == b"{":
        return WeightsFile(path, "safetensors", _safetensors(path), config=config)
    if is_torch(head):
        return _torch(path, within, config)
    return WeightsFile(path, "flax", _msgpack(path))


def _in_folder(folder: epath.Path) -> tuple[epath.Path, dict[str, Any]]:
    names = [stem + end for end in _ENDS for stem in _FOLDER]
    found = [folder / name for name in names if (folder / name).exists()]
    if not found:
        raise UserError(f"{folder} has no file of weights: expected one of {', '.join(names[:4])} in it")
    try:
        values = json.loads((folder / "config.json").read_text())
    except FileNotFoundError:
        values = {}
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / 'config.json'} cannot be read: {error}") from error
    return found[0], values if isinstance(values, dict) else {}


def _safetensors(path: epath.Path) -> dict[str, Tensor]:
    try:
        found = safetensors.deserialize(path.read_bytes())
    except (safetensors.SafetensorError, ValueError, OSError) as error:
        raise UserError(f"{path} is damaged or incomplete ({error}): download it again") from error
    tensors = {}
    for name, part in found:
        dtype = DTYPES.get(_SAFETENSORS.get(part["dtype"], ""))
        if dtype is None:
            raise UserError(f"{path}: {name} has the dtype {part['dtype']}, which is not read")
        tensors[name] = _of_bytes(part["data"], dtype, tuple(part["shape"]))
    return tensors


def _of_bytes(content: bytes, dtype: np.dtype, shape: tuple[int, ...]) -> Tensor:
    return Tensor(dtype, shape, lambda: np.frombuffer(content, dtype).reshape(shape))


def _torch(path: epath.Path, within: tuple[str, ...], config: Mapping[str, Any]) -> WeightsFile:
    top = read_torch(path)
    if not isinstance(top, Mapping):
        raise UserError(
            f"{path} holds a {_kind_of(top)}, expected a state dict: the tensors of a model by their names"
        )
    under = next((key for key in within if isinstance(top.get(key), Mapping)), None)
    inside = top if under is None else top[under]
    odd = [name for name, value in inside.items() if isinstance(value, Inert)]
    if inside is not top and odd:
        value = inside[odd[0]]
        raise UserError(f"{path}: {odd[0]} is a {value.called}, which is not read: save plain tensors")
    tensors = {
        str(name): Tensor(value.dtype, value.shape, value.read)
        for name, value in inside.items()
        if isinstance(value, TensorInFile)
    }
    if not tensors:
        raise UserError(f"{path} has no tensors{_under(within)}: it has {named(map(str, top)) or 'nothing'}")
    others = {str(name): value for name, value in top.items() if isinstance(value, int | float | str)}
    return WeightsFile(path, "torch", tensors, others, config, under)


def _under(within: tuple[str, ...]) -> str:
    return f" at the top, nor under {' or '.join(within)}" if within else ""


def _kind_of(value: Any) -> str:
    return value.called if isinstance(value, Inert) else type(value).__name__


def _msgpack(path: epath.Path) -> dict[str, Tensor]:
    from flax import serialization, traverse_util

    try:
        tree = serialization.msgpack_restore(path.read_bytes())
        flat: Any = traverse_util.flatten_dict(tree, sep="/")
    except Exception as error:  # of many kinds: msgpack's, numpy's, of a tree that is none
        raise UserError(
            f"{path} cannot be read: expected a file of PyTorch, safetensors or flax (msgpack), and as the "
            f"last it is damaged or incomplete ({type(error).__name__}: {error})"
        ) from error
    return {
        name: Tensor(leaf.dtype, leaf.shape, functools.partial(np.asarray, leaf))
        for name, leaf in flat.items()
        if isinstance(leaf, np.ndarray)
    }
