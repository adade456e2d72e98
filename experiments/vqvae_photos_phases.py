"""vqvae-photos in three phases: autoencoder, codebook, joint.

First encoder and decoder learn alone, the quantizer passed by; then k-means and running averages fit
the codebook to what the encoder puts out, encoder and decoder frozen; then everything learns together.

It helps where a codebook collapses in joint training from the start (large codebooks, few pictures,
no revival): the codes begin where the latents are. With revival on, a joint run reaches about the same.

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
