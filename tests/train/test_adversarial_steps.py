"""The two steps of a VQ-GAN: one forward pass, each leaves the other network alone, ramps and switches."""

import dataclasses
import functools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jitted import copied
from test_sharding import mesh_of
from toy_patches import PatchDecoder, PatchEncoder

from vq_jax import nn
from vq_jax.configs import Losses, OptimizerConfig
from vq_jax.train import (
    discriminator_step,
    generator_step,
    init_state,
    make_mesh,
    make_optimizer,
    shard_local_batch,
)
from vq_jax.train.jit import jit_train_step
from vq_jax.train.sharding import replicated
from vq_jax.train.steps.tokenizer import generator_loss

SHAPE = (16, 16, 3)
GAN = Losses(reconstruction="l1", adversarial_weight=0.5)
LATE = dataclasses.replace(GAN, adaptive=False, disc_start=3, adversarial_start=5, adversarial_ramp=4)


@functools.cache
def networks(norm="batch", kind="patch", convolutional=False):
    model = nn.VQModel(PatchEncoder(4), nn.VectorQuantizerEMA(16, 4, revive_threshold=0.5), PatchDecoder(3))
    if convolutional:
        width = {"channels": 16, "residual_channels": 8, "num_res_blocks": 1, "num_downsamples": 1}
        encoder = nn.ResidualEncoder(**width, latent_channels=4)
        model = model.clone(encoder=encoder, decoder=nn.ResidualDecoder(**width, upsampling="nearest"))
    generator = OptimizerConfig(learning_rate=1e-3, b1=0.5)
    if kind == "patch":
        discriminator = nn.PatchDiscriminator(4, 1, norm)
    elif kind == "stylegan":
        discriminator = nn.StyleGANDiscriminator(max_channels=16)
    else:
        discriminator = nn.MLPDiscriminator((8,))
    return {
        "model": model,
        "optimizer": make_optimizer(generator, 100),
        "discriminator_model": discriminator,
        "discriminator_optimizer": make_optimizer(OptimizerConfig(learning_rate=1e-2, b1=0.5), 100),
    }


@functools.cache
def first_state(**choice):
    return jax.jit(lambda key: init_state(key, SHAPE, **networks(**choice)))(jax.random.key(0))


@functools.cache
def whole_step(devices):
    """The composed step on a mesh."""
    return jit_train_step(mesh_of(devices), losses=GAN, **networks())


def batch(seed=0):
    return {"image": np.random.default_rng(seed).integers(0, 256, (8, *SHAPE), np.uint8)}


def normalized(seed):
    """The pictures of a batch, float32 in [-1, 1]."""
    return jnp.asarray(batch(seed)["image"].astype(np.float32) / np.float32(127.5) - 1)


@functools.cache
def generator_update(losses, discriminator=True, **options):
    parts = networks()
    step = functools.partial(
        generator_step,
        model=parts["model"],
        optimizer=parts["optimizer"],
        losses=losses,
        discriminator_model=parts["discriminator_model"] if discriminator else None,
        **options,
    )
    return jax.jit(step)


@functools.cache
def discriminator_update(losses, accumulate=1, **choice):
    parts = networks(**choice)
    step = functools.partial(
        discriminator_step,
        discriminator_model=parts["discriminator_model"],
        optimizer=parts["discriminator_optimizer"],
        losses=losses,
        accumulate=accumulate,
    )
    return jax.jit(step)


def moments(state):
    """First moments of the optimizer: a tenth of the gradient or half of it, after one step."""
    return optax.tree.get(state.opt_state, "mu")


def at_step(state, number):
    return dataclasses.replace(state, step=np.int32(number))


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(a), jax.device_get(b))


