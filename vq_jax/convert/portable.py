"""Encoding and decoding as programs that jax runs without this library, by `jax.export`."""

import importlib.util
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import traverse_util
from jax import export

from vq_jax import ops
from vq_jax.errors import UserError
from vq_jax.pretrained.model_directory import WEIGHTS_FILE
from vq_jax.pretrained.tokenizer import Tokenizer
from vq_jax.types import Array, Params

PLATFORMS = ("cpu", "cuda", "tpu")
_USE = """\
Programs of jax, and the weights that they take. They need jax, safetensors and flatbuffers, no other code:

    import jax, safetensors.numpy

    weights = safetensors.numpy.load_file("{weights}")
    encode = jax.export.deserialize(open("encode.jax", "rb").read())
    decode = jax.export.deserialize(open("decode.jax", "rb").read())
    codes = encode.call(weights, pictures)    # uint8 {pictures} -> int32
    pictures = decode.call(weights, codes)    # back to uint8 [B, {axes}, {channels}]

{sizes}
"""


def portable_files(model: Any) -> dict[str, bytes]:
    """Returns the files of a directory with a tokenizer's two programs and its weights.

    `encode.jax` and `decode.jax` are what `jax.export` makes, for CPU, CUDA and TPU. They take the arrays of
    `model.safetensors` by their names, and any number of pictures; of convolutional networks over pictures,
    any size that is a multiple of the strides. `USE.txt` shows how they are called.

    Args:
      model: a tokenizer.

    Raises:
      UserError: it is another kind of model, or the package is missing that writes programs.
    """
    if importlib.util.find_spec("flatbuffers") is None:
        raise UserError('writing programs of jax needs a package: pip install "vq-jax[portable]"')
    if not isinstance(model, Tokenizer):
        raise UserError(
            f"programs are written of a tokenizer, and {model.config.name} is a {model.config.called}"
        )
    weights = {
        name: np.asarray(leaf, order="C")
        for name, leaf in traverse_util.flatten_dict(jax.device_get(model.variables), sep="/").items()
    }
    open_sizes = _takes_any_size(model)
    pictures = jax.ShapeDtypeStruct(_picture_shape(model, open_sizes), jnp.uint8)
    arrays = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in weights.items()}

    def encode(weights: dict[str, Array], pictures: Array) -> Any:
        return model.model.apply(_nested(weights), ops.normalize_pictures(pictures), method="encode")

    def decode(weights: dict[str, Array], codes: Any) -> Array:
        decoded: Any = model.model.apply(_nested(weights), codes, method="decode")
        return ops.to_uint8(decoded)

    encoder = export.export(jax.jit(encode), platforms=PLATFORMS)(arrays, pictures)
    codes = jax.tree.unflatten(encoder.out_tree, encoder.out_avals)
    codes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), codes)
    decoder = export.export(jax.jit(decode), platforms=PLATFORMS)(arrays, codes)
    return {
        "encode.jax": bytes(encoder.serialize()),
        "decode.jax": bytes(decoder.serialize()),
        WEIGHTS_FILE: safetensors.numpy.save(weights),
        "USE.txt": _use(model, pictures.shape, open_sizes).encode(),
    }


def _nested(weights: dict[str, Array]) -> Params:
    nested: Params = traverse_util.unflatten_dict(weights, sep="/")
    return nested


def _takes_any_size(model: Tokenizer) -> bool:
    """Whether the sizes of pictures stay open: of convolutional networks with one grid of codes."""
    axes = len(model.config.data.lengths)
    return model.model.image_shape is None and axes == 2 and len(model.strides) == 2


def _picture_shape(model: Tokenizer, open_sizes: bool) -> tuple[Any, ...]:
    channels = model.channels
    if open_sizes:
        height, width = model.strides
        return tuple(export.symbolic_shape(f"b, {height}*h, {width}*w, {channels}"))
    lengths = model.model.padded_lengths(model.config.data.lengths)
    return (*export.symbolic_shape("b"), *lengths, channels)


def _use(model: Tokenizer, shape: tuple[Any, ...], open_sizes: bool) -> str:
    lengths = ", ".join(map(str, shape[1:-1]))
    sizes = (
        f"Height and width are multiples of {json.dumps(model.strides)}."
        if open_sizes
        else f"Pictures have the size {lengths}."
    )
    return _USE.format(
        weights=WEIGHTS_FILE,
        pictures=f"[B, {lengths}, {model.channels}]",
        axes=lengths,
        channels=model.channels,
        sizes=sizes,
    )
