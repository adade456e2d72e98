"""The VQ-VAE recipe of van den Oord et al. 2017 as its authors released it, on CIFAR-10.

Differences: pictures in [-1, 1] instead of [-0.5, 0.5], every other picture mirrored, revival of dead codes.
The authors divide the reconstruction loss by the variance of the data; the weight below does the same.

Command:   vq-jax prepare cifar10   (once; needs pip install "vq-jax[tfds]" and a network)
           vq-jax train vqvae-cifar10
Hardware:  one GPU or TPU chip
Expected:  the authors report a normalised mean squared error of 0.056 after 10,000 steps with a
           perplexity of 326 (dm-sonnet's notebook); not run here, because CIFAR-10 was not available
"""

from vq_jax.configs import (
    DataConfig,
    ExperimentConfig,
    Losses,
    OptimizerConfig,
    ResidualVQVAE,
    TrainingConfig,
    VectorQuantizerEMAConfig,
)

_VARIANCE = 4 * 0.0632704  # variance of CIFAR-10's pixels, published for [-0.5, 0.5]

config = ExperimentConfig(
    name="vqvae-cifar10",
    model=ResidualVQVAE(
        quantizer=VectorQuantizerEMAConfig(codebook_size=512, code_dim=64, revive_threshold=0.03)
    ),
    data=DataConfig(source="tfds:cifar10", image_size=32, batch_size=32),
    losses=Losses(reconstruction_weight=1.0 / _VARIANCE),
    optimizer=OptimizerConfig(learning_rate=3e-4),
    training=TrainingConfig(steps=10_000, log_every=100, eval_every=1000, image_every=1000, save_every=1000),
)
