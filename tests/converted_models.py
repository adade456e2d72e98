"""Small models, one of each format of other projects that can be written."""

import jax
import numpy as np
from flax import traverse_util

import vq_jax
from vq_jax.configs import ExperimentConfig, VQGANf4
from vq_jax.configs.data import DataConfig
from vq_jax.configs.grid_quantizers import LFQConfig
from vq_jax.configs.models import OpenMAGVIT2
from vq_jax.configs.quantizers import IBQConfig, VectorQuantizerConfig
from vq_jax.pretrained.build import abstract_variables, build_model

_NETWORK = {
    "channels": 32,
    "channel_multipliers": (1, 2),
    "num_res_blocks": 1,
    "attention_levels": (1,),
    "z_channels": 4,
}
# A small model of each format, as its files can hold it.
MODELS = {
    "taming": VQGANf4(quantizer=VectorQuantizerConfig(codebook_size=8, code_dim=3), **_NETWORK),
    "diffusers": VQGANf4(quantizer=VectorQuantizerConfig(codebook_size=8, code_dim=3), **_NETWORK),
    "llamagen": VQGANf4(
        quantizer=VectorQuantizerConfig(codebook_size=8, code_dim=3, normalize=True), **_NETWORK
    ),
    "open-magvit2": OpenMAGVIT2(
        quantizer=LFQConfig(bits=3), channels=32, channel_multipliers=(1, 2), num_res_blocks=1
    ),
    "ibq": VQGANf4(quantizer=IBQConfig(codebook_size=8, code_dim=3), **_NETWORK),
}


def saved(name, place):
    """A model directory with a random model of a format; draws in NumPy, for nothing to be compiled."""
    config = ExperimentConfig(name="small", model=MODELS[name], data=DataConfig(image_size=32))
    model, rng = build_model(config), np.random.default_rng(0)
    shapes = abstract_variables(config, model)
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), shapes)
    vq_jax.Tokenizer(model, dict(variables), config, 3).save(place)
    return variables


TRANSFORMER = {"width": 32, "layers": 2, "heads": 4, "classes": 5, "codes": 8, "side": 8}
"""The size of `transformer`."""


def transformer():
    """The weights of a transformer of MaskGIT's authors: by slash-joined path, and nested."""
    width, layers, heads, classes, codes, side = TRANSFORMER.values()
    rows = codes + classes + 1
    norm = {"scale": (width,), "bias": (width,)}
    projection = {"kernel": (width, heads, width // heads), "bias": (heads, width // heads)}
    layer = {
        "Attention_0": {
            "self_attention": {
                **{name: projection for name in ("query", "key", "value")},
                "out": {"kernel": (heads, width // heads, width), "bias": (width,)},
            },
            "attention_output_ln": norm,
        },
        "Mlp_0": {
            "intermediate_output": {"kernel": (width, 48), "bias": (48,)},
            "layer_output": {"kernel": (48, width), "bias": (width,)},
            "layer_output_ln": norm,
        },
    }
    shapes = {
        "Embed_0": {
            "word_embeddings": {"embedding": (rows, width)},
            "position_embeddings": {"embedding": (side * side + 1, width)},
            "embeddings_ln": norm,
        },
        **{f"TransformerLayer_{index}": layer for index in range(layers)},
        "MlmLayer_0": {
            "mlm_dense": {"kernel": (width, width), "bias": (width,)},
            "mlm_ln": norm,
            "mlm_bias": {"bias": (rows,)},
        },
    }
    rng = np.random.default_rng(0)
    flat = traverse_util.flatten_dict(shapes, sep="/")
    arrays = {
        name: (0.3 * rng.normal(size=shape) + name.endswith("scale")).astype(np.float32)
        for name, shape in flat.items()
    }
    return arrays, traverse_util.unflatten_dict(arrays, sep="/")
