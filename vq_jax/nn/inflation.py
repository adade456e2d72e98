"""The weights of a model of pictures in a causal model of video."""

from typing import Any

import numpy as np
from flax import traverse_util

from vq_jax.types import Params


def inflate(pictures: Params, video: Params) -> dict[str, Any]:
    """Makes variables of a model of video that treats one frame as a model of pictures does.

    A kernel over rows and columns becomes the last slice of one over frames, rows and columns, the others
    being zero: at first every frame is encoded by itself. Where a layer of the encoder reads a patch of
    several frames, it reads the last one; where one of the decoder makes several frames, it makes the same in
    all of them. A clip that stands still is thus reconstructed like its picture.

    Args:
      pictures: collections of the model of pictures, `params` with `encoder` and `decoder`, and others.
      video: those of the model of video, or their shapes: the same names, and the same shapes but for
        kernels that are longer along the frames, layers of the encoder with more inputs, and layers of the
        decoder with more outputs.

    Returns:
      The collections of `video`, NumPy arrays.

    Raises:
      ValueError: names or shapes do not match; the message has one that does not.

    References:
      Yu et al. 2023, MAGVIT, arXiv:2212.05199, section 3.1, with the kernel in the last slice, where that of
      a causal convolution sees its own frame, instead of the middle one.
    """
    there = traverse_util.flatten_dict(dict(pictures), sep="/")
    here = traverse_util.flatten_dict(dict(video), sep="/")
    for name in sorted(there.keys() ^ here.keys()):
        raise ValueError(f"only the model of {'pictures' if name in there else 'video'} has {name}")
    found = {name: _inflated(name, np.asarray(leaf), tuple(here[name].shape)) for name, leaf in there.items()}
    return traverse_util.unflatten_dict(found, sep="/")


def _inflated(name: str, leaf: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    encodes, decodes = (f"/{part}/" in f"/{name}" for part in ("encoder", "decoder"))
    grown = leaf
    if name.endswith("kernel") and len(shape) == 5:
        grown = leaf[None] if leaf.ndim == 4 else leaf
        grown = np.pad(grown, [(max(shape[0] - grown.shape[0], 0), 0), *[(0, 0)] * 4])
    if encodes and grown.ndim > 1 and grown.shape[-2] < shape[-2] and shape[-2] % grown.shape[-2] == 0:
        missing = shape[-2] - grown.shape[-2]
        grown = np.pad(grown, [*[(0, 0)] * (grown.ndim - 2), (missing, 0), (0, 0)])
    if decodes and grown.shape[-1] < shape[-1] and shape[-1] % grown.shape[-1] == 0:
        grown = np.tile(grown, shape[-1] // grown.shape[-1])
    if grown.shape != shape:
        raise ValueError(
            f"{name} has the shape {leaf.shape} in the model of pictures, and {shape} in that of video"
        )
    return grown
