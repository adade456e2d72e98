"""vqvae-photos with codes that are rounded instead of learnt (FSQ).

A picture becomes one code out of 64,000 = 8 x 8 x 8 x 5 x 5 x 5 for every 4x4 pixels, 1 bit a pixel as in
vqvae-photos.

Command:   vq-jax train vqvae-photos-fsq
Hardware:  2 CPU cores
Run time:  about 4 minutes
Expected:  PSNR 27.1 dB, SSIM 0.75 and LPIPS (AlexNet) 0.28 on the two held-out photographs;
           vqvae-photos has 29.1 dB, 0.82 and 0.17
"""

import dataclasses

from vq_jax.configs import FSQConfig
from vq_jax.configs.presets import load_preset

_photos = load_preset("vqvae-photos")

config = dataclasses.replace(
    _photos,
    name="vqvae-photos-fsq",
    model=dataclasses.replace(_photos.model, quantizer=FSQConfig(levels=(8, 8, 8, 5, 5, 5), bound="sigmoid")),
)
