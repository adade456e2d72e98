"""The training steps: pure functions from states and batch to states and metrics. Jitted in `sharding`.

One forward pass of the generator serves both steps: `generator_step` returns the reconstruction that
`discriminator_step` learns from. The adversarial weight takes no second pass either: the pullback of
that one forward pass, cut down to the decoder's last kernel, gives both gradients that it compares.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen

from vq_jax import nn, ops
from vq_jax.configs.losses import Losses
from vq_jax.configs.training import PhaseKind
from vq_jax.nn import VQModel, VQOutput
from vq_jax.train.optimizers import apply_gradients, apply_revival, keep_frozen
from vq_jax.train.state import DiscriminatorState, GeneratorState
from vq_jax.types import Array, Float, Int, Key, Metrics, Params

# Parts of the parameters that learn in each phase.
TRAINABLE: dict[PhaseKind, tuple[str, ...]] = {
    "autoencoder": ("encoder", "decoder"),
    "codebook": ("quantizer",),
    "joint": ("encoder", "quantizer", "decoder"),
}

# Fields of VQOutput through which a loss reaches the parameters.
_DIFFERENTIABLE = ("reconstruction", "loss", "outputs", "latents")


def generator_loss(
    output: VQOutput,
    target: Float[Array, "B *S C"],
    losses: Losses,
    perceptual: Params | None = None,
) -> tuple[Float[Array, ""], Metrics]:
    """Weighted sum of the reconstruction and perceptual losses, the quantizer's own and the regularisers.

    Args:
      output: the model's.
      target: pictures in [-1, 1] that the reconstruction is compared with.
      losses: weights; those of this step, see `Losses.at`.
      perceptual: variables of LPIPS, see `nn.load_lpips`, where `losses.perceptual_weight` is above zero.

    Returns:
      The sum and its parts by name, float32 scalars.

    Raises:
      ValueError: a perceptual loss is asked for and there are no variables for it.
    """
    reconstruction = ops.reconstruction_loss(output.outputs, target, losses.reconstruction)
    loss = losses.reconstruction_weight * reconstruction + output.loss
    metrics = {"reconstruction_loss": reconstruction, "quantizer_loss": output.loss}
    if losses.perceptual_weight > 0:
        if perceptual is None:
            raise ValueError(
                f"expected variables of LPIPS for losses.perceptual_weight = {losses.perceptual_weight}, got "
                f"none: give perceptual=nn.load_lpips({losses.perceptual!r}), or set the weight to 0"
            )
        lpips = nn.LPIPS(losses.perceptual, dtype=output.outputs.dtype)
        distances: Any = lpips.apply(
            jax.lax.stop_gradient(perceptual), output.reconstruction, jax.lax.stop_gradient(target)
        )
        distance = jnp.mean(distances)
        loss = loss + losses.perceptual_weight * distance
        metrics["perceptual_loss"] = distance
    if losses.variance_weight > 0:
        variance = ops.variance_loss(output.latents)
        loss = loss + losses.variance_weight * variance
        metrics["variance_loss"] = variance
    return loss, {"loss": loss, **metrics, **output.metrics}


def generator_step(
    generator: GeneratorState,
    discriminator: DiscriminatorState | None,
    batch: dict[str, Array],
    rng: Key[Array, ""],
    *,
    model: VQModel,
    optimizer: optax.GradientTransformation,
    losses: Losses,
    discriminator_model: linen.Module | None = None,
    perceptual: Params | None = None,
    phase: PhaseKind = "joint",
    ema_decay: float = 0.0,
    accumulate: int = 1,
) -> tuple[GeneratorState, Float[Array, "B *S C"], Metrics]:
    """One update of encoder, quantizer and decoder.

    Args:
      generator: state; its buffers may be donated.
      discriminator: its state, never changed; None for a VQ-VAE.
      batch: `image` uint8 or float in [-1, 1], [B, *S, C]; `target` alike where the reconstruction is
        compared with something else.
      rng: key of this step, the same that `discriminator_step` is given.
      model: the network.
      optimizer: the chain that made the state.
      losses: weights; `losses.head` must be the model's. `losses.perceptual_start` is for the caller to
        heed, by giving `losses.at(step)`: another program, not a branch, which on CPU would run on one core.
      discriminator_model: the discriminator; None for a VQ-VAE.
      perceptual: variables of LPIPS, see `nn.load_lpips`, where `losses.perceptual_weight` is above zero.
      phase: what learns. `autoencoder` passes the quantizer by; `codebook` leaves encoder and decoder,
        with their moments, exactly as they are; `joint` trains everything.
      ema_decay: of the running average of the parameters, if the state keeps one.
      accumulate: parts that the batch is cut into, whose gradients are averaged, for less memory. The
        codebook is updated once, from all of them; batch statistics of the discriminator and the
        adaptive weight are those of each part.

    Returns:
      The new state, the reconstruction in [-1, 1] from before the update, and metrics: float32 scalars.

    Raises:
      ValueError: model and losses disagree on the decoder's head; or the losses ask for a discriminator
        or a perceptual distance, and there is none.
    """
    if model.head != losses.head:
        raise ValueError(
            f"losses.reconstruction = {losses.reconstruction!r} needs a model with head = "
            f"{losses.head!r}, got {model.head!r}"
        )
    if losses.has_discriminator and (discriminator is None or discriminator_model is None):
        raise ValueError(
            f"expected a discriminator's state and model for losses.adversarial_weight = "
            f"{losses.adversarial_weight}, got none: give both, or set the weight to 0"
        )
    trainable = TRAINABLE[phase]
    gradients = functools.partial(
        _generator_gradients,
        generator,
        discriminator if losses.has_discriminator else None,
        model=model,
        losses=losses,
        discriminator_model=discriminator_model,
        perceptual=perceptual,
        trainable=trainable,
        quantize=phase != "autoencoder",
    )
    pictures: dict[str, Array] = {name: batch[name] for name in ("image", "target") if name in batch}
    if accumulate == 1:
        grads, output, updates, metrics = gradients(pictures, rng, mutable=["codebook"])
        reconstruction, revival = output.reconstruction, output.revival
    else:

        def part(total: Params, pictures: dict[str, Array]) -> tuple[Params, Any]:
            grads, output, _, metrics = gradients(pictures, rng, mutable=False)
            return jax.tree.map(jnp.add, total, grads), (output.reconstruction, output.latents, metrics)

        zeros = jax.tree.map(jnp.zeros_like, generator.params)
        total, (parts, latents, metrics) = jax.lax.scan(part, zeros, split_batch(pictures, accumulate))
        grads = jax.tree.map(lambda grad: grad / accumulate, total)
        metrics = jax.tree.map(jnp.mean, metrics)
        reconstruction, updates, revival = join_batch(parts), {}, {}
        if phase != "autoencoder":
            quantized, updates = model.apply(
                {"params": generator.params, "codebook": generator.codebook},
                join_batch(latents),
                train=True,
                mutable=["codebook"],
                rngs={"quantizer": rng},
                method="quantize",
            )
            metrics, revival = metrics | quantized.metrics, quantized.revival

    params, opt_state = apply_gradients(optimizer, grads, generator.params, generator.opt_state)
    if phase != "joint":
        params, opt_state = keep_frozen(
            optimizer, trainable, (generator.params, generator.opt_state), (params, opt_state)
        )
    params, opt_state = apply_revival(optimizer, params, opt_state, revival)
    ema_params = generator.ema_params
    if ema_params is not None:
        ema_params = optax.incremental_update(params, ema_params, 1.0 - ema_decay)
    metrics["grad_norm"] = optax.tree.norm(grads)
    metrics["param_norm"] = optax.tree.norm(params)
    new = GeneratorState(
        step=generator.step + jnp.ones((), jnp.int32),
        params=params,
        codebook=updates.get("codebook", generator.codebook),
        opt_state=opt_state,
        ema_params=ema_params,
    )
    return new, reconstruction, metrics


def _generator_gradients(
    generator: GeneratorState,
    discriminator: DiscriminatorState | None,
    pictures: dict[str, Array],
    rng: Key[Array, ""],
    *,
    model: VQModel,
    losses: Losses,
    discriminator_model: linen.Module | None,
    perceptual: Params | None,
    trainable: tuple[str, ...],
    quantize: bool,
    mutable: Any,
) -> tuple[Params, VQOutput, Params, Metrics]:
    """Gradients of one batch, the model's output, its new collections and metrics."""
    images = ops.normalize_pictures(pictures["image"])
    target = ops.normalize_pictures(pictures.get("target", pictures["image"]))

    def forward(params: Params) -> tuple[dict[str, Array], tuple[VQOutput, Params]]:
        # Stopped here, the compiler drops the backward pass of what does not learn.
        params = {
            name: part if name in trainable else jax.lax.stop_gradient(part) for name, part in params.items()
        }
        result: Any = model.apply(
            {"params": params, "codebook": generator.codebook},
            images,
            train=True,
            quantize=quantize,
            mutable=mutable,
            rngs={"quantizer": rng},
        )
        output, updates = result if mutable else (result, {})
        return {name: getattr(output, name) for name in _DIFFERENTIABLE}, (output, updates)

    reached, pullback, (output, updates) = jax.vjp(forward, generator.params, has_aux=True)

    def loss_function(reached: dict[str, Any]) -> tuple[Array, Metrics]:
        return generator_loss(dataclasses.replace(output, **reached), target, losses, perceptual)

    (_, metrics), cotangents = jax.value_and_grad(loss_function, has_aux=True)(reached)
    if discriminator is not None and discriminator_model is not None:
        judge = functools.partial(judge_pictures, discriminator_model, losses)

        def adversarial_loss(reconstruction: Array) -> Array:
            logits, _ = judge(discriminator.params, discriminator.batch_stats, reconstruction, FAKE, rng)
            return ops.generator_adversarial_loss(logits, losses.adversarial)

        adversarial, slope = jax.value_and_grad(adversarial_loss)(output.reconstruction)
        start = max(losses.disc_start, losses.adversarial_start)
        on = discriminator.step >= start
        weight = losses.adversarial_weight * ops.ramp(discriminator.step, start, losses.adversarial_ramp)
        if losses.adaptive:
            nothing = jax.tree.map(jnp.zeros_like, cotangents)

            def at_last_kernel(cotangents: dict[str, Array]) -> Array:
                # All but this leaf is unused and never computed.
                (grads,) = pullback(cotangents)
                return grads["decoder"][model.decoder.last_layer]["kernel"]

            weight = weight * ops.adaptive_weight(
                at_last_kernel(cotangents),
                at_last_kernel(nothing | {"reconstruction": slope}),
                losses.adaptive_max,
            )
        # Selected, not multiplied by zero: what is not finite on the unused side stays there.
        pull = jnp.where(on, weight * slope, jnp.zeros_like(slope))
        cotangents = cotangents | {"reconstruction": cotangents["reconstruction"] + pull}
        zero = jnp.zeros(())
        metrics["adversarial_loss"] = jnp.where(on, adversarial, zero)
        metrics["adversarial_weight"] = jnp.where(on, weight, zero)
    (grads,) = pullback(cotangents)
    return grads, output, updates, metrics


