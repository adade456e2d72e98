"""The training step of a restorer over a frozen tokenizer: a pure function. Jitted in `train.jit`."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen

from vq_jax import nn, ops
from vq_jax.configs.restorers import RestorationLosses
from vq_jax.nn import RegressorModel, RestorerModel, RestorerOutput
from vq_jax.train.state import DiscriminatorState, TrainState, init_discriminator, new_generator
from vq_jax.train.steps.discriminator import FAKE, discriminator_step, judge_pictures
from vq_jax.train.steps.update import accumulate_gradients, apply_update, join_batch
from vq_jax.types import Array, Float, Key, Metrics, Params


def init_restorer(
    rng: Key[Array, ""],
    image_shape: tuple[int, ...],
    *,
    model: RestorerModel | RegressorModel,
    optimizer: optax.GradientTransformation,
    discriminator_model: linen.Module | None = None,
    discriminator_optimizer: optax.GradientTransformation | None = None,
    ema: bool = False,
) -> TrainState:
    """Makes the state before the first step; pure, to be jitted with output shardings.

    Args:
      rng: key of the initial parameters.
      image_shape: shape (*S, C) of a clean picture.
      model: the restorer.
      optimizer: its Optax chain.
      discriminator_model: the discriminator; None for none.
      discriminator_optimizer: its chain.
      ema: keep a running average of the restorer's parameters.
    """
    *spatial, channels = image_shape
    degraded = jnp.zeros((1, *(length // model.scale for length in spatial), channels), jnp.float32)
    params = dict(model.init(rng, degraded)["params"])
    params.pop("tokenizer", None)
    generator = new_generator({"params": params}, optimizer, ema=ema)
    if discriminator_model is None or discriminator_optimizer is None:
        return TrainState(generator, None)
    discriminator = init_discriminator(
        jax.random.fold_in(rng, 1), image_shape, model=discriminator_model, optimizer=discriminator_optimizer
    )
    return TrainState(generator, discriminator)


def restorer_step(
    state: TrainState,
    batch: dict[str, Array],
    rng: Key[Array, ""],
    *,
    model: RestorerModel | RegressorModel,
    tokenizer_variables: Params,
    optimizer: optax.GradientTransformation,
    losses: RestorationLosses,
    discriminator_model: linen.Module | None = None,
    discriminator_optimizer: optax.GradientTransformation | None = None,
    perceptual: Params | None = None,
    ema_decay: float = 0.0,
    accumulate: int = 1,
) -> tuple[TrainState, Metrics]:
    """One update of a restorer, and one of its discriminator where there is one.

    A restorer learns the codes that the tokenizer gives the clean picture (cross-entropy), their vectors
    (mean squared error), and at fidelity 1 the clean picture itself (reconstruction, LPIPS, adversarial).
    The tokenizer never changes. A regressor learns the picture alone.

    Args:
      state: that of both networks; its buffers may be donated.
      batch: `image`, the degraded pictures, and `target`, the clean ones: uint8, or float in [-1, 1].
      rng: key of this step.
      model: the network.
      tokenizer_variables: of the frozen tokenizer; not used by a regressor.
      optimizer: the restorer's chain.
      losses: their weights; those of this step, see `Losses.at`.
      discriminator_model: the discriminator; None for none.
      discriminator_optimizer: its chain.
      perceptual: variables of LPIPS, see `nn.load_lpips`, where `losses.perceptual_weight` is above zero.
      ema_decay: decay of the running average of the parameters, if the state keeps one.
      accumulate: parts that the batch is cut into, whose gradients are averaged, for less memory.

    Returns:
      The new state and metrics: float32 scalars. The discriminator's have the prefix `discriminator/`.

    Raises:
      ValueError: the batch has no target.

    References:
      Zhou et al. 2022, arXiv:2206.11253, eqs. 5 and 6.
    """
    if "target" not in batch:
        raise ValueError(
            "expected degraded pictures `image` and clean ones `target` in the batch, got no target"
        )
    loss_of = functools.partial(
        _loss,
        discriminator=state.discriminator if losses.has_discriminator else None,
        rng=rng,
        model=model,
        tokenizer_variables=tokenizer_variables,
        losses=losses,
        discriminator_model=discriminator_model,
        perceptual=perceptual,
    )

    def gradients(carry: None, part: dict[str, Array], number: Array | None) -> Any:
        (_, (pictures, metrics)), grads = jax.value_and_grad(loss_of, has_aux=True)(
            state.generator.params, part
        )
        return grads, carry, metrics, pictures

    given = {name: batch[name] for name in ("image", "target")}
    grads, _, metrics, pictures = accumulate_gradients(gradients, state.generator.params, given, accumulate)
    generator, norms = apply_update(
        optimizer, state.generator, grads, loss=metrics["loss"], ema_decay=ema_decay
    )
    discriminator = state.discriminator
    if discriminator is not None and discriminator_model is not None:
        assert discriminator_optimizer is not None  # given together, see init_restorer
        discriminator, judged = discriminator_step(
            discriminator,
            {"image": batch["target"]},
            pictures if accumulate == 1 else join_batch(pictures),
            rng,
            discriminator_model=discriminator_model,
            optimizer=discriminator_optimizer,
            losses=losses,
            accumulate=accumulate,
        )
        norms |= judged
    return TrainState(generator, discriminator), metrics | norms


def restoration_losses(
    output: RestorerOutput,
    target: Float[Array, "B *S C"],
    clean: tuple[Array, Array] | None,
    losses: RestorationLosses,
    perceptual: Params | None = None,
) -> tuple[Float[Array, ""], Metrics]:
    """Weighted sum of a restorer's losses but the adversarial one, and its parts by name.

    Args:
      output: the network's.
      target: clean pictures in [-1, 1].
      clean: their codes and these codes' vectors, see `RestorerModel.clean`; None for a regressor.
      losses: weights.
      perceptual: variables of LPIPS, where `losses.perceptual_weight` is above zero.
    """
    reconstruction = ops.reconstruction_loss(output.reconstruction, target, losses.reconstruction)
    loss, metrics = losses.reconstruction_weight * reconstruction, {"reconstruction_loss": reconstruction}
    if clean is not None and output.logits is not None:
        codes, vectors = clean
        codes = codes.reshape(output.logits.shape[:-1])
        entropy = ops.code_cross_entropy(output.logits, codes)
        features = jnp.mean(jnp.square(output.latents - jax.lax.stop_gradient(vectors)))
        loss = loss + losses.code_weight * entropy + losses.feature_weight * features
        metrics |= {
            "codes/cross_entropy": entropy,
            "codes/accuracy": ops.code_accuracy(output.logits, codes),
            "codes/feature_loss": features,
        }
    if losses.perceptual_weight > 0:
        assert perceptual is not None  # the task loads them
        lpips = nn.LPIPS(losses.perceptual, dtype=output.reconstruction.dtype)
        distances: Any = lpips.apply(perceptual, output.reconstruction, target)
        metrics["perceptual_loss"] = jnp.mean(distances)
        loss = loss + losses.perceptual_weight * metrics["perceptual_loss"]
    return loss, metrics


def _loss(
    params: Params,
    batch: dict[str, Array],
    *,
    discriminator: DiscriminatorState | None,
    rng: Key[Array, ""],
    model: RestorerModel | RegressorModel,
    tokenizer_variables: Params,
    losses: RestorationLosses,
    discriminator_model: linen.Module | None,
    perceptual: Params | None,
) -> tuple[Array, tuple[Array, Metrics]]:
    """The loss of a batch; the restored pictures, at fidelity 1, and metrics."""
    images, target = (ops.normalize_pictures(batch[name]) for name in ("image", "target"))
    variables = model.with_tokenizer(params, tokenizer_variables)
    given: dict[str, Any] = {}
    clean: Any = None
    if isinstance(model, RestorerModel):
        clean = model.apply(variables, target, method="clean")
        given["codes"] = clean[0]
    output: Any = model.apply(variables, images, train=True, **given)
    loss, metrics = restoration_losses(output, target, clean, losses, perceptual)
    if discriminator is not None and discriminator_model is not None:
        adversarial, more = _adversarial(
            output.reconstruction, discriminator, rng, losses, discriminator_model
        )
        loss, metrics = loss + adversarial, metrics | more
    return loss, (output.reconstruction, {"loss": loss, **metrics})


def _adversarial(
    pictures: Array,
    discriminator: DiscriminatorState,
    rng: Key[Array, ""],
    losses: RestorationLosses,
    discriminator_model: linen.Module,
) -> tuple[Array, Metrics]:
    """The weighted adversarial loss, zero before it starts, and its metrics."""
    params, batch_stats = discriminator.params, discriminator.batch_stats
    logits, _ = judge_pictures(discriminator_model, losses, params, batch_stats, pictures, FAKE, rng)
    starts = losses.starts()
    start = max(starts["disc_start"], starts["adversarial_start"])
    weight = losses.adversarial_weight * ops.ramp(discriminator.step, start, losses.adversarial_ramp)
    adversarial = ops.generator_adversarial_loss(logits, losses.adversarial)
    on, zero = discriminator.step >= start, jnp.zeros((), jnp.float32)
    # Selected, not multiplied by zero: what is not finite on the unused side stays there.
    metrics = {
        "adversarial_loss": jnp.where(on, adversarial, zero),
        "adversarial_weight": jnp.where(on, weight, zero),
    }
    return jnp.where(on, weight * adversarial, zero), metrics
