"""FSQ in MaskGIT's tokenizer (Mentzer et al. 2023, arXiv:2309.15505) on ImageNet: 16x16 codes out of 1000.

maskgit-imagenet-tokenizer with four channels of 8, 5, 5 and 5 levels in place of the codebook, the paper's
for 2^10 codes; its file says how the rest differs from MaskGIT's own recipe. The quantizer has no loss, and
needs nothing to keep codes in use.

Command:   vq-jax prepare imagenet2012   (once; see vqgan-imagenet-f16-1024)
           vq-jax train fsq-imagenet
           from a folder of pictures: --data folder:/path/to/train
Hardware:  that of maskgit-imagenet-tokenizer
Expected:  all codes in use, and pictures of a MaskGIT about as good as with a codebook, by the paper; not run
           here
"""

import dataclasses

from vq_jax.configs import FSQConfig
from vq_jax.configs.presets import load_preset

_base = load_preset("maskgit-imagenet-tokenizer")

config = dataclasses.replace(
    _base,
    name="fsq-imagenet",
    model=dataclasses.replace(_base.model, quantizer=FSQConfig(levels=(8, 5, 5, 5))),
)
