"""Adversarial losses against NumPy in float64, gradients against finite differences."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax.ops import adversarial

discriminator_loss = jax.jit(adversarial.discriminator_loss, static_argnums=2)
generator_loss = jax.jit(adversarial.generator_adversarial_loss, static_argnums=1)
adaptive_weight = jax.jit(adversarial.adaptive_weight, static_argnames="maximum")

# float32 against float64
TOLERANCE = {"rtol": 1e-6, "atol": 1e-6}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def softplus(x):
    return np.log1p(np.exp(x))


DISCRIMINATOR = {
    "hinge": lambda r, f: 0.5 * (np.maximum(0, 1 - r).mean() + np.maximum(0, 1 + f).mean()),
    "vanilla": lambda r, f: 0.5 * (softplus(-r).mean() + softplus(f).mean()),
    "non_saturating": lambda r, f: softplus(-r).mean() + softplus(f).mean(),
    "least_squares": lambda r, f: 0.5 * (((r - 1) ** 2).mean() + (f**2).mean()),
}
GENERATOR = {
    "hinge": lambda f: -f.mean(),
    "vanilla": lambda f: -f.mean(),
    "non_saturating": lambda f: softplus(-f).mean(),
    "least_squares": lambda f: 0.5 * ((f - 1) ** 2).mean(),
}


def test_every_kind_has_an_oracle():
    assert set(adversarial.ADVERSARIAL_KINDS) == set(DISCRIMINATOR) == set(GENERATOR)


@pytest.mark.parametrize("kind", adversarial.ADVERSARIAL_KINDS)
@pytest.mark.parametrize("shape", [(3, 4, 4, 1), (7, 1)])
def test_losses_match_numpy_for_maps_and_single_logits(kind, shape):
    real, fake = (np.float32(2.0) * normal(*shape, seed=seed) for seed in range(2))
    r, f = (np.asarray(x, np.float64) for x in (real, fake))
    loss = discriminator_loss(real, fake, kind)
    np.testing.assert_allclose(loss, DISCRIMINATOR[kind](r, f), **TOLERANCE)
    loss = generator_loss(fake, kind)
    np.testing.assert_allclose(loss, GENERATOR[kind](f), **TOLERANCE)


@pytest.mark.parametrize("kind", adversarial.ADVERSARIAL_KINDS)
def test_loss_of_a_blind_discriminator_is_known_by_hand(kind):
    zeros = np.zeros((3, 4, 4, 1), np.float32)
    expected = {
        "hinge": (1.0, 0.0),
        "vanilla": (np.log(2.0), 0.0),
        "non_saturating": (2.0 * np.log(2.0), np.log(2.0)),
        "least_squares": (0.5, 0.5),
    }[kind]
    assert float(discriminator_loss(zeros, zeros, kind)) == pytest.approx(expected[0])
    assert float(generator_loss(zeros, kind)) == pytest.approx(expected[1])


@pytest.mark.parametrize("kind", adversarial.ADVERSARIAL_KINDS)
def test_both_players_pull_a_fake_logit_in_opposite_directions(kind):
    real, fake = np.array([0.3], np.float32), np.array([0.2], np.float32)

    @jax.jit
    def gradients(real, fake):
        of_discriminator = jax.grad(adversarial.discriminator_loss, (0, 1))(real, fake, kind)
        return *of_discriminator, jax.grad(adversarial.generator_adversarial_loss)(fake, kind)

    d_real, d_fake, g_fake = map(np.asarray, gradients(real, fake))
    assert float(d_real[0]) < 0 < float(d_fake[0])  # descent raises real, lowers fake
    assert float(g_fake[0]) < 0  # and the generator raises it


@pytest.mark.parametrize("kind", adversarial.ADVERSARIAL_KINDS)
def test_losses_of_bfloat16_and_huge_logits_are_finite_float32(kind):
    logits = np.array([1e4, -1e4], jnp.bfloat16)
    for loss in (discriminator_loss(logits, logits, kind), generator_loss(logits, kind)):
        assert loss.dtype == jnp.float32 and np.isfinite(loss)


def test_an_unknown_kind_is_refused_with_the_known_ones():
    logits = jnp.zeros((2, 1))
    with pytest.raises(ValueError, match="hinge, vanilla, non_saturating, least_squares, got 'wgan'"):
        adversarial.discriminator_loss(logits, logits, "wgan")
    with pytest.raises(ValueError, match="got 'wgan'"):
        adversarial.generator_adversarial_loss(logits, "wgan")


def test_lecam_averages_match_numpy_over_steps():
    averages, real_average, fake_average = adversarial.init_lecam(), 0.0, 0.0
    update = jax.jit(adversarial.update_lecam, static_argnums=3)
    for step in range(4):
        real, fake = normal(3, 2, 2, 1, seed=step) + np.float32(1.0), normal(3, 1, seed=4 + step)
        averages = update(averages, real, fake, 0.9)
        real_average = 0.9 * real_average + 0.1 * np.asarray(real, np.float64).mean()
        fake_average = 0.9 * fake_average + 0.1 * np.asarray(fake, np.float64).mean()
    np.testing.assert_allclose(averages.real, real_average, **TOLERANCE)
    np.testing.assert_allclose(averages.fake, fake_average, **TOLERANCE)
    assert averages.real.dtype == averages.fake.dtype == jnp.float32


def test_lecam_loss_matches_numpy_and_leaves_the_averages_alone():
    real, fake = normal(4, 3, 3, 1), normal(4, 3, 3, 1, seed=1)
    r, f = (np.asarray(x, np.float64) for x in (real, fake))
    averages = (np.float32(0.4), np.float32(-0.2))
    gradients = jax.jit(jax.value_and_grad(adversarial.lecam_loss, (0, 1, 2, 3)))
    value, grads = gradients(real, fake, *averages)
    above, below = np.maximum(0, r + 0.2), np.maximum(0, 0.4 - f)
    np.testing.assert_allclose(value, (above**2).mean() + (below**2).mean(), **TOLERANCE)
    np.testing.assert_allclose(grads[0], 2 * above / r.size, **TOLERANCE)
    np.testing.assert_allclose(grads[1], -2 * below / f.size, **TOLERANCE)
    assert float(grads[2]) == float(grads[3]) == 0.0


def test_r1_of_a_linear_discriminator_is_half_its_squared_norm():
    weight = normal(48, 1)
    penalty = jax.jit(lambda x: adversarial.r1_penalty(lambda x: x.reshape(-1, 48) @ weight, x))(
        np.ones((5, 4, 4, 3), np.float32)
    )
    expected = 0.5 * (np.asarray(weight, np.float64) ** 2).sum()
    assert float(penalty) == pytest.approx(expected, rel=1e-5)


def bent_logits(params, x, np=jnp):
    """A smooth patch discriminator, in jax or in NumPy."""
    hidden = np.tanh(x @ params["first"])
    return np.tanh(hidden @ params["second"])


def test_r1_and_its_gradient_match_finite_differences():
    params = {"first": normal(3, 4), "second": normal(4, 1, seed=1)}
    pictures = normal(2, 3, 2, 3, seed=2)
    exact = {name: np.asarray(value, np.float64) for name, value in params.items()}
    x = np.asarray(pictures, np.float64)

    def numeric(params):
        slope, step = np.zeros_like(x), 1e-5
        for index in np.ndindex(x.shape):
            moved = np.zeros_like(x)
            moved[index] = step
            up, down = bent_logits(params, x + moved, np).sum(), bent_logits(params, x - moved, np).sum()
            slope[index] = (up - down) / (2 * step)
        return 0.5 * (slope**2).sum() / len(x)

    def penalty(params, pictures):
        return adversarial.r1_penalty(lambda x: bent_logits(params, x), pictures)

    value, grads = jax.tree.map(np.asarray, jax.jit(jax.value_and_grad(penalty))(params, pictures))
    # central differences of step 1e-5 in float64 are accurate to 1e-9; the rest is float32
    np.testing.assert_allclose(value, numeric(exact), rtol=1e-4)
    for name, array in exact.items():
        for index in [(0, 0), (2, 0)]:
            moved = np.zeros_like(array)
            moved[index] = 1e-4
            up, down = numeric({**exact, name: array + moved}), numeric({**exact, name: array - moved})
            np.testing.assert_allclose(grads[name][index], (up - down) / 2e-4, rtol=1e-3, atol=1e-4)


def test_adaptive_weight_is_the_ratio_of_the_norms():
    a, b = normal(3, 3, 4, 2), np.float32(0.01) * normal(3, 3, 4, 2, seed=1)
    weight = adaptive_weight(a, b)
    norms = [np.linalg.norm(x.astype(np.float64)) for x in (a, b)]
    assert float(weight) == pytest.approx(norms[0] / (norms[1] + 1e-4), rel=1e-5)
    weight = adaptive_weight(a.astype(jnp.bfloat16), b.astype(jnp.bfloat16))
    assert weight.dtype == jnp.float32


def test_adaptive_weight_is_bounded_and_passes_no_gradient():
    one, zero = np.ones(4, np.float32), np.zeros(4, np.float32)
    assert float(adaptive_weight(one, zero)) == 1e4
    assert float(adaptive_weight(one, zero, maximum=7.0)) == 7.0
    assert float(adaptive_weight(zero, one)) == 0.0
    assert float(adaptive_weight(zero, zero)) == 0.0
    grads = jax.jit(jax.grad(adversarial.adaptive_weight, (0, 1)))(one, zero)
    chex.assert_trees_all_equal(grads, (zero, zero))


@pytest.mark.parametrize(
    "start,length,values",
    [
        (3, 4, [0, 0, 0, 0.25, 0.5, 0.75, 1, 1]),
        (0, 2, [0.5, 1, 1, 1, 1, 1, 1, 1]),
        (2, 0, [0, 0, 1, 1, 1, 1, 1, 1]),
        (2, 1, [0, 0, 1, 1, 1, 1, 1, 1]),
        (100, 5, [0] * 8),
    ],
)
def test_ramp_is_as_worked_by_hand_on_a_traced_step(start, length, values):
    ramp = jax.jit(lambda step: adversarial.ramp(step, start, length))
    np.testing.assert_array_equal([ramp(np.int32(step)) for step in range(8)], np.float32(values))
    assert ramp._cache_size() == 1 and ramp(np.int32(0)).dtype == jnp.float32


def test_ramp_is_exact_where_float32_no_longer_counts_steps():
    start = 2**24 + 1
    assert [float(adversarial.ramp(start + i, start, 2)) for i in (-1, 0, 1)] == [0.0, 0.5, 1.0]
