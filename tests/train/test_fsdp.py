"""States cut over `fsdp`: the numbers of data parallelism, a quarter of the memory, any mesh's checkpoint."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, Mesh, PartitionSpec
from jitted import copied
from test_adversarial_steps import GAN, SHAPE, networks
from test_prior_step import MODELS

from vq_jax import train
from vq_jax.runs.checkpoint import Checkpointer
from vq_jax.runs.digest import leaf_names
from vq_jax.train import sharding
from vq_jax.train.state import init_state

WHOLE = 64  # elements below which an array stays whole in these tests, whose networks are small


@pytest.fixture(autouse=True)
def cut_small_arrays(monkeypatch):
    monkeypatch.setattr(sharding, "SMALLEST_SHARDED", WHOLE)


def mesh_of(data, fsdp):
    devices = np.array(jax.devices()[: data * fsdp]).reshape(data, fsdp)
    return Mesh(devices, sharding.AXES, axis_types=(AxisType.Auto,) * 2)


def keeping_gradients(rate):
    """Adam, whose state also holds the last gradients as they came."""
    return optax.chain(optax.trace(0.0), optax.adam(rate))


@functools.cache
def parts():
    optimizers = {name: keeping_gradients(1e-3) for name in ("optimizer", "discriminator_optimizer")}
    return {**networks(convolutional=True), **optimizers}


@functools.cache
def run(data, fsdp, steps=5):
    """The compiled step, the state before the first step, the gradients of that and all steps' metrics."""
    mesh = mesh_of(data, fsdp)
    first = sharding.init_state_sharded(jax.random.key(0), SHAPE, mesh, ema=True, **parts())
    step = train.jit_train_step(mesh, losses=GAN, ema_decay=0.9, **parts())
    batches = np.random.default_rng(0).integers(0, 256, (steps, 8, *SHAPE), np.uint8)
    given = [train.shard_local_batch({"image": images}, mesh) for images in batches]
    compiled = step.lower(first, given[0], jax.random.key(1), None).compile()
    state, gradients, history = copied(first), None, []
    for batch in given:
        before = state
        state, metrics = compiled(state, batch, jax.random.key(1), None)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
        history.append(jax.device_get(metrics))
        if gradients is None:
            sides = (state.generator, state.discriminator)
            gradients = leaf_names([side.opt_state[0].trace for side in sides])
            # Copied: a view would keep the buffer from being given away.
            gradients = {name: np.array(leaf) for name, leaf in gradients.items()}
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(state), strict=True):
        assert a.sharding.is_equivalent_to(b.sharding, a.ndim)
    return compiled, first, gradients, history


@pytest.mark.ci
def test_the_gradients_of_both_networks_are_those_of_data_parallelism():
    expected, actual = run(4, 1)[2], run(1, 4)[2]
    assert len(expected) == len(actual) > 20
    for name, gradient in expected.items():
        scale = np.abs(gradient).max()
        # a bias before a normalisation has no gradient but rounding
        np.testing.assert_allclose(actual[name], gradient, rtol=0, atol=max(1e-5 * scale, 1e-7), err_msg=name)


@pytest.mark.ci
def test_the_metrics_of_five_steps_are_those_of_data_parallelism():
    for expected, actual in zip(run(4, 1)[3], run(1, 4)[3], strict=True):
        assert expected.keys() == actual.keys() >= {"loss", "discriminator/loss", "adversarial_weight"}
        for name, value in expected.items():
            np.testing.assert_allclose(actual[name], value, rtol=1e-5, atol=1e-5, err_msg=name)


def test_parameters_moments_and_averages_take_a_quarter_of_the_memory():
    state = run(1, 4)[1]
    held = {"cut": 0, "whole": 0}
    for name, leaf in leaf_names(state).items():
        here = leaf.addressable_shards[0].data.nbytes
        if leaf.sharding.is_fully_replicated:
            assert leaf.size < WHOLE or all(size % 4 for size in leaf.shape), name
            held["whole"] += leaf.nbytes
        else:
            assert here * 4 == leaf.nbytes, name
            held["cut"] += leaf.nbytes
    assert held["cut"] > 0.9 * sum(held.values())
    for side in (state.generator, state.discriminator):
        for tree in (side.params, side.opt_state):
            assert any(not leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(tree))
    assert not all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state.generator.ema_params))


def test_the_program_holds_a_quarter_and_gives_its_state_away():
    (whole, *_), (cut, *_) = run(4, 1), run(1, 4)
    of_whole, of_cut = whole.memory_analysis(), cut.memory_analysis()
    assert of_cut.argument_size_in_bytes < 0.3 * of_whole.argument_size_in_bytes
    assert of_cut.alias_size_in_bytes > 0.99 * (of_cut.argument_size_in_bytes - 8 * 16 * 16 * 3)


