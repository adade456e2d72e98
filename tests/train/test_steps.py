"""The generator step: pure, each phase changes only what it may, revival, losses."""

import functools

import jax
import jax.numpy as jnp
import jitted
import numpy as np
import optax
import pytest
from flax import linen
from toy_patches import PatchDecoder, PatchEncoder

from vq_jax import nn
from vq_jax.configs import Losses, OptimizerConfig
from vq_jax.train import apply_revival, generator_step, init_generator, make_optimizer
from vq_jax.train.optimizers import apply_gradients, make_schedule
from vq_jax.train.state import GeneratorState
from vq_jax.train.steps.update import apply_update

IMAGES = np.random.default_rng(5).integers(0, 256, (4, 8, 8, 3), np.uint8)


def build(quantizer, optimizer="adam", head="picture", **config):
    model = nn.VQModel(PatchEncoder(4), quantizer, PatchDecoder(6 if head == "log_laplace" else 3), head)
    config = OptimizerConfig(name=optimizer, learning_rate=1e-2, **config)
    return model, make_optimizer(config, 100)


def run(model, optimizer, steps=1, losses=None, ema=False, **arguments):
    """States before and after `steps` steps on one batch, and the last metrics."""
    make = functools.partial(init_generator, image_shape=(8, 8, 3), model=model, optimizer=optimizer, ema=ema)
    first = jax.jit(make)(jax.random.key(0))
    step = jax.jit(
        functools.partial(
            generator_step, model=model, optimizer=optimizer, losses=losses or Losses(), **arguments
        )
    )
    state, metrics = first, {}
    for number in range(steps):
        state, _, metrics = step(state, None, {"image": IMAGES}, jax.random.key(number))
    return first, state, metrics


def changed(before, after):
    """Names of the leaves that are not the same to the bit."""
    flat = jax.tree_util.tree_flatten_with_path(before)[0]
    return {
        jax.tree_util.keystr(path)
        for (path, old), new in zip(flat, jax.tree.leaves(after), strict=True)
        if not np.array_equal(np.asarray(old), np.asarray(new))
    }


def moved_parts(before, after):
    return {part for part in before.params if changed(before.params[part], after.params[part])}


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "lion", "adafactor", "sgd"])
@pytest.mark.parametrize(
    "phase,moves",
    [
        ("autoencoder", {"encoder", "decoder"}),
        ("codebook", {"quantizer"}),
        ("joint", {"encoder", "decoder", "quantizer"}),
    ],
)
def test_each_phase_changes_only_what_it_may(optimizer, phase, moves):
    decay = {"weight_decay": 0.1} if optimizer in ("adamw", "lion", "adafactor") else {}
    model, chain = build(nn.VectorQuantizer(16, 4), optimizer, **decay)
    before, after, _ = run(model, chain, steps=2, phase=phase)
    assert moved_parts(before, after) == moves
    frozen = {"encoder", "decoder", "quantizer"} - moves
    touched = changed(before.opt_state, after.opt_state)
    # moments of frozen parts stay exactly as they were
    assert not [name for name in touched if any(f"'{part}'" in name for part in frozen)]
    assert bool(changed(before.codebook, after.codebook)) == (phase != "autoencoder")


def test_the_codebook_phase_moves_an_ema_codebook_and_no_parameter():
    model, chain = build(nn.VectorQuantizerEMA(16, 4))
    before, after, metrics = run(model, chain, phase="codebook")
    assert moved_parts(before, after) == set()
    assert "['quantizer']['embedding']" in changed(before.codebook, after.codebook)
    assert float(metrics["grad_norm"]) == 0.0


def test_revived_rows_are_replaced_and_their_moments_zeroed():
    model, chain = build(nn.VectorQuantizer(64, 4, revive_threshold=1.0))
    before, after, metrics = run(model, chain, steps=1)
    revived = float(metrics["revived"])
    assert 0 < revived < 64
    rows = np.asarray(after.params["quantizer"]["embedding"])
    adam = optax.tree.get(after.opt_state, "mu")["quantizer"]["embedding"]
    # after one step from zero, a row's moment is zero if it was revived or had no gradient
    assert np.sum(~np.any(np.asarray(adam), axis=1)) >= revived
    variables = {"params": before.params, "codebook": before.codebook}
    images = IMAGES.astype(np.float32) / np.float32(127.5) - 1
    latents = jitted.apply(model, variables, images, method="encode_latents")
    distance = np.abs(np.asarray(latents).reshape(-1, 1, 4) - rows[None]).sum(-1).min(0)
    # two programs may round a convolution differently
    assert np.sum(distance < 1e-5) >= revived