def differs(a, b):
    return any(not np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def worst_relative(a, b):
    """Largest difference of any tensor, relative to that tensor's largest value."""
    pairs = zip(jax.tree.leaves(jax.device_get(a)), jax.tree.leaves(jax.device_get(b)), strict=True)
    return max(float(np.abs(x - y).max() / max(np.abs(x).max(), 1e-12)) for x, y in pairs)


def test_each_step_leaves_the_other_network_alone():
    state, key = first_state(), jax.random.key(1)
    untouched = jax.device_get(state)
    generator, reconstruction, _ = generator_update(GAN)(state.generator, state.discriminator, batch(), key)
    judged, _ = discriminator_update(GAN)(state.discriminator, batch(), reconstruction, key)
    # the functions are given states and return new ones; nothing was written into the old
    assert_same(state, untouched)
    assert differs(generator.params, state.generator.params)
    assert differs(generator.codebook, state.generator.codebook)
    assert differs(judged.params, state.discriminator.params)
    assert differs(judged.batch_stats, state.discriminator.batch_stats)
    copy = copied(state)
    after, _ = whole_step(1)(copy, shard_local_batch(batch(), mesh_of(1)), jax.random.key(1), None)
    # the discriminator of the whole step learnt from the reconstruction before the generator's update
    assert worst_relative(after.discriminator.batch_stats, judged.batch_stats) < 1e-4


def test_one_forward_pass_serves_both_networks_and_the_adaptive_weight():
    parts, traces = networks(convolutional=True), Counter()

    def traced(module, name):
        class Traced(type(module)):
            def __call__(self, *inputs, **options):
                traces[name] += 1
                return super().__call__(*inputs, **options)

        fields = {field.name: getattr(module, field.name) for field in dataclasses.fields(module)}
        return Traced(**{k: v for k, v in fields.items() if k not in ("parent", "name")})

    model = parts["model"]
    model = model.clone(encoder=traced(model.encoder, "encoder"), decoder=traced(model.decoder, "decoder"))
    mesh = make_mesh()

    def convolutions(losses, **discriminator):
        step = jit_train_step(mesh, model=model, optimizer=parts["optimizer"], losses=losses, **discriminator)
        state = jax.eval_shape(
            lambda: init_state(
                jax.random.key(0), SHAPE, model=model, optimizer=parts["optimizer"], **discriminator
            )
        )
        traces.clear()
        images = {"image": jax.ShapeDtypeStruct((8, *SHAPE), jnp.uint8)}
        lowered = step.lower(state, images, jax.random.key(0), None)
        assert traces == {"encoder": 1, "decoder": 1}
        return lowered.as_text().count("stablehlo.convolution")

    adversary = {name: parts[name] for name in ("discriminator_model", "discriminator_optimizer")}
    plain = convolutions(dataclasses.replace(GAN, adversarial_weight=0.0))
    fixed = convolutions(dataclasses.replace(GAN, adaptive=False), **adversary)
    adaptive = convolutions(GAN, **adversary)

    discriminator = parts["discriminator_model"]
    picture = np.zeros((8, *SHAPE), np.float32)
    variables = jax.eval_shape(discriminator.init, jax.random.key(0), picture)

    def logits(variables, picture):
        return jnp.sum(discriminator.apply(variables, picture, train=True))

    def count(function):
        return jax.jit(function).lower(variables, picture).as_text().count("stablehlo.convolution")

    of_generator = count(jax.value_and_grad(logits, 1))  # forward, and back to the picture
    of_real = count(jax.value_and_grad(logits, 0))  # forward, and back to the parameters
    assert fixed - plain == of_generator + 2 * of_real, (plain, fixed, of_generator, of_real)
    # The weight gradient of the last kernel, of few output channels, is a product on CPU.
    assert adaptive == fixed, (plain, fixed, adaptive)


def test_the_adaptive_weight_is_the_ratio_of_two_gradients_taken_apart():
    parts, state, key = networks(), first_state(), jax.random.key(1)
    last = parts["model"].decoder.last_layer
    _, _, metrics = generator_update(GAN)(state.generator, state.discriminator, batch(), key)
    images = normalized(0)

    def losses_of(kernel):
        params = dict(state.generator.params)
        params["decoder"] = params["decoder"] | {last: params["decoder"][last] | {"kernel": kernel}}
        output, _ = parts["model"].apply(
            {"params": params, "codebook": state.generator.codebook},
            images,
            train=True,
            mutable=["codebook"],
            rngs={"quantizer": key},
        )
        variables = {"params": state.discriminator.params, "batch_stats": state.discriminator.batch_stats}
        logits = parts["discriminator_model"].apply(variables, output.reconstruction, train=True)
        return jnp.mean(jnp.abs(output.reconstruction - images)), -jnp.mean(logits)

    kernel = state.generator.params["decoder"][last]["kernel"]
    first, second = jax.jit(jax.jacrev(losses_of))(kernel)
    expected = 0.5 * np.linalg.norm(first) / (np.linalg.norm(second) + 1e-4)
    assert float(metrics["adversarial_weight"]) == pytest.approx(expected, rel=1e-4)


def test_the_adversarial_weight_ramps_as_configured():
    state = first_state()
    weights = [
        float(
            generator_update(LATE)(
                state.generator, at_step(state.discriminator, number), batch(), jax.random.key(0)
            )[2]["adversarial_weight"]
        )
        for number in range(11)
    ]
    expected = [0.0] * 5 + [0.125, 0.25, 0.375] + [0.5] * 3
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_before_the_start_the_update_is_that_of_a_run_without_a_discriminator():
    state, key = first_state(), jax.random.key(1)
    nan = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), state.discriminator.params)
    alone, _, _ = generator_update(dataclasses.replace(GAN, adversarial_weight=0.0), discriminator=False)(
        state.generator, None, batch(), key
    )
    for params in (state.discriminator.params, nan):
        waiting = dataclasses.replace(at_step(state.discriminator, 4), params=params)
        beside, _, metrics = generator_update(LATE)(state.generator, waiting, batch(), key)
        assert worst_relative(alone.params, beside.params) < 1e-6
        assert float(metrics["adversarial_weight"]) == 0.0 and float(metrics["adversarial_loss"]) == 0.0
        assert all(np.isfinite(value) for value in jax.tree.leaves(metrics))
    started = at_step(state.discriminator, 5)
    after, _, _ = generator_update(LATE)(state.generator, started, batch(), key)
    assert differs(after.params, alone.params)


