"""The run of a noise generator: it trains one, with a discriminator, over a tokenizer's codes."""

import dataclasses
from typing import Any

import jax
from jax.sharding import Mesh

from vq_jax.configs.data import height_and_width
from vq_jax.configs.runs import NoiseConfig
from vq_jax.evaluate import CodeDistance, evaluate, sums
from vq_jax.host.dtypes import compute_dtype
from vq_jax.nn import NoiseGenerator, VQModel
from vq_jax.pretrained.build import build_prior
from vq_jax.train import jit, sharding
from vq_jax.train.initial_weights import InitialWeights
from vq_jax.train.optimizers import make_optimizer
from vq_jax.train.state import TrainState
from vq_jax.train.steps.noise import init_noise
from vq_jax.train.tasks.base import ADVERSARIAL_GROUPS
from vq_jax.train.tasks.check import abstract_networks
from vq_jax.train.tasks.planned_codes import planned_codes
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
    rng: Array, config: NoiseConfig, image_shape: tuple[int, ...], model: NoiseGenerator
) -> TrainState:
    """The state before the first step, for pictures of shape (*S, C)."""
    ema = config.training.ema_decay > 0
    return init_noise(rng, image_shape, ema=ema, **noise_networks(config, model))


def abstract_noise_state(
    config: NoiseConfig, image_shape: tuple[int, ...], model: NoiseGenerator
) -> TrainState:
    """Shapes of the state.

    Raises:
      UserError: see `check.abstract_networks`.
    """
    return abstract_networks(lambda: noise_state(jax.random.key(0), config, image_shape, model))


def jit_step(config: NoiseConfig, mesh: Mesh, model: NoiseGenerator, tokenizer_model: VQModel) -> Any:
    """The jitted step of a configuration."""
    return jit.jit_noise_step(
        mesh,
        tokenizer_model=tokenizer_model,
        losses=config.losses,
        ema_decay=config.training.ema_decay,
        **noise_networks(config, model),
    )


class NoiseTask(PriorTask):
    """See `tasks.Task`."""

    config: NoiseConfig
    metric_groups = ADVERSARIAL_GROUPS

    @classmethod
    def lower(
        cls, config: Any, mesh: Mesh, *, tokenizer: str | None = None, classes: int | None = None
    ) -> Any:
        """Lowers the step, see `Task.lower`."""
        codes = planned_codes(config, tokenizer, classes)
        model: Any = build_prior(config, codes.specs, codes.num_classes, codes.config)
        state = abstract_noise_state(config, codes.image_shape, model)
        return jit_step(config, mesh, model, codes.model).lower(
            sharding.with_sharding(state, mesh),
            codes.abstract_batch(config.data.batch_size, mesh),
            sharding.abstract_key(mesh),
            codes.abstract_variables(mesh),
        )

    def _make_networks(self) -> None:
        config, tokenizer, size = self.config, self.tokenizer, height_and_width(self.record.image_size)
        model: Any = self._build()
        self.model = model
        self._image_shape = (*size, tokenizer.channels)
        self._step = jit_step(config, self.mesh, model, tokenizer.model)
        self._frozen = (sharding.replicate(tokenizer.variables, self.mesh),)

    def _init(self, rng: Array) -> TrainState:
        return noise_state(rng, self.config, self._image_shape, self.model)

    def _begin(self, state: TrainState, initial: InitialWeights) -> TrainState:
        return dataclasses.replace(state, generator=super()._begin(state.generator, initial))

    def _eval_params(self, state: TrainState) -> Params:
        return state.generator.eval_params

    def evaluate(self, state: TrainState, step: int) -> dict[str, float]:
        """Compares the codes sampled at each position with those of as many held-out pictures of the same
        classes, see `evaluate.CodeDistance`."""
        evaluators = {"codes": CodeDistance(self.record.specs)}
        conditional = self.record.num_classes is not None
        prior = self._prior(state, step)

        def counts(numbered: tuple[int, Any]) -> dict[str, Any]:
            number, batch = numbered
            labels = batch["label"] if conditional else None
            codes = prior.sample_codes(len(batch["valid"]), labels=labels, seed=number)
            return sums(evaluators, batch, codes)

        return evaluate(counts, enumerate(self._held_out), evaluators).figures