def discriminator_step(
    discriminator: DiscriminatorState,
    batch: dict[str, Array],
    reconstruction: Float[Array, "B *S C"],
    rng: Key[Array, ""],
    *,
    discriminator_model: linen.Module,
    optimizer: optax.GradientTransformation,
    losses: Losses,
    accumulate: int = 1,
) -> tuple[DiscriminatorState, Metrics]:
    """One update of the discriminator; the generator is not there to be touched.

    Args:
      discriminator: state; its buffers may be donated. Before step `losses.disc_start` only its step
        counts on.
      batch: as `generator_step` was given it; real pictures are its `target`, or `image`. `label` int32
        [B], the class of both the real picture and the other one, for a discriminator with classes.
      reconstruction: that `generator_step` returned; no gradient flows to it.
      rng: key of this step, the same that `generator_step` was given.
      discriminator_model: the network.
      optimizer: the chain that made the state.
      losses: weights and kinds.
      accumulate: parts that the batch is cut into, whose gradients are averaged; batch statistics are
        those of each part.

    Returns:
      The new state and metrics: float32 scalars, zero before `losses.disc_start`.
    """
    real = ops.normalize_pictures(batch.get("target", batch["image"]))
    fake = jax.lax.stop_gradient(reconstruction)
    labels = None if getattr(discriminator_model, "num_classes", None) is None else batch["label"]
    loss_function = functools.partial(
        _discriminator_loss,
        lecam=discriminator.lecam,
        step=discriminator.step,
        rng=rng,
        model=discriminator_model,
        losses=losses,
    )
    gradients = jax.value_and_grad(loss_function, has_aux=True)
    if accumulate == 1:
        (_, (batch_stats, metrics)), grads = gradients(
            discriminator.params, discriminator.batch_stats, real, fake, labels
        )
    else:

        def part(carry: tuple[Params, Params], pictures: tuple[Array, ...]) -> tuple[Any, Metrics]:
            total, batch_stats = carry
            (_, (batch_stats, metrics)), grads = gradients(discriminator.params, batch_stats, *pictures)
            return (jax.tree.map(jnp.add, total, grads), batch_stats), metrics

        zeros = jax.tree.map(jnp.zeros_like, discriminator.params)
        parts = split_batch((real, fake, labels), accumulate)
        (total, batch_stats), metrics = jax.lax.scan(part, (zeros, discriminator.batch_stats), parts)
        grads = jax.tree.map(lambda grad: grad / accumulate, total)
        metrics = jax.tree.map(jnp.mean, metrics)
    lecam = ops.update_lecam(
        discriminator.lecam, metrics["logits_real"], metrics["logits_fake"], losses.lecam_decay
    )
    params, opt_state = apply_gradients(optimizer, grads, discriminator.params, discriminator.opt_state)
    metrics["discriminator_grad_norm"] = optax.tree.norm(grads)
    metrics["discriminator_param_norm"] = optax.tree.norm(params)
    learnt = dataclasses.replace(
        discriminator,
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        lecam=lecam,
    )
    on = discriminator.step >= losses.disc_start
    new: DiscriminatorState = jax.tree.map(functools.partial(jnp.where, on), learnt, discriminator)
    metrics = jax.tree.map(lambda value: jnp.where(on, value, jnp.zeros_like(value)), metrics)
    return dataclasses.replace(new, step=discriminator.step + jnp.ones((), jnp.int32)), metrics


