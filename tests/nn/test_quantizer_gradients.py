"""The choice of gradient of the quantizers with a codebook."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jitted import apply, init

from vq_jax import nn, ops

KINDS = [nn.VectorQuantizer, nn.VectorQuantizerEMA]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def gradients(quantizer, variables, z, weight, **options):
    """Of a weighted sum of the quantized latents, to the parameters and the latents."""

    def loss(params, z):
        out = quantizer.apply({**variables, "params": params}, z, **options)
        return (weight * out.quantized).sum()

    return jax.jit(jax.grad(loss, (0, 1)))(variables.get("params", {}), z)


@pytest.mark.parametrize("kind", KINDS)
def test_rotation_changes_the_gradient_to_the_latents_alone(kind, getkey):
    z, weight = normal(6, 5, 4), normal(6, 5, 4, seed=1)
    plain, turned = kind(16, 4), kind(16, 4, gradient="rotation")
    variables = init(plain, getkey(), z)
    before, after = (apply(quantizer, variables, z) for quantizer in (plain, turned))
    np.testing.assert_array_equal(before.indices, after.indices)
    assert float(before.loss) == float(after.loss)
    found = apply(turned, variables, after.indices, method="lookup")
    np.testing.assert_array_equal(after.quantized, found)
    params, gradient = gradients(turned, variables, z, weight)
    flat, codes = jnp.asarray(z).reshape(-1, 4), found.reshape(-1, 4)
    _, pullback = jax.vjp(lambda flat: ops.rotation_trick(flat, codes), flat)
    (expected,) = pullback(weight.reshape(-1, 4))
    np.testing.assert_allclose(np.reshape(gradient, (-1, 4)), expected, atol=1e-6)
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(params))


def test_diveq_trains_the_codebook_without_other_losses_and_is_exact_in_evaluation(getkey):
    quantizer = nn.VectorQuantizer(
        16, 4, commitment_weight=0.0, codebook_weight=0.0, gradient="diveq", diveq_noise=0.1
    )
    z, weight = normal(6, 5, 4), normal(6, 5, 4, seed=1)
    variables = init(quantizer, getkey(), z)
    out = apply(quantizer, variables, z)
    found = apply(quantizer, variables, out.indices, method="lookup")
    np.testing.assert_allclose(out.quantized, found, atol=1e-6)
    assert float(out.loss) == 0.0
    keys = [{"quantizer": getkey()} for _ in range(2)]
    noisy, again, other = (
        apply(quantizer, variables, z, train=True, mutable=("codebook",), rngs=rngs)[0]
        for rngs in (keys[0], keys[0], keys[1])
    )
    np.testing.assert_array_equal(noisy.quantized, again.quantized)
    assert np.abs(np.asarray(noisy.quantized) - np.asarray(other.quantized)).max() > 1e-3
    # The noise turns the error and leaves its length.
    errors = (np.linalg.norm(np.asarray(x) - z, axis=-1) for x in (noisy.quantized, found))
    np.testing.assert_allclose(*errors, rtol=1e-4)
    params, _ = gradients(quantizer, variables, z, weight)
    used = np.unique(np.asarray(out.indices))
    moved = np.abs(np.asarray(params["embedding"])).max(1) > 0
    np.testing.assert_array_equal(np.flatnonzero(moved), used)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: nn.VectorQuantizer(8, 4, gradient="spin"), "one of straight_through, rotation, diveq, got"),
        (
            lambda: nn.VectorQuantizer(8, 1, gradient="rotation"),
            "code_dim of at least 2, got 1: set",
        ),
        (lambda: nn.VectorQuantizer(8, 4, diveq_noise=-1.0), "diveq_noise must be at least 0"),
        (lambda: nn.VectorQuantizerEMA(8, 4, gradient="diveq"), "use VectorQuantizer"),
    ],
)
def test_gradients_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_noise_without_a_key_names_what_draws_it(getkey):
    quantizer, z = nn.VectorQuantizer(8, 4, gradient="diveq"), normal(3, 4)
    variables = init(quantizer, getkey(), z)
    with pytest.raises(ValueError, match=r'draws noise \(gradient = .diveq.* give rngs={"quantizer": key}'):
        jax.eval_shape(lambda *x: quantizer.apply(*x, train=True), variables, z)


@pytest.mark.parametrize("gradient", ["rotation", "diveq"])
def test_four_devices_draw_and_give_what_one_does(gradient, getkey):
    quantizer = nn.VectorQuantizer(16, 4, gradient=gradient, diveq_noise=0.1)
    z, weight, rngs = jnp.asarray(normal(8, 5, 4)), normal(8, 5, 4, seed=1), {"quantizer": getkey()}
    variables = init(quantizer, getkey(), z)

    def run(params, z):
        def loss(params, z):
            given = {**variables, "params": params}
            out, _ = quantizer.apply(given, z, train=True, mutable=["codebook"], rngs=rngs)
            return (weight * out.quantized).sum() + out.loss, out.quantized

        return jax.value_and_grad(loss, (0, 1), has_aux=True)(params, z)

    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    spread = jax.device_put(z, NamedSharding(mesh, PartitionSpec("data")))
    found, expected = (jax.jit(run)(variables["params"], latents) for latents in (spread, z))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected)


def test_devices_of_shard_map_draw_noise_of_their_own(getkey):
    quantizer = nn.VectorQuantizer(16, 4, gradient="diveq", diveq_noise=0.1, axis_name="data")
    z = jnp.tile(jnp.asarray(normal(2, 4)), (4, 1))  # the same latents on every device
    variables, rngs = init(quantizer, getkey(), z), {"quantizer": getkey()}

    def run(z):
        return quantizer.apply(variables, z, train=True, mutable=["codebook"], rngs=rngs)[0].quantized

    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    rows = PartitionSpec("data")
    drawn = np.asarray(jax.jit(jax.shard_map(run, mesh=mesh, in_specs=rows, out_specs=rows))(z))
    assert len(np.unique(drawn, axis=0)) == 8