def test_the_discriminator_waits_for_its_start_and_only_counts():
    losses = LATE
    state = first_state().discriminator
    fake = np.zeros((8, *SHAPE), np.float32)
    waiting, metrics = discriminator_update(losses)(at_step(state, 2), batch(), fake, jax.random.key(0))
    assert int(waiting.step) == 3
    assert_same(dataclasses.replace(waiting, step=state.step), state)
    assert all(float(value) == 0.0 for value in metrics.values())
    learning, metrics = discriminator_update(losses)(waiting, batch(), fake, jax.random.key(0))
    assert differs(learning.params, state.params) and float(metrics["discriminator/loss"]) > 0.0


@pytest.mark.parametrize(
    "kind,adversarial",
    [("patch", "vanilla"), ("patch", "least_squares"), ("stylegan", "non_saturating"), ("mlp", "hinge")],
)
def test_every_discriminator_learns_to_tell_fixed_pictures_apart(kind, adversarial):
    losses = dataclasses.replace(GAN, adversarial=adversarial)
    step = discriminator_update(losses, kind=kind)
    state = first_state(kind=kind).discriminator
    fake = np.zeros((8, *SHAPE), np.float32)
    history = []
    for number in range(12):
        state, metrics = step(state, batch(), fake, jax.random.key(number))
        history.append(float(metrics["discriminator/loss"]))
    assert history[-1] < 0.9 * history[0]
    assert float(metrics["discriminator/logits_real"]) > float(metrics["discriminator/logits_fake"])


def test_r1_counts_on_its_steps_only_and_lecam_from_the_running_averages():
    losses = dataclasses.replace(GAN, r1_weight=2.0, r1_every=4, lecam_weight=0.5, lecam_decay=0.5)
    step = discriminator_update(losses, norm="group")
    state = first_state(norm="group").discriminator
    fake = np.zeros((8, *SHAPE), np.float32)
    penalties = []
    for _ in range(5):
        before = state
        state, metrics = step(state, batch(), fake, jax.random.key(0))
        penalties.append(float(metrics["discriminator/r1_penalty"]))
        expected = 0.5 * before.lecam.real + 0.5 * metrics["discriminator/logits_real"]
        assert float(state.lecam.real) == pytest.approx(float(expected), rel=1e-5, abs=1e-7)
    assert [penalty > 0.0 for penalty in penalties] == [True, False, False, False, True]
    without, _ = discriminator_update(GAN, norm="group")(
        first_state(norm="group").discriminator, batch(), fake, jax.random.key(0)
    )
    with_r1, _ = step(first_state(norm="group").discriminator, batch(), fake, jax.random.key(0))
    assert differs(without.params, with_r1.params)


def test_augmentation_changes_what_the_discriminator_sees_and_depends_on_the_key():
    augmented = dataclasses.replace(GAN, diff_augment=True)
    state = first_state().discriminator
    fake = normalized(1)
    results = [
        discriminator_update(losses)(state, batch(), fake, jax.random.key(seed))[1]
        for losses, seed in ((GAN, 0), (augmented, 0), (augmented, 0), (augmented, 1))
    ]
    results = [metrics["discriminator/logits_real"] for metrics in results]
    assert results[1] == results[2]
    assert len({float(result) for result in results}) == 3


def test_accumulated_gradients_are_those_of_the_whole_batch_and_the_codebook_moves_once():
    losses = dataclasses.replace(GAN, adversarial_weight=0.0)
    state, key = first_state(), jax.random.key(1)
    whole = generator_update(losses, discriminator=False)(state.generator, None, batch(), key)
    parts = generator_update(losses, discriminator=False, accumulate=2)(state.generator, None, batch(), key)
    np.testing.assert_allclose(whole[1], parts[1], atol=1e-5)  # the pictures come back in their order
    # means of two halves in another order
    for name in ("loss", "perplexity", "grad_norm"):
        assert float(whole[2][name]) == pytest.approx(float(parts[2][name]), rel=1e-4)
    assert worst_relative(whole[0].codebook, parts[0].codebook) < 1e-4
    # of the largest: biases before a norm have no gradient but rounding
    one, other = jax.device_get((moments(whole[0]), moments(parts[0])))
    largest = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(one))
    difference = jax.tree.map(lambda a, b: np.abs(a - b).max(), one, other)
    assert max(map(float, jax.tree.leaves(difference))) < 1e-5 * largest


