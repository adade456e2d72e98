"""vqvae-photos in three phases: autoencoder, codebook, joint.

The first phase trains encoder and decoder and bypasses the quantizer. The second freezes them and fits the
codebook to the encoder's outputs, by k-means and running averages. The last trains everything.

Phases help where a codebook collapses when it is trained jointly from the start (large codebooks, few
pictures, no revival), because the codebook vectors start where the latents are. With revival, a joint run
reaches about the same.

Command:   vq-jax train vqvae-photos-phases
Hardware:  2 CPU cores
"""

import dataclasses

from vq_jax.configs import Phase
from vq_jax.configs.presets import load_preset

_photos = load_preset("vqvae-photos")

config = dataclasses.replace(
    _photos,
    name="vqvae-photos-phases",
    phases=(
        Phase("autoencoder", steps=400),
        Phase("codebook", steps=100, kmeans_batches=16),
        Phase("joint"),
    ),
)
