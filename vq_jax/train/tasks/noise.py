"""What a run of a noise generator trains: the generator and its discriminator, over a tokenizer's codes."""

from typing import Any

import jax
import numpy as np

from vq_jax.configs.runs import NoiseConfig
from vq_jax.errors import UserError
from vq_jax.host.dtypes import compute_dtype
from vq_jax.nn import NoiseGenerator
from vq_jax.pretrained.record import TokenizerRecord
from vq_jax.pretrained.tokenizer import Tokenizer
from vq_jax.train import sharding
from vq_jax.train.optimizers import make_optimizer
from vq_jax.train.state import TrainState
from vq_jax.train.steps.noise import init_noise
from vq_jax.train.tasks.prior import PriorTask
from vq_jax.types import Array, Params


def noise_networks(config: NoiseConfig, model: NoiseGenerator) -> dict[str, Any]:
    """The networks and optimizers of a configuration, as `init_noise` and `noise_step` take them."""
    dtype, steps = compute_dtype(config.training.dtype), config.training.steps
    return {
        "model": model,
        "optimizer": make_optimizer(config.optimizer, steps),
        "discriminator_model": config.discriminator.build(dtype, model.num_classes),
        "discriminator_optimizer": make_optimizer(config.discriminator.optimizer, steps),
    }


def noise_state(
    rng: Array, config: NoiseConfig, record: TokenizerRecord, tokenizer: Tokenizer, model: NoiseGenerator
) -> TrainState:
    """The state before the first step."""
    shape = (record.image_size, record.image_size, tokenizer.channels)
    ema = config.training.ema_decay > 0
    return init_noise(rng, shape, ema=ema, **noise_networks(config, model))


class NoiseTask(PriorTask):
    """See `tasks.Task`."""

    config: NoiseConfig

    def _make_networks(self) -> None:
        config, tokenizer = self.config, self.tokenizer
        model: Any = self._build()
        self.model = model
        shape = (self.record.image_size, self.record.image_size, tokenizer.channels)
        networks = noise_networks(config, model)
        try:
            jax.eval_shape(lambda: init_noise(jax.random.key(0), shape, **networks))
        except ValueError as error:  # pictures that the discriminator does not take
            raise UserError(str(error)) from error
        self._step = sharding.jit_noise_step(
            self.mesh,
            tokenizer_model=tokenizer.model,
            tokenizer_variables=tokenizer.variables,
            losses=config.losses,
            ema_decay=config.training.ema_decay,
            **networks,
        )

    def _init(self, rng: Array) -> TrainState:
        model: Any = self.model
        return noise_state(rng, self.config, self.record, self.tokenizer, model)

    def _eval_params(self, state: TrainState) -> Params:
        return state.generator.eval_params

    def evaluate(self, state: TrainState, step: int) -> dict[str, float]:
        """How far the codes drawn at each position are spread otherwise than those of held-out pictures.

        `loss` and `code_distance` are the mean total variation distance of the two distributions of codes
        at a position, from 0 to 1; each of as many grids, of the same classes. `used_codes` are those
        drawn at least once.
        """
        drawn, held_out = [], []
        conditional = self.record.num_classes is not None
        prior = self._prior(state, step)
        for number, batch in enumerate(self._held_out):
            labels = batch["label"] if conditional else None
            codes = prior.sample_codes(len(batch["valid"]), labels=labels, seed=number)
            drawn.append(codes[batch["valid"]])
            held_out.append(batch["codes"][batch["valid"]])
        size = self.record.specs.codebook_size
        shares = [_shares(np.concatenate(codes), size) for codes in (drawn, held_out)]
        distance = float(0.5 * np.abs(shares[0] - shares[1]).sum(axis=-1).mean())
        used = float((shares[0].sum(axis=0) > 0).sum())
        return {"loss": distance, "code_distance": distance, "used_codes": used}


def _shares(codes: np.ndarray, codebook_size: int) -> np.ndarray:
    """How often each code is at each position, float64 [N, K]."""
    flat = codes.reshape(len(codes), -1)
    counts = [np.bincount(column, minlength=codebook_size) for column in flat.T]
    return np.stack(counts) / len(codes)
