"""A run whose numbers leave the finite ones ends, names the side that did, and saves none of them."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from runs import small_config, state_of

from vq_jax.configs import MLPVQVAE, DiscriminatorConfig, Losses, OptimizerConfig, VectorQuantizerEMAConfig
from vq_jax.train import NonFiniteError, optimizers, train

_USUAL = 1e-3


def config(side):
    """A small run of a VQ-GAN; the optimizer of one side has a learning rate of its own."""
    rates = {name: 2 * _USUAL if name == side else _USUAL for name in ("generator", "discriminator")}
    return dataclasses.replace(
        small_config(ema_decay=0.0),
        model=MLPVQVAE(
            image_channels=3,
            image_size=(16, 16),
            hidden_features=(8,),
            num_latents=2,
            quantizer=VectorQuantizerEMAConfig(codebook_size=8, code_dim=4),
        ),
        losses=Losses(adversarial_weight=0.5, adaptive=False),
        optimizer=OptimizerConfig("sgd", rates["generator"]),
        discriminator=DiscriminatorConfig(
            "mlp", hidden_features=(8, 8, 8), optimizer=OptimizerConfig("sgd", rates["discriminator"])
        ),
    )


@pytest.mark.parametrize(
    "side, rate, words",
    [
        # parameters not numbers: never to be saved, though all losses of the step are finite
        ("generator", float("nan"), ["param_norm is nan at step 4", "Lower optimizer.learning_rate"]),
        (
            "discriminator",
            float("nan"),
            ["discriminator/param_norm is nan at step 4", "Lower discriminator.optimizer.learning_rate"],
        ),
        # parameters finite and huge
        ("generator", 1e15, ["validation/loss is inf at step 4", "Lower optimizer.learning_rate"]),
        pytest.param(
            "discriminator",
            1e15,
            ["discriminator/grad_norm is nan at step 5", "Lower discriminator.optimizer.learning_rate"],
            marks=pytest.mark.ci,
        ),
    ],
)
def test_a_side_that_diverges_ends_the_run_by_its_name_and_is_not_saved(
    side, rate, words, tmp_path, monkeypatch
):
    def schedule(config, steps):
        diverging = config.learning_rate > _USUAL
        return lambda step: jnp.where(
            step == 3, jnp.float32(rate if diverging else _USUAL), jnp.float32(_USUAL)
        )

    monkeypatch.setattr(optimizers, "make_schedule", schedule)
    run = dataclasses.replace(
        config(side), training=dataclasses.replace(config(side).training, save_every=2, log_every=100)
    )
    with pytest.raises(NonFiniteError) as raised:
        train(run, tmp_path)
    assert all(word in str(raised.value) for word in words), raised.value
    last = 4 if "step 5" in words[0] else 2
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()][-1:] == [str(last)]
    step, state = state_of(tmp_path, run)
    assert step == last
    for name, leaf in state.items():
        assert leaf.dtype.kind not in "fV" or np.isfinite(leaf).all(), name