def test_revival_applied_alone_books_the_codes_and_without_it_they_stay_dead():
    """As a caller with a training step of its own uses it: the quantizer, an optimizer, `apply_revival`."""
    quantizer, optimizer = nn.VectorQuantizer(32, 4, revive_threshold=1.0), optax.adam(1e-2)
    z = np.random.default_rng(0).standard_normal((16, 4), np.float32)
    variables = jitted.init(quantizer, jax.random.key(1), z)
    rngs = {"quantizer": jax.random.key(2)}
    out, updates = jitted.apply(quantizer, variables, z, train=True, mutable=("codebook",), rngs=rngs)
    dead = np.bincount(np.asarray(out.indices), minlength=32) == 0
    assert 0 < dead.sum() < 32 and float(out.metrics["revived"]) == dead.sum()
    averaged = np.asarray(updates["codebook"]["cluster_size"])
    np.testing.assert_array_equal(averaged[dead], 0.0)  # nobody has revived them
    params = {"quantizer": variables["params"]}

    @jax.jit
    def update(params, codebook, revival):
        grads = jax.tree.map(jnp.ones_like, params)
        params, opt_state = apply_gradients(optimizer, grads, params, optimizer.init(params))
        return params, apply_revival(optimizer, params, opt_state, codebook, revival)

    params, (revived, opt_state, codebook) = update(params, {"quantizer": updates["codebook"]}, out.revival)
    rows = np.asarray(revived["quantizer"]["embedding"])
    np.testing.assert_array_equal(rows[~dead], np.asarray(params["quantizer"]["embedding"])[~dead])
    assert {tuple(row) for row in rows[dead]} <= {tuple(row) for row in np.asarray(z)}
    for moment in ("mu", "nu"):
        values = np.asarray(optax.tree.get(opt_state, moment)["quantizer"]["embedding"])
        np.testing.assert_array_equal(np.any(values != 0.0, axis=1), ~dead)
    expected = np.where(dead, 1.0, averaged)
    np.testing.assert_array_equal(codebook["quantizer"]["cluster_size"], expected)
    assert float(codebook["quantizer"]["zero_weight"]) == float(updates["codebook"]["zero_weight"])


def test_a_step_books_the_codes_that_it_revives():
    model, chain = build(nn.VectorQuantizer(64, 4, revive_threshold=1.0))
    for accumulate in (1, 2):
        _, after, metrics = run(model, chain, steps=1, accumulate=accumulate)
        sizes = np.asarray(after.codebook["quantizer"]["cluster_size"])
        assert sizes.min() == 1.0 and np.sum(sizes == 1.0) >= float(metrics["revived"]) > 0


def test_a_group_of_parameters_that_no_phase_trains_is_refused():
    class Adapted(nn.VQModel):
        def setup(self):
            self.adapter = linen.Dense(4)

        def encode_latents(self, images, *, train=False):
            return self.adapter(self.encoder(images, train=train))

    plain, chain = build(nn.VectorQuantizer(16, 4))
    adapted = Adapted(plain.encoder, plain.quantizer, plain.decoder)
    with pytest.raises(ValueError, match="groups decoder, encoder, quantizer .* got adapter, which no phase"):
        run(adapted, chain)


def test_gradient_codebook_recovers_all_sixteen_clusters_with_revival_only():
    rng = np.random.default_rng(1)
    centres = 3.0 * rng.standard_normal((16, 4), np.float32)
    z = centres[np.arange(256) % 16] + np.float32(0.1) * rng.standard_normal((256, 4), np.float32)
    z[:, 0] += 20.0  # far from the first codes

    class Identity(linen.Module):
        def __call__(self, images, *, train=False):
            return images

    usage = {}
    for threshold in (0.0, 1.0):
        quantizer = nn.VectorQuantizer(16, 4, decay=0.9, revive_threshold=threshold)
        model = nn.VQModel(Identity(), quantizer, Identity())
        optimizer = optax.sgd(1.0)
        state = init_generator(jax.random.key(0), (4,), model=model, optimizer=optimizer)
        step = jax.jit(functools.partial(generator_step, model=model, optimizer=optimizer, losses=Losses()))
        for number in range(120):  # a code that lost its latents is forgotten at the decay's pace
            state, _, metrics = step(state, None, {"image": z}, jax.random.key(number))
        usage[threshold] = float(metrics["usage"])
    assert usage[1.0] == 1.0 and usage[0.0] < 1.0


@pytest.mark.parametrize("updates, decay", [(0, 0.1), (8, 0.5), (26, 0.75), (1000, 0.75)])
def test_ema_parameters_follow_at_their_decay_once_it_has_warmed_up(updates, decay):
    optimizer, update = optax.sgd(0.1), jax.jit(apply_update, static_argnums=0)
    rows = [np.random.default_rng(seed).normal(size=5).astype(np.float32) for seed in range(3)]
    params, average, grads = ({"encoder": row} for row in rows)
    state = GeneratorState(np.int32(updates), params, {}, optimizer.init(params), average)
    after, _ = update(optimizer, state, grads, ema_decay=0.75)
    new = rows[0] - np.float32(0.1) * rows[2]
    np.testing.assert_allclose(after.ema_params["encoder"], decay * rows[1] + (1 - decay) * new, atol=1e-6)
    assert after.eval_params is after.ema_params


