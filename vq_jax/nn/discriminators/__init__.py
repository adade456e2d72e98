"""Discriminators: networks that tell pictures from reconstructions.

All are called `discriminator(pictures, labels, train=...)` and return float32 logits, channels last: high
for a picture, low for a reconstruction. With `num_classes` set they judge whether a picture belongs to its
class; without, labels are left out.

Collection `batch_stats` holds running means and variances and the vectors of spectral normalisation. It
changes only in a call with `train=True` and `mutable=["batch_stats"]`. With `train=True` alone the
batch's own statistics are used and nothing is written: that is the generator's pass.
"""

from vq_jax.nn.discriminators.by_frame import ClipDiscriminator
from vq_jax.nn.discriminators.mlp import MLPDiscriminator
from vq_jax.nn.discriminators.patch import PatchDiscriminator
from vq_jax.nn.discriminators.stylegan import StyleGANDiscriminator

__all__ = ["ClipDiscriminator", "MLPDiscriminator", "PatchDiscriminator", "StyleGANDiscriminator"]
