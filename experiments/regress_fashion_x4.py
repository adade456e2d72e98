"""The network of restore-fashion-x4 without codes, to compare with it; it learns from the pictures alone.

The tokenizer gives the sizes of the network and its first weights.

Command:   vq-jax train regress-fashion-x4
Hardware:  2 CPU cores
"""

from vq_jax.configs import (
    DownscaleConfig,
    OptimizerConfig,
    RegressorConfig,
    RestorationLosses,
    RestorerDataConfig,
    TrainingConfig,
)

config = RegressorConfig(
    name="regress-fashion-x4",
    tokenizer="runs/vqgan-fashion",
    data=RestorerDataConfig(batch_size=64, degradation=DownscaleConfig(factor=4)),
    losses=RestorationLosses(),
    optimizer=OptimizerConfig(learning_rate=1e-3, b2=0.99, schedule="cosine", final_ratio=0.05),
    training=TrainingConfig(steps=1200, ema_decay=0.99, eval_every=300, image_every=600, save_every=600),
)
