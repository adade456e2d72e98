"""The training step of a noise generator over a frozen tokenizer: a pure function. Jitted in `train.jit`."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen
from jax.sharding import PartitionSpec

from vq_jax import ops
from vq_jax.configs.losses import Losses
from vq_jax.nn import Condition, NoiseGenerator, VQModel
from vq_jax.ops.meshes import auto_axes, places_of
from vq_jax.train.state import TrainState, init_discriminator, new_generator
from vq_jax.train.steps.discriminator import FAKE, discriminator_step, judge_pictures
from vq_jax.train.steps.update import apply_update
from vq_jax.types import Array, Codes, Float, Key, Metrics, Params


def init_noise(
    rng: Key[Array, ""],
    image_shape: tuple[int, ...],
    *,
    model: NoiseGenerator,
    optimizer: optax.GradientTransformation,
    discriminator_model: linen.Module,
    discriminator_optimizer: optax.GradientTransformation,
    ema: bool = False,
) -> TrainState:
    """Makes the state before the first step; pure, to be jitted with output shardings.

    Args:
      rng: key of the initial parameters.
      image_shape: shape of one picture (*S, C).
      model: the noise generator.
      optimizer: the generator's Optax chain.
      discriminator_model: the discriminator, with the generator's classes.
      discriminator_optimizer: the discriminator's Optax chain.
      ema: keep a running average of the generator's parameters.
    """
    labels = None if model.num_classes is None else jnp.zeros((1,), jnp.int32)
    variables: Any = model.init(rng, jnp.zeros((1, model.noise_dim), jnp.float32), Condition(labels))
    generator = new_generator(variables, optimizer, ema=ema)
    discriminator = init_discriminator(
        jax.random.fold_in(rng, 1), image_shape, model=discriminator_model, optimizer=discriminator_optimizer
    )
    return TrainState(generator, discriminator)


@auto_axes(lambda state, *_, **__: (places_of(state), PartitionSpec()))
def noise_step(
    state: TrainState,
    codes: Codes,
    condition: Condition,
    rng: Key[Array, ""],
    *,
    model: NoiseGenerator,
    tokenizer_model: VQModel,
    tokenizer_variables: Params,
    optimizer: optax.GradientTransformation,
    discriminator_model: linen.Module,
    discriminator_optimizer: optax.GradientTransformation,
    losses: Losses,
    ema_decay: float = 0.0,
) -> tuple[TrainState, Metrics]:
    """One update of a noise generator, and one of its discriminator.

    The tokenizer quantizes the generator's latents, with a straight-through gradient, and decodes them;
    tokenizer and codebook never change. Real pictures are the tokenizer's reconstructions: they too are
    decoded from codes, so that only the codes differ. The commitment loss keeps the latents near the vectors
    of the codebook.

    Args:
      state: that of both networks; its buffers may be donated.
      codes: of real pictures: int32 arrays laid out like `model.code_specs`, batch first.
      condition: their labels int32 [B], which are also those of the generated pictures; none for an
        unconditional generator.
      rng: key of this step; the noise is drawn from it.
      model: the noise generator.
      tokenizer_model: the frozen tokenizer.
      tokenizer_variables: its variables.
      optimizer: the generator's chain.
      discriminator_model: the discriminator, with the generator's classes.
      discriminator_optimizer: its chain.
      losses: kind and weight of the adversarial losses, with the discriminator's penalties; fields about
        reconstructions have no effect.
      ema_decay: decay of the running average of the generator's parameters, if the state keeps one.

    Returns:
      The new state and metrics: float32 scalars. `loss` is the generator's: the weighted adversarial loss
      plus the commitment loss. The discriminator's have the prefix `discriminator/`.
    """
    generator, discriminator = state.generator, state.discriminator
    assert discriminator is not None  # see init_noise

    def make(params: Params) -> tuple[Float[Array, "B *S C"], Array, Metrics]:
        batch_size = jax.tree.leaves(codes)[0].shape[0]
        noise = jax.random.normal(jax.random.fold_in(rng, 0), (batch_size, model.noise_dim), jnp.float32)
        latents: Any = model.apply({"params": params}, noise, condition, train=True)
        quantized: Any = tokenizer_model.apply(tokenizer_variables, latents, method="quantize")
        pictures: Any = tokenizer_model.apply(
            tokenizer_variables, quantized.quantized, method="decode_latents"
        )
        return pictures, quantized.loss, quantized.metrics

    def loss_of(params: Params) -> tuple[Array, tuple[Array, Metrics]]:
        pictures, quantizer_loss, metrics = make(params)
        logits, _ = judge_pictures(
            discriminator_model,
            losses,
            discriminator.params,
            discriminator.batch_stats,
            pictures,
            FAKE,
            rng,
            condition.labels,
        )
        adversarial = ops.generator_adversarial_loss(logits, losses.adversarial)
        loss = losses.adversarial_weight * adversarial + quantizer_loss
        metrics = {"loss": loss, "adversarial_loss": adversarial, "quantizer_loss": quantizer_loss, **metrics}
        return loss, (pictures, metrics)

    (_, (pictures, metrics)), grads = jax.value_and_grad(loss_of, has_aux=True)(generator.params)
    new, norms = apply_update(optimizer, generator, grads, loss=metrics["loss"], ema_decay=ema_decay)
    real: Any = tokenizer_model.apply(tokenizer_variables, codes, method="decode")
    batch = {"image": real} | ({} if condition.labels is None else {"label": condition.labels})
    judge, judged = discriminator_step(
        discriminator,
        batch,
        pictures,
        rng,
        discriminator_model=discriminator_model,
        optimizer=discriminator_optimizer,
        losses=losses,
    )
    return TrainState(new, judge), metrics | norms | judged
