"""Four devices against one: the same gradients, metrics and codes; and a mutant that goes red."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh
from jitted import apply, init

from vq_jax import nn, ops
from vq_jax.configs import Losses, OptimizerConfig
from vq_jax.errors import UserError
from vq_jax.train import generator_loss, jit_train_step, make_mesh, make_optimizer, shard_local_batch
from vq_jax.train.sharding import AXES, batch_sharding, check_batch_size, init_state_sharded
from vq_jax.train.state import init_state

WIDTH = {"channels": 16, "residual_channels": 8, "num_res_blocks": 1, "num_downsamples": 2}
SHAPE, CODES = (16, 16, 3), 32


def mesh_of(devices):
    grid = np.array(jax.devices()[:devices]).reshape(devices, 1)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * 2)


def build(kind):
    quantizer = kind(CODES, 4, revive_threshold=0.5, decay=0.9)
    model = nn.VQModel(nn.ResidualEncoder(latent_channels=4, **WIDTH), quantizer, nn.ResidualDecoder(**WIDTH))
    return model, make_optimizer(OptimizerConfig(learning_rate=1e-3), 100)


def batches(steps):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (8, *SHAPE), np.uint8) for _ in range(steps)]


def train(kind, devices, steps=10):
    model, optimizer = build(kind)
    mesh = mesh_of(devices)
    state = init_state_sharded(jax.random.key(0), SHAPE, mesh, model=model, optimizer=optimizer)
    step = jit_train_step(
        mesh, model=model, optimizer=optimizer, losses=Losses(), phase="joint", ema_decay=0.0
    )
    history = []
    for images in batches(steps):
        state, metrics = step(state, shard_local_batch({"image": images}, mesh), jax.random.key(1), None)
        history.append(jax.device_get(metrics))
    return model, state.generator, history


def test_a_step_is_taken_over_a_mesh_of_the_users_whose_axes_are_explicit():
    model, optimizer = build(nn.VectorQuantizerEMA)
    mesh = jax.make_mesh((4, 1), AXES, axis_types=(AxisType.Explicit,) * 2)
    networks = {"model": model, "optimizer": optimizer}
    state = jax.eval_shape(lambda: init_state(jax.random.key(0), SHAPE, **networks))
    inputs = (state, {"image": batches(1)[0]}, jax.eval_shape(lambda: jax.random.key(1)), None)
    step = jit_train_step(mesh, losses=Losses(), **networks)
    with jax.set_mesh(mesh):
        new, _ = step.eval_shape(*inputs)
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, state)
    with pytest.raises(ValueError, match="expected a mesh with the axes data and fsdp, got data: make"):
        jit_train_step(jax.make_mesh((4,), ("data",)), losses=Losses(), **networks)


@pytest.mark.parametrize(
    "kind", [pytest.param(nn.VectorQuantizer, marks=pytest.mark.ci), nn.VectorQuantizerEMA]
)
def test_ten_steps_on_four_devices_have_the_metrics_of_one(kind):
    model, one, expected = train(kind, 1)
    _, four, actual = train(kind, 4)
    assert len(four.params["encoder"]["Conv_0"]["kernel"].sharding.device_set) == 4
    for a, b in zip(expected, actual, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            # sums over the batch in another order; the scale of each metric
            np.testing.assert_allclose(a[name], b[name], rtol=1e-5, atol=1e-5, err_msg=name)
    images = batches(1)[0].astype(np.float32) / np.float32(127.5) - 1
    states = [
        jax.tree.map(jnp.asarray, jax.device_get({"params": s.params, "codebook": s.codebook}))
        for s in (one, four)
    ]
    codes = [np.asarray(apply(model, state, images, method="encode")) for state in states]
    latents = np.asarray(apply(model, states[0], images, method="encode_latents")).reshape(-1, 4)
    embedding = np.asarray(apply(model, states[0], method=lambda model: model.quantizer.codebook()))
    distances = np.sum((latents[:, None] - embedding) ** 2, axis=-1)
    two_best = np.sort(distances, axis=1)[:, :2]
    clear = (two_best[:, 1] - two_best[:, 0]) > 1e-4  # parameters differ by rounding after ten steps
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(codes[0].ravel()[clear], codes[1].ravel()[clear])


@functools.cache
def gradients(devices, local=False):
    """Gradients of one step; `local` weighs the mean over the batch wrongly, as a lost global sum would."""
    model, optimizer = build(nn.VectorQuantizerEMA)
    mesh = mesh_of(devices)
    state = init_state_sharded(jax.random.key(0), SHAPE, mesh, model=model, optimizer=optimizer)
    images = shard_local_batch({"image": batches(1)[0]}, mesh)["image"]
    codebook = jax.tree.map(jnp.asarray, jax.device_get(state.generator.codebook))

    def loss(params, images):
        images = ops.normalize_pictures(images)
        out = model.apply({"params": params, "codebook": codebook}, images)
        return generator_loss(out, images, Losses())[0]

    grad = jax.grad(loss)
    if local:
        spec = batch_sharding(mesh).spec
        per_device = jax.shard_map(
            lambda params, images: grad(params, images),
            mesh=mesh,
            in_specs=(jax.sharding.PartitionSpec(), spec),
            out_specs=jax.sharding.PartitionSpec(),
            check_vma=False,  # the mutant: each device keeps its own part's gradient
        )
        return jax.device_get(jax.jit(per_device)(state.generator.params, images))
    return jax.device_get(jax.jit(grad)(state.generator.params, images))


def worst_difference(a, b):
    """Largest difference of any tensor, relative to that tensor's largest value."""
    return max(
        np.abs(x - y).max() / np.abs(x).max()
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def test_gradients_of_one_step_agree_tensor_by_tensor():
    assert worst_difference(gradients(1), gradients(4)) < 1e-5


def test_a_lost_global_sum_would_be_seen():
    assert worst_difference(gradients(1), gradients(4, local=True)) > 1e-2


def test_codebook_statistics_of_a_sharded_batch_are_those_of_the_whole(getkey):
    quantizer = nn.VectorQuantizerEMA(CODES, 4)
    z = np.random.default_rng(0).standard_normal((64, 3, 4), np.float32)
    variables = init(quantizer, getkey(), z)
    update = jax.jit(lambda z: quantizer.apply(variables, z, train=True, mutable=["codebook"])[1])
    whole, sharded = update(z), update(jax.device_put(z, batch_sharding(make_mesh())))
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(sharded), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    one_part = update(z[:16])  # what a device alone would make of its part
    assert not np.allclose(whole["codebook"]["cluster_size"], one_part["codebook"]["cluster_size"], rtol=0.1)


def test_the_mesh_has_automatic_axes_and_takes_what_is_left():
    assert make_mesh().shape == {"data": 4, "fsdp": 1}
    assert make_mesh(2, -1).shape == {"data": 2, "fsdp": 2}
    # explicit axes break gathers in linen modules
    assert set(make_mesh().axis_types) == {AxisType.Auto}


@pytest.mark.parametrize("sizes", [(3, 1), (-1, 3), (8, -1)])
def test_a_mesh_that_does_not_fit_the_devices_is_refused(sizes):
    with pytest.raises(UserError, match="does not match the 4 devices"):
        make_mesh(*sizes)


def test_two_open_axes_are_refused():
    with pytest.raises(UserError, match="only one of"):
        make_mesh(-1, -1)


def test_a_batch_that_does_not_divide_is_refused():
    check_batch_size(8, make_mesh())
    with pytest.raises(UserError, match="batch_size = 6 does not divide over 4 devices"):
        check_batch_size(6, make_mesh())


def test_the_step_compiles_once_and_donates_its_state():
    model, optimizer = build(nn.VectorQuantizerEMA)
    mesh = make_mesh()
    state = init_state_sharded(jax.random.key(0), SHAPE, mesh, model=model, optimizer=optimizer)
    step = jit_train_step(
        mesh, model=model, optimizer=optimizer, losses=Losses(), phase="joint", ema_decay=0.0
    )
    for images in batches(3):
        before = state
        state, _ = step(before, shard_local_batch({"image": images}, mesh), jax.random.key(1), None)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
    assert step._cache_size() == 1


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_the_step_lowers_for_accelerators_with_their_own_search(platform):
    model, optimizer = build(nn.VectorQuantizerEMA)
    mesh = mesh_of(1)
    state = init_state_sharded(jax.random.key(0), SHAPE, mesh, model=model, optimizer=optimizer)
    step = jit_train_step(
        mesh, model=model, optimizer=optimizer, losses=Losses(), phase="joint", ema_decay=0.0
    )
    batch = shard_local_batch({"image": batches(1)[0]}, mesh)
    program = (
        step.trace(state, batch, jax.random.key(1), None).lower(lowering_platforms=(platform,)).as_text()
    )
    # one argmin, and the plain transposed convolution
    assert "lhs_dilate" in program and "argmin" in program
    on_cpu = step.trace(state, batch, jax.random.key(1), None).lower().as_text()
    assert "argmin" not in on_cpu