REAL, FAKE = 1, 2  # draws of the augmentation


def judge_pictures(
    model: linen.Module,
    losses: Losses,
    params: Params,
    batch_stats: Params,
    pictures: Float[Array, "B *S C"],
    draw: int,
    rng: Key[Array, ""],
    labels: Int[Array, " B"] | None = None,
) -> tuple[Array, Params]:
    """A discriminator's logits with the batch's own statistics, and the new running ones.

    Args:
      model: the discriminator.
      losses: says whether pictures are augmented.
      params: of the discriminator.
      batch_stats: alike.
      pictures: in [-1, 1].
      draw: REAL or FAKE: each is augmented in its own way.
      rng: key of the step.
      labels: of the pictures, for a discriminator with classes.
    """
    if losses.diff_augment:
        pictures = ops.diff_augment(jax.random.fold_in(rng, draw), pictures)
    variables = {"params": params, "batch_stats": batch_stats}
    told = () if labels is None else (labels,)
    logits, updates = model.apply(variables, pictures, *told, train=True, mutable=["batch_stats"])
    return logits, updates.get("batch_stats", {})


def _discriminator_loss(
    params: Params,
    batch_stats: Params,
    real: Array,
    fake: Array,
    labels: Array | None,
    *,
    lecam: ops.LecamAverages,
    step: Array,
    rng: Array,
    model: linen.Module,
    losses: Losses,
) -> tuple[Array, tuple[Params, Metrics]]:
    judge = functools.partial(judge_pictures, model, losses, params, rng=rng, labels=labels)
    real_logits, real_stats = judge(batch_stats, real, REAL)
    # The generator's step judged the same pictures: the compiler makes one pass of the two.
    fake_logits, new_stats = judge(real_stats, fake, FAKE)
    loss = ops.discriminator_loss(real_logits, fake_logits, losses.adversarial)
    metrics = {
        "discriminator_loss": loss,
        "logits_real": jnp.mean(real_logits),
        "logits_fake": jnp.mean(fake_logits),
    }
    if losses.lecam_weight > 0:
        metrics["lecam_loss"] = ops.lecam_loss(real_logits, fake_logits, lecam.real, lecam.fake)
        loss = loss + losses.lecam_weight * metrics["lecam_loss"]
    if losses.r1_weight > 0:
        penalty = _every(
            losses.r1_every,
            step,
            lambda: ops.r1_penalty(lambda pictures: judge(batch_stats, pictures, REAL)[0], real),
        )
        metrics["r1_penalty"] = penalty
        loss = loss + losses.r1_weight * losses.r1_every * penalty
    return loss, (new_stats, metrics)


def _every(interval: int, step: Array, value: Callable[[], Array]) -> Array:
    """A scalar on every so manieth step, zero, and not computed, on the others."""
    return jax.lax.cond(step % interval == 0, value, lambda: jnp.zeros(()))


def split_batch(tree: Any, parts: int) -> Any:
    """[B, ...] to [parts, B / parts, ...], every device's rows staying on it."""
    return jax.tree.map(
        lambda x: jnp.swapaxes(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 0, 1), tree
    )


def join_batch(x: Array) -> Array:
    """Undoes `split_batch`."""
    return jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:])
