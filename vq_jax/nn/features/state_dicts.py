"""Tensors of PyTorch's networks, checked, with batch norms folded into the convolutions before them."""

from collections.abc import Mapping

import numpy as np

from vq_jax.errors import UserError

_NAMED = 10  # tensors in a message
_PARTS = ("weight", "bias", "running_mean", "running_var")


def checked_tensors(
    tensors: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], source: str, expected: str
) -> dict[str, np.ndarray]:
    """Returns the tensors of a network, float32.

    Args:
      tensors: by their names in PyTorch; the counts of batches (`num_batches_tracked`) may be among them.
      shapes: those expected, by name.
      source: where the tensors come from, for the message.
      expected: the network and the file that has its tensors, for the message.

    Raises:
      UserError: tensors are missing or have other shapes, there are others, or values are not finite.
    """
    found = {name: array for name, array in tensors.items() if not name.endswith(".num_batches_tracked")}
    wrong = [name for name in shapes if name not in found or found[name].shape != shapes[name]]
    wrong += [name for name in found if name not in shapes]
    if wrong:
        more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise UserError(
            f"{source} does not hold the weights of {expected}; missing, unknown or of another shape: "
            f"{', '.join(wrong[:_NAMED])}{more}"
        )
    arrays = {name: np.asarray(array, np.float32) for name, array in found.items()}
    broken = [name for name, array in arrays.items() if not np.all(np.isfinite(array))]
    if broken:
        raise UserError(f"{source} is damaged: {broken[0]} has values that are not finite: get it again")
    return arrays


def norm_shapes(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the tensors of a batch norm."""
    return {f"{name}.{part}": (channels,) for part in _PARTS}


def folded(
    arrays: Mapping[str, np.ndarray], convolution: str, norm: str, epsilon: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns kernel [*k, C, D] and bias [D] of a convolution without bias and the batch norm after it."""
    weight, bias, mean, variance = (arrays[f"{norm}.{part}"] for part in _PARTS)
    scale = weight / np.sqrt(variance + np.float32(epsilon))
    kernel = np.moveaxis(arrays[f"{convolution}.weight"], (0, 1), (-1, -2))
    return kernel * scale, bias - mean * scale
