"""PixelCNN, the prior of the original VQ-VAE, over the codes of vqgan-fashion: new pictures by class.

Command:   vq-jax train prior-fashion-pixelcnn
           after vq-jax train vqgan-fashion; for a tokenizer elsewhere, give --tokenizer RUN
           vq-jax sample runs/prior-fashion-pixelcnn --num 80 -o samples.png
Hardware:  2 CPU cores
Run time:  about 4.5 minutes
Expected:  F-FID 1.93 and the requested class in 89 % of samples
           (experiments/benchmarks/fashion_generation.py)
"""

from vq_jax.configs import (
    OptimizerConfig,
    PixelCNNArchitecture,
    PriorConfig,
    PriorDataConfig,
    SamplingOptions,
    TrainingConfig,
)

config = PriorConfig(
    name="prior-fashion-pixelcnn",
    tokenizer="runs/vqgan-fashion",
    prior=PixelCNNArchitecture(width=96, num_layers=8, kernel=5, head_features=256),
    data=PriorDataConfig(batch_size=64, flip=False),  # shoes all point one way
    optimizer=OptimizerConfig(learning_rate=1e-3, schedule="cosine", warmup_steps=50, clip_norm=1.0),
    training=TrainingConfig(
        steps=1190, ema_decay=0.99, log_every=25, eval_every=170, image_every=595, save_every=595
    ),
    sampling=SamplingOptions(guidance=1.5),
)
