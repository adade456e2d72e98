"""Small restorers over the small tokenizer of `prior_runs`, which several test files share."""

from pathlib import Path

from prior_runs import tokenizer_run
from shared import made_once

from vq_jax.configs import (
    DiscriminatorConfig,
    DownscaleConfig,
    GaussianNoiseConfig,
    RegressorConfig,
    RestorationLosses,
    RestorerConfig,
    RestorerDataConfig,
    RestorerNetwork,
    TrainingConfig,
)
from vq_jax.train import train

STEPS = 6
NETWORK = RestorerNetwork(
    channels=8, residual_channels=4, num_res_blocks=1, fusion_channels=4, fusion_blocks=1
)


def restorer_config(*, kind="restorer", scale=2, network=NETWORK, losses=None, **training):
    """A run of seconds: pictures of 16 x 16 from smaller ones, with a discriminator; or from noisy ones."""
    degradation = DownscaleConfig(factor=scale) if scale > 1 else GaussianNoiseConfig((10.0, 20.0))
    make = {"restorer": RestorerConfig, "regressor": RegressorConfig}[kind]
    return make(
        name=f"small-{kind}",
        tokenizer=str(tokenizer_run()),
        restorer=network,
        data=RestorerDataConfig(batch_size=8, degradation=degradation),
        losses=losses or RestorationLosses(adversarial_weight=0.1, disc_start=2, adversarial_start=3),
        discriminator=DiscriminatorConfig(kind="mlp", hidden_features=(8,)),
        training=TrainingConfig(
            **{
                "steps": STEPS,
                "log_every": 1,
                "eval_every": 3,
                "image_every": 100,
                "save_every": 3,
                "ema_decay": 0.9,
                **training,
            }
        ),
    )


def restorer_run(kind: str = "restorer") -> Path:
    """The run of a restorer; tests that change it work on a copy."""

    def make(run: Path) -> None:
        assert train(restorer_config(kind=kind), run).step == STEPS

    return made_once(f"restorer-{kind}", make)