def test_the_discriminators_accumulated_gradients_are_those_of_the_whole_batch():
    state, key = first_state(kind="mlp").discriminator, jax.random.key(1)
    fake = normalized(1)
    whole, parts = (
        discriminator_update(GAN, kind="mlp", accumulate=accumulate)(state, batch(), fake, key)
        for accumulate in (1, 2)
    )
    for name in whole[1]:  # means of two halves in another order
        assert float(whole[1][name]) == pytest.approx(float(parts[1][name]), rel=1e-4, abs=1e-6)
    assert worst_relative(moments(whole[0]), moments(parts[0])) < 1e-3


def test_a_perceptual_loss_needs_its_weights_and_is_the_mean_distance():
    losses = Losses(perceptual_weight=2.0)
    state = first_state()
    with pytest.raises(ValueError, match="expected variables of LPIPS"):
        generator_update(losses, discriminator=False)(state.generator, None, batch(), jax.random.key(0))
    rng = np.random.default_rng(0)
    picture = np.zeros((1, *SHAPE), np.float32)
    variables = jax.tree.map(
        lambda leaf: np.float32(0.1) * rng.standard_normal(leaf.shape, np.float32),
        jax.eval_shape(nn.LPIPS("vgg").init, jax.random.key(0), picture, picture),
    )
    model = networks()["model"]
    images = normalized(0)[:2]

    @jax.jit
    def both(generator, variables):
        output = model.apply({"params": generator.params, "codebook": generator.codebook}, images)
        distance = nn.LPIPS("vgg").apply(variables, output.reconstruction, images)
        return generator_loss(output, images, losses, variables), distance

    (loss, metrics), expected = both(state.generator, variables)
    assert float(metrics["perceptual_loss"]) == pytest.approx(float(np.mean(np.asarray(expected))), rel=1e-5)
    total = metrics["reconstruction_loss"] + metrics["quantizer_loss"] + 2.0 * metrics["perceptual_loss"]
    assert float(loss) == pytest.approx(float(total), rel=1e-6)


def test_losses_that_ask_for_a_discriminator_refuse_to_go_without():
    with pytest.raises(ValueError, match="expected a discriminator's state and model"):
        generator_update(GAN, discriminator=False)(first_state().generator, None, batch(), jax.random.key(0))


@pytest.mark.parametrize(
    "decoder",
    [
        nn.ResidualDecoder(8, 4, 1, 2),
        nn.ResidualDecoder(8, 4, 1, 0),
        nn.ResidualDecoder(8, 4, 1, 2, upsampling="nearest"),
    ],
)
def test_the_last_layer_has_the_name_that_its_decoder_says(decoder):
    params = jax.eval_shape(decoder.init, jax.random.key(0), jnp.zeros((1, 4, 4, 4)))["params"]
    assert params[decoder.last_layer]["bias"].shape == (3,)


def test_the_last_layer_of_the_other_decoders():
    mlp = nn.MLPDecoder((4, 4, 1), (5,))
    params = jax.eval_shape(mlp.init, jax.random.key(0), jnp.zeros((1, 2, 3)))["params"]
    assert params[mlp.last_layer]["bias"].shape == (16,)
    for decoder in (networks(convolutional=True)["model"].decoder, nn.MaskGITDecoder(8, (1, 1), 1)):
        params = jax.eval_shape(decoder.init, jax.random.key(0), jnp.zeros((1, 4, 4, 4)))["params"]
        assert params[decoder.last_layer]["bias"].shape == (3,)


def test_two_networks_on_four_devices_are_those_on_one():
    results = []
    for devices in (1, 4):
        mesh = mesh_of(devices)
        state = jax.device_put(copied(first_state()), replicated(mesh))
        history = []
        for number in range(10):
            inputs = shard_local_batch(batch(number), mesh)
            state, metrics = whole_step(devices)(state, inputs, jax.random.key(1), None)
            history.append(jax.device_get(metrics))
        results.append((jax.device_get(state), history))
    (one, expected), (four, actual) = results
    for number, (a, b) in enumerate(zip(expected, actual, strict=True)):
        for name in a:
            # Sums over the batch in another order; both networks learn fast here, and roundings grow
            # with them: 1e-5 in the first step, a few 1e-4 after ten.
            tolerance = 1e-5 if number == 0 else 2e-3
            np.testing.assert_allclose(a[name], b[name], rtol=tolerance, atol=tolerance, err_msg=name)
    # running statistics are means over the global batch
    assert worst_relative(one.discriminator.batch_stats, four.discriminator.batch_stats) < 1e-3
