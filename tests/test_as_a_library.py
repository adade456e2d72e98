"""The library as other people's programs use it: their dtypes, meshes, optimizers and debugging switches."""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from library_cases import KEY, MODULES, OPS, STEPS, floats

from vq_jax import nn, ops

CASES = {**OPS, **MODULES, **STEPS}
WIDE = (np.dtype("float64"), np.dtype("int64"))
SLOW = {"CNNDecoder", "CNNEncoder", "MaskGITEncoder", "GPT of two codes a position", *STEPS}  # to trace
KINDS = pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)


def cases(names, slow=SLOW):
    """Parameters of a test: those that take long are CI's."""
    return [pytest.param(name, marks=pytest.mark.ci if name in slow else ()) for name in names]


def four_devices(kind):
    return jax.make_mesh((4,), ("data",), axis_types=(kind,))


def test_every_public_operation_has_a_case():
    functions = {name for name in ops.__all__ if callable(getattr(ops, name)) and name.islower()}
    assert functions == OPS.keys()


def wide_arrays(jaxpr):
    """Equations of a program, and of the programs in it, that make arrays of 64-bit floats."""
    for equation in jaxpr.eqns:
        made = [var.aval for var in equation.outvars if getattr(var.aval, "shape", ())]
        if any(aval.dtype == np.float64 for aval in made):
            yield str(equation)[:200]
        for value in jax.tree.leaves(tuple(equation.params.values())):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from wide_arrays(inner)


@pytest.mark.parametrize("name", cases(CASES, SLOW - {"evaluation", "samples of MaskGIT"}))
def test_with_64_bits_nothing_is_computed_or_returned_in_them(name):
    function, *args = CASES[name]
    with jax.enable_x64(True):
        program = jax.make_jaxpr(function)(*args)
    assert not [result for result in program.out_avals if result.dtype in WIDE]
    assert not list(wide_arrays(program.jaxpr))


QUICK = {"code_statistics", "kmeans", "look_up", "nearest_code", "sample_vectors", "upsample_conv"}
QUICK |= {"FSQ", "MaskGIT", "PixelCNN", "VQModel", "PatchDiscriminator, batch, False", "GAN, hinge"}


@pytest.mark.parametrize("name", cases(CASES, CASES.keys() - QUICK))
def test_under_an_explicit_mesh_with_a_batch_spread_over_it(name):
    """The default of `jax.make_mesh`, which asks for the sharding of what cannot be told; nothing runs."""
    function, *args = CASES[name]
    mesh = four_devices(AxisType.Explicit)

    def spread(leaf):
        rows = isinstance(leaf, np.ndarray) and leaf.ndim and leaf.shape[0] % 4 == 0
        return jax.device_put(leaf, NamedSharding(mesh, PartitionSpec("data"))) if rows else leaf

    with jax.set_mesh(mesh):
        jax.jit(function).trace(*jax.tree.map(spread, args))


LATENTS = floats(64, 4)
QUANTIZERS = pytest.mark.parametrize("make", [nn.VectorQuantizer, nn.VectorQuantizerEMA])


def train_quantizer(quantizer, variables, latents, rng):
    rngs = {"quantizer": rng}
    out, updates = quantizer.apply(variables, latents, train=True, mutable=["codebook"], rngs=rngs)
    return updates, out.metrics["usage"], jax.tree.leaves(out.revival)


@functools.cache
def on_one_device(make):
    """A quantizer's variables, and what training on one device makes of them."""
    quantizer = make(32, 4, revive_threshold=1.5)
    variables = jax.jit(quantizer.init)(KEY, LATENTS)
    return variables, jax.jit(functools.partial(train_quantizer, quantizer))(variables, LATENTS, KEY)


@QUANTIZERS
@KINDS
def test_a_mesh_that_is_set_changes_no_codebook(make, kind):
    variables, expected = on_one_device(make)
    mesh, quantizer = four_devices(kind), make(32, 4, revive_threshold=1.5)
    with jax.set_mesh(mesh):
        latents = jax.device_put(LATENTS, NamedSharding(mesh, PartitionSpec("data")))
        found = jax.jit(functools.partial(train_quantizer, quantizer))(variables, latents, KEY)
    jax.tree.map(close, found, expected)


@QUANTIZERS
def test_with_an_axis_name_shard_map_gives_what_one_device_gives(make):
    variables, expected = on_one_device(make)
    train = functools.partial(train_quantizer, make(32, 4, revive_threshold=1.5, axis_name="data"))
    places = (PartitionSpec(), PartitionSpec("data"), PartitionSpec())
    mapped = jax.shard_map(
        train, mesh=four_devices(AxisType.Auto), in_specs=places, out_specs=PartitionSpec()
    )
    jax.tree.map(close, jax.jit(mapped)(variables, LATENTS, KEY), expected)


def test_with_an_axis_name_pmap_keeps_one_codebook_even_with_other_keys():
    variables, _ = on_one_device(nn.VectorQuantizerEMA)
    train = functools.partial(
        train_quantizer, nn.VectorQuantizerEMA(32, 4, revive_threshold=1.5, axis_name="data")
    )
    mapped = jax.pmap(train, axis_name="data", in_axes=(None, 0, 0))
    updates, *_ = mapped(variables, LATENTS.reshape(4, 16, 4), jax.random.split(KEY, 4))
    for leaf in jax.tree.leaves(updates):
        np.testing.assert_array_equal(leaf, np.broadcast_to(np.asarray(leaf)[:1], leaf.shape))


@QUANTIZERS
def test_without_an_axis_name_diverging_codebooks_are_refused(make):
    variables, _ = on_one_device(make)
    mesh, places = four_devices(AxisType.Auto), (PartitionSpec(), PartitionSpec("data"), PartitionSpec())
    train = functools.partial(train_quantizer, make(32, 4))
    mapped = jax.shard_map(train, mesh=mesh, in_specs=places, out_specs=PartitionSpec())
    with pytest.raises(ValueError, match=r"over data: set axis_name .* or to \(\) to keep one per device"):
        jax.eval_shape(mapped, variables, LATENTS, KEY)
