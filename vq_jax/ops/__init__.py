"""Pure functions on arrays: codebook arithmetic, pictures, reconstruction losses."""

from vq_jax.ops.codebook import (
    CodeAverages,
    code_statistics,
    codes_from_averages,
    dead_codes,
    entropy_loss,
    kmeans,
    nearest_code,
    normalize_vectors,
    perplexity,
    sample_vectors,
    squared_distances,
    straight_through,
    update_averages,
    usage,
)
from vq_jax.ops.convolution import conv, double_conv_transpose, upsample_conv
from vq_jax.ops.normalization import group_norm
from vq_jax.ops.reconstruction import (
    HEADS,
    head_channels,
    head_to_picture,
    normalize_pictures,
    reconstruction_loss,
    to_uint8,
    variance_loss,
)

__all__ = [
    "HEADS",
    "CodeAverages",
    "code_statistics",
    "codes_from_averages",
    "conv",
    "dead_codes",
    "double_conv_transpose",
    "entropy_loss",
    "group_norm",
    "head_channels",
    "head_to_picture",
    "kmeans",
    "nearest_code",
    "normalize_pictures",
    "normalize_vectors",
    "perplexity",
    "reconstruction_loss",
    "sample_vectors",
    "squared_distances",
    "straight_through",
    "to_uint8",
    "update_averages",
    "upsample_conv",
    "usage",
    "variance_loss",
]
