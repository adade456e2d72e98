"""What every quantizer of the registry does; a new one is tested here without an edit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jitted import apply, init

from vq_jax.configs.quantizers import QUANTIZERS

every_quantizer = pytest.mark.parametrize("name", sorted(QUANTIZERS))
SHAPE = (8, 3, 4)


def made(name, shape=SHAPE):
    """A quantizer with its defaults, latents for it, and its variables."""
    quantizer, variables, channels = initialised(name)
    z = np.random.default_rng(0).standard_normal((*shape, channels), np.float32)
    if len(shape) != len(SHAPE):  # the number of axes may matter, such as to convolutions
        needed = jax.eval_shape(quantizer.init, jax.random.key(0), z)
        if jax.tree.map(jnp.shape, needed) != jax.tree.map(jnp.shape, variables):
            variables = init(quantizer, jax.random.key(0), z)
    return quantizer, z, variables


@functools.cache
def initialised(name):
    config = QUANTIZERS[name]()
    quantizer = config.build()
    z = np.zeros((*SHAPE, config.latent_channels), np.float32)
    return quantizer, init(quantizer, jax.random.key(0), z), config.latent_channels


def evaluate(quantizer, variables, z):
    """The output and the collections as they are then, in one program for all tests."""
    return apply(quantizer, variables, z, mutable=("codebook",))


@every_quantizer
@pytest.mark.parametrize("shape", [(2,), SHAPE])
def test_codes_are_as_the_spec_says_and_lookup_gives_the_quantized_latents(name, shape):
    quantizer, z, variables = made(name, shape)
    out, _ = evaluate(quantizer, variables, z)
    specs = quantizer.code_spec(z.shape[1:])
    assert jax.tree.structure(specs) == jax.tree.structure(out.indices)
    for spec, codes in zip(jax.tree.leaves(specs), jax.tree.leaves(out.indices), strict=True):
        assert codes.shape == (shape[0], *spec.array_shape) and codes.dtype == jnp.int32
        assert 0 <= np.asarray(codes).min() and np.asarray(codes).max() < spec.codebook_size
    assert out.quantized.shape == z.shape and out.quantized.dtype == z.dtype
    found = apply(quantizer, variables, out.indices, method="lookup")
    # A straight-through output may add and subtract z, which rounds.
    np.testing.assert_allclose(found, out.quantized, atol=1e-6)
    quantized, indices, loss, *_ = out
    assert quantized is out.quantized and indices is out.indices and loss is out.loss
    assert out.loss.shape == () and np.isfinite(out.loss) and {"perplexity", "usage"} <= set(out.metrics)


@every_quantizer
def test_all_stages_stand_for_the_quantized_latents_and_the_first_ones_for_others(name):
    quantizer, z, variables = made(name)
    stages = getattr(quantizer, "num_stages", None)
    assert stages is None or stages > 1
    if stages is None:
        return
    out, _ = evaluate(quantizer, variables, z)

    look_up = functools.partial(apply, quantizer, variables, out.indices, method="lookup_stages")
    np.testing.assert_allclose(look_up(stages=stages), out.quantized, atol=1e-6)
    first = look_up(stages=stages - 1)
    assert first.shape == z.shape and (np.abs(np.asarray(first) - out.quantized) > 1e-3).any()


@every_quantizer
@pytest.mark.parametrize("spatial", [(5,), (2, 3, 2)])
def test_latents_may_have_any_number_of_axes(name, spatial):
    quantizer, z, variables = made(name, (2, *spatial))

    def shapes(key, z):
        out, variables = quantizer.init_with_output(key, z)
        found = quantizer.apply(variables, out.indices, method="lookup")
        return variables, out.indices, out.quantized, found

    own, indices, quantized, found = jax.eval_shape(shapes, jax.random.key(0), z)
    assert jax.tree.map(jnp.shape, own) == jax.tree.map(jnp.shape, variables)
    specs = quantizer.code_spec(z.shape[1:])
    assert jax.tree.map(jnp.shape, indices) == jax.tree.map(lambda spec: (2, *spec.array_shape), specs)
    assert quantized.shape == found.shape == z.shape


@every_quantizer
def test_the_gradient_reaches_every_latent(name):
    quantizer, z, variables = made(name)
    weight = np.random.default_rng(1).standard_normal(z.shape, np.float32)
    gradient = jax.jit(jax.grad(lambda z: jnp.sum(weight * quantizer.apply(variables, z).quantized)))(z)
    # Its sign is the identity's only where it passes straight through.
    assert np.isfinite(gradient).all() and (np.asarray(gradient) != 0).all()


@every_quantizer
def test_evaluation_changes_nothing_and_training_only_the_codebook(name):
    quantizer, z, variables = made(name)
    rng = jax.random.key(1)
    _, frozen = evaluate(quantizer, variables, z)
    jax.tree.map(np.testing.assert_array_equal, frozen.get("codebook", {}), variables.get("codebook", {}))
    _, moved = apply(quantizer, variables, z, train=True, mutable=("codebook",), rngs={"quantizer": rng})
    assert set(moved) <= {"codebook"} and jax.tree.structure(moved.get("codebook", {})) == jax.tree.structure(
        variables.get("codebook", {})
    )


@every_quantizer
def test_jit_and_four_devices_give_what_one_gives(name):
    quantizer, z, variables = made(name)
    training = {"train": True, "mutable": ("codebook",), "rngs": {"quantizer": jax.random.key(1)}}
    out, moved = quantizer.apply(variables, jnp.asarray(z), **training)  # op by op
    mesh = Mesh(np.array(jax.devices()), ("data",), axis_types=(AxisType.Auto,))
    spread = jax.device_put(z, NamedSharding(mesh, PartitionSpec("data")))
    assert len(spread.sharding.device_set) == 4
    other, also = apply(quantizer, variables, spread, **training)
    jax.tree.map(np.testing.assert_array_equal, out.indices, other.indices)
    # Sums of float32 in another order.
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5)  # noqa: E731
    jax.tree.map(close, (out.quantized, out.loss, out.metrics), (other.quantized, other.loss, other.metrics))
    jax.tree.map(close, moved, also)


@every_quantizer
def test_bfloat16_latents_give_the_codes_of_the_same_latents_in_float32(name):
    quantizer, z, variables = made(name)
    low = z.astype(jnp.bfloat16)
    out = apply(quantizer, variables, low)
    assert out.quantized.dtype == jnp.bfloat16 and out.loss.dtype == jnp.float32
    plain, _ = evaluate(quantizer, variables, low.astype(np.float32))
    jax.tree.map(np.testing.assert_array_equal, out.indices, plain.indices)


@every_quantizer
def test_latents_of_another_width_are_refused_with_what_to_do(name):
    quantizer, z, variables = made(name)
    with pytest.raises(ValueError, match="give the encoder latent_channels"):
        jax.eval_shape(quantizer.apply, variables, z[..., :-1])


@every_quantizer
def test_a_latent_that_is_not_a_number_gets_a_code_in_range(name):
    quantizer, z, variables = made(name)
    specs = quantizer.code_spec(z.shape[1:])
    z[0] = np.nan
    indices = evaluate(quantizer, variables, z)[0].indices
    for spec, codes in zip(jax.tree.leaves(specs), jax.tree.leaves(indices), strict=True):
        assert 0 <= np.asarray(codes).min() and np.asarray(codes).max() < spec.codebook_size