def collectives(compiled):
    """Bytes that each kind of collective outputs, by its name in the compiled program."""
    found = {}
    kinds = "all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute"
    for shapes, kind in re.findall(rf"= (\S.*?) ({kinds})(?:-start)?\(", compiled.as_text()):
        for size in re.findall(r"\w+\[([\d,]*)\]", shapes):
            found[kind] = found.get(kind, 0) + 4 * int(np.prod([int(n) for n in size.split(",") if n] or [1]))
    return found


def test_nothing_but_parameters_is_gathered():
    compiled, state, *_ = run(1, 4)
    sides = (state.generator, state.discriminator)
    params = sum(leaf.nbytes for leaf in jax.tree.leaves([side.params for side in sides]))
    codebook = sum(leaf.nbytes for leaf in jax.tree.leaves(state.generator.codebook))
    found = collectives(compiled)
    assert found.keys() <= {"all-gather", "all-reduce", "reduce-scatter"}
    assert 0.9 * params < found["all-gather"] <= params + codebook
    assert "all-gather" not in collectives(run(4, 1)[0])


@pytest.mark.parametrize("sizes", [(1, 1), (1, 2)])
def test_a_checkpoint_of_four_devices_restores_on_another_number_to_the_bit(sizes, tmp_path):
    state = run(1, 4)[1]
    shapes = jax.eval_shape(lambda: init_state(jax.random.key(0), SHAPE, ema=True, **parts()))
    target = sharding.with_sharding(shapes, mesh_of(*sizes))
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, state, {}, None)
        restored = checkpointer.restore(1, target).state
    expected, actual = leaf_names(state), leaf_names(restored)
    cut = 0
    for name, leaf in actual.items():
        assert len(leaf.sharding.device_set) == sizes[0] * sizes[1]
        cut += not leaf.sharding.is_fully_replicated
        assert np.asarray(leaf).tobytes() == np.asarray(expected[name]).tobytes(), name
    assert (cut > 40) == (sizes[1] > 1)


@pytest.mark.ci
def test_a_prior_cut_over_fsdp_has_the_metrics_of_data_parallelism():
    model, optimizer = MODELS["gpt"], optax.adam(1e-2)
    codes = np.random.default_rng(0).integers(0, 8, (8, 3, 3)).astype(np.int32)
    labels = np.arange(8, dtype=np.int32) % 2
    histories = []
    for sizes in ((4, 1), (1, 4)):
        mesh = mesh_of(*sizes)
        state = sharding.init_on_mesh(
            lambda rng: train.init_prior(rng, prior_model=model, optimizer=optimizer), jax.random.key(0), mesh
        )
        step = train.jit_prior_step(mesh, prior_model=model, optimizer=optimizer)
        batch = train.shard_local_batch({"codes": codes, "label": labels}, mesh)
        history = []
        for _ in range(5):
            state, metrics = step(state, batch, jax.random.key(1))
            history.append(jax.device_get(metrics))
        histories.append(history)
    assert any(not leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state.params))
    for expected, actual in zip(*histories, strict=True):
        for name, value in expected.items():
            np.testing.assert_allclose(actual[name], value, rtol=1e-5, atol=1e-5, err_msg=name)


def test_the_rule_cuts_the_largest_axis_that_divides_and_leaves_small_arrays_whole(monkeypatch):
    monkeypatch.undo()
    mesh = mesh_of(1, 4)
    small, large = sharding.SMALLEST_SHARDED - 4, sharding.SMALLEST_SHARDED
    shapes = {
        (large,): PartitionSpec("fsdp"),
        (small,): PartitionSpec(),
        (): PartitionSpec(),
        (3, 3, 256, 128): PartitionSpec(None, None, "fsdp"),
        (3, 3, 128, 128): PartitionSpec(None, None, None, "fsdp"),  # the last of equals
        (1022, 128): PartitionSpec(None, "fsdp"),  # the largest does not divide
        (1023, 255): PartitionSpec(),
    }
    abstract = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    assert [place.spec for place in sharding.state_sharding(abstract, mesh)] == list(shapes.values())
    whole = sharding.state_sharding(abstract, mesh_of(4, 1))
    assert all(place.spec == PartitionSpec() for place in whole)


def test_gathered_arrays_are_whole_and_the_same():
    state = run(1, 4)[1]
    gathered = sharding.unshard(state.generator.params, mesh_of(1, 4))
    for a, b in zip(jax.tree.leaves(gathered), jax.tree.leaves(state.generator.params), strict=True):
        assert a.sharding.is_fully_replicated
        np.testing.assert_array_equal(a, b)