@pytest.mark.parametrize("kind,head", [("l1", "picture"), ("bernoulli", "bernoulli"), ("log_laplace",) * 2])
def test_every_reconstruction_loss_falls(kind, head):
    model, chain = build(nn.VectorQuantizerEMA(16, 4), head=head)
    losses = Losses(reconstruction=kind)
    _, _, first = run(model, chain, 1, losses)
    _, _, last = run(model, chain, 30, losses)
    assert float(last["reconstruction_loss"]) < float(first["reconstruction_loss"])


def test_the_loss_is_the_weighted_sum_of_its_parts():
    model, chain = build(nn.VectorQuantizerEMA(16, 4))
    losses = Losses(reconstruction_weight=3.0, variance_weight=0.5)
    _, _, metrics = run(model, chain, 1, losses)
    total = 3.0 * metrics["reconstruction_loss"] + metrics["quantizer_loss"] + 0.5 * metrics["variance_loss"]
    assert float(metrics["loss"]) == pytest.approx(float(total), rel=1e-6)
    _, _, without = run(model, chain)
    assert "variance_loss" not in without


def test_the_variance_term_pulls_the_latents_variance_towards_one():
    model, chain = build(nn.VectorQuantizerEMA(16, 4))
    _, _, off = run(model, chain, 40, Losses(variance_weight=0.0))
    _, _, on = run(model, chain, 40, Losses(variance_weight=1.0))
    _, _, start = run(model, chain, 1, Losses(variance_weight=1.0))
    assert float(on["variance_loss"]) < 0.5 * float(start["variance_loss"])
    assert "variance_loss" not in off


def test_a_target_replaces_the_image_in_the_loss():
    model, chain = build(nn.VectorQuantizerEMA(16, 4))
    make = functools.partial(init_generator, image_shape=(8, 8, 3), model=model, optimizer=chain)
    state, key = jax.jit(make)(jax.random.key(0)), jax.random.key(0)
    step = jax.jit(functools.partial(generator_step, model=model, optimizer=chain, losses=Losses()))
    image = np.zeros((2, 8, 8, 3), np.float32)
    _, shown, _ = step(state, None, {"image": image}, key)
    _, _, metrics = step(state, None, {"image": image, "target": np.ones_like(image)}, key)
    expected = np.mean((np.asarray(shown) - 1.0) ** 2)
    assert float(metrics["reconstruction_loss"]) == pytest.approx(expected, rel=1e-5)


def test_a_model_whose_head_is_not_the_losses_is_refused():
    model, chain = build(nn.VectorQuantizerEMA(16, 4))
    with pytest.raises(ValueError, match="needs a model with head = 'bernoulli', got 'picture'"):
        run(model, chain, losses=Losses(reconstruction="bernoulli"))


def test_clipping_bounds_the_update():
    model, clipped = build(nn.VectorQuantizerEMA(16, 4), "sgd", clip_norm=1e-3, b1=0.0)
    before, after, _ = run(model, clipped)
    update = jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), after.params, before.params)
    norm = np.sqrt(sum(np.sum(leaf**2) for leaf in jax.tree.leaves(update)))
    assert 0.0 < norm <= 1.001 * 1e-2 * 1e-3


def test_schedules_warm_up_and_fall_to_the_final_ratio():
    cosine = make_schedule(
        OptimizerConfig(learning_rate=1.0, schedule="cosine", warmup_steps=10, final_ratio=0.1), 110
    )
    assert float(cosine(0)) == 0.0
    assert float(cosine(10)) == pytest.approx(1.0)
    assert float(cosine(60)) == pytest.approx(0.55, abs=1e-6)
    assert float(cosine(110)) == pytest.approx(0.1, abs=1e-6)
    constant = make_schedule(OptimizerConfig(learning_rate=2.0, warmup_steps=4), 100)
    assert [float(constant(step)) for step in (0, 2, 4, 99)] == [0.0, 1.0, 2.0, 2.0]
    with pytest.raises(ValueError, match="warmup_steps = 100 must be less than the run's 100"):
        make_schedule(OptimizerConfig(warmup_steps=100), 100)


@pytest.mark.parametrize("quantizer, accumulate", [(nn.VectorQuantizerEMA, 1), (nn.VectorQuantizer, 2)])
def test_parts_that_are_not_trained_stay_to_the_bit_with_their_averages(quantizer, accumulate):
    model, optimizer = build(
        quantizer(codebook_size=8, code_dim=4, revive_threshold=1.0), weight_decay=0.1, optimizer="adamw"
    )
    options = {"ema": True, "ema_decay": 0.9, "trained": ("decoder",), "accumulate": accumulate}
    before, after, metrics = run(model, optimizer, **options)
    assert moved_parts(before, after) == {"decoder"}
    assert not changed(before.codebook, after.codebook) and "revived" not in metrics
    averages = {part for part in before.params if changed(before.ema_params[part], after.ema_params[part])}
    assert averages == {"decoder"}
