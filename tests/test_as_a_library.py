"""The library as other people's programs use it: their dtypes, meshes, optimizers and debugging switches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from library_cases import BYTES, KEY, MODULES, OPS, STEPS, floats, vq_model

from vq_jax import nn, ops, train
from vq_jax.train.optimizers import apply_gradients, init_optimizer, keep_frozen

CASES = {**OPS, **MODULES, **STEPS}
WIDE = (np.dtype("float64"), np.dtype("int64"))
SLOW = {"CNNDecoder", "CNNEncoder", "MaskGITDecoder", "MaskGITEncoder", "GPT", "GPT of two codes a position"}
SLOW |= {
    "MAGVIT2VideoDecoder",
    "MAGVIT2VideoEncoder",
    "VQModel, log_laplace",
    "StyleGANDiscriminator",
    *STEPS,
}  # to trace
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
QUICK |= {"FSQ", "PixelCNN", "PatchDiscriminator, batch, False", "GAN, hinge"}


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


def test_with_an_axis_name_kmeans_gives_what_one_device_gives():
    places = (PartitionSpec(), PartitionSpec("data"))
    mapped = jax.shard_map(
        lambda rng, points: ops.kmeans(rng, points, 8, axis_name="data"),
        mesh=four_devices(AxisType.Auto),
        in_specs=places,
        out_specs=PartitionSpec(),
    )
    expected = jax.jit(ops.kmeans, static_argnums=2)(KEY, LATENTS, 8)
    jax.tree.map(close, jax.jit(mapped)(KEY, LATENTS), expected)


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


_TREES = {
    "encoder": {"kernel": floats(6, 5), "bias": floats(5)},
    "quantizer": {"embedding": floats(8, 4)},
    "decoder": {"last": {"kernel": floats(4, 6)}},
}
_SCHEDULE = optax.warmup_cosine_decay_schedule(0.0, 1e-2, 2, 20)
CHAINS = {
    "chain with clipping": optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(_SCHEDULE)),
    "masked": optax.chain(
        optax.masked(optax.trace(0.9), {"encoder": True, "quantizer": False, "decoder": True}),
        optax.scale(-1e-2),
    ),
    "masked weight decay": optax.adamw(
        1e-2, mask=lambda tree: jax.tree.map(lambda leaf: leaf.ndim > 1, tree)
    ),
    "partition": optax.partition(
        {"slow": optax.adam(1e-4), "fast": optax.sgd(1e-2, momentum=0.9)},
        {"encoder": "slow", "quantizer": "fast", "decoder": "slow"},
    ),
    "partition of a frozen part": optax.partition(
        {"frozen": optax.set_to_zero(), "adam": optax.adam(1e-2)},
        {"encoder": "frozen", "quantizer": "adam", "decoder": "adam"},
    ),
    "muon": optax.contrib.muon(1e-2),
    "adafactor": optax.adafactor(1e-2, min_dim_size_to_factor=4),
    "lion": optax.lion(1e-2),
    "MultiSteps": optax.MultiSteps(optax.adam(1e-2), 2).gradient_transformation(),
    "apply_if_finite": optax.apply_if_finite(optax.adam(1e-2), 3),
    "schedule_free": optax.contrib.schedule_free_adamw(1e-2),
    "ema": optax.chain(optax.adam(1e-2), optax.ema(0.9)),
    "inject_hyperparams": optax.inject_hyperparams(optax.adam)(learning_rate=_SCHEDULE),
    "reduce_on_plateau": optax.chain(optax.adam(1e-2), optax.contrib.reduce_on_plateau(0.5)),
    "lamb": optax.lamb(1e-2),
    "prodigy": optax.contrib.prodigy(),
}
DEAD = np.arange(8) % 3 == 0


@pytest.mark.parametrize("name", cases(CHAINS, {"masked weight decay", "partition of a frozen part", "lamb"}))
def test_any_optax_chain_trains_with_frozen_parts_and_revived_codes(name):
    optimizer, replacements = CHAINS[name], floats(8, 4)
    revival = {"embedding": nn.Revival(jnp.asarray(DEAD), jnp.asarray(replacements), jnp.float32(0.5))}
    use = {"quantizer": {"cluster_size": np.zeros(8, np.float32)}}

    @jax.jit
    def steps(params):
        opt_state = init_optimizer(optimizer, params)
        grads = jax.tree.map(jnp.ones_like, params)
        for _ in range(2):
            before = params, opt_state
            params, opt_state = apply_gradients(optimizer, grads, params, opt_state, jnp.float32(1.0))
        frozen = keep_frozen(("quantizer",), before, (params, opt_state))
        revived = train.apply_revival(optimizer, params, opt_state, use, revival)
        again, _ = apply_gradients(optimizer, grads, *revived[:2], jnp.float32(1.0))
        return before, (params, opt_state), frozen, revived, again

    with jax.debug_nans(True):
        before, after, frozen, revived, again = jax.device_get(steps(_TREES))
    for tree, parts in ((before, ("encoder", "decoder")), (after, ("quantizer",))):
        for part in parts:
            jax.tree.map(np.testing.assert_array_equal, frozen[0][part], tree[0][part])
    params, opt_state, booked = revived
    embedding = params["quantizer"]["embedding"]
    np.testing.assert_array_equal(embedding[DEAD], replacements[DEAD])
    np.testing.assert_array_equal(embedding[~DEAD], after[0]["quantizer"]["embedding"][~DEAD])
    np.testing.assert_array_equal(booked["quantizer"]["cluster_size"], np.where(DEAD, 0.5, 0.0))
    # what is kept for a revived row is what a chain keeps at first, and nothing else has changed
    first = jax.device_get(init_optimizer(optimizer, params))
    for (path, kept), old, new in zip(
        jax.tree_util.tree_leaves_with_path(opt_state),
        jax.tree.leaves(after[1]),
        jax.tree.leaves(first),
        strict=True,
    ):
        if "embedding" in jax.tree_util.keystr(path) and np.shape(kept) == (8, 4):
            np.testing.assert_array_equal(kept, np.where(DEAD[:, None], new, old))
        else:
            np.testing.assert_array_equal(kept, old)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(again))


@pytest.mark.parametrize("phase", ["codebook", pytest.param("joint", marks=pytest.mark.ci)])
@pytest.mark.parametrize("name", cases(CHAINS, CHAINS.keys() - {"muon", "partition"}))
def test_any_optax_chain_goes_through_the_generator_step(name, phase):
    networks = {"model": vq_model(nn.VectorQuantizer(8, 4, revive_threshold=0.5)), "optimizer": CHAINS[name]}

    def step(rng, images):
        state = train.init_generator(rng, images.shape[1:], **networks)
        losses = train.Losses()
        return state, train.generator_step(
            state, None, {"image": images}, rng, losses=losses, phase=phase, **networks
        )[0]

    before, after = jax.eval_shape(step, KEY, BYTES)
    assert jax.tree.structure(before) == jax.tree.structure(after)
