"""Discriminators: shapes, parameter counts, batch statistics, spectral norms, second derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jitted import apply, init

from vq_jax.nn.discriminators import MLPDiscriminator, PatchDiscriminator, StyleGANDiscriminator, stylegan
from vq_jax.nn.discriminators.base import BatchNorm
from vq_jax.ops.adversarial import r1_penalty

SMALL = {"channels": 4, "num_layers": 2}


def parameters(module, shape):
    variables = jax.eval_shape(module.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def train(module, variables, x):
    """The discriminator's training pass: logits and new batch_stats."""
    return apply(module, variables, x, train=True, mutable=("batch_stats",))


def test_parameter_counts_are_the_published_ones():
    assert parameters(PatchDiscriminator(), (1, 256, 256, 3)) == 2_765_633  # also checked by the parity tests
    # MaskGIT's, at 256 pixels
    assert parameters(StyleGANDiscriminator(), (1, 256, 256, 3)) == 23_998_017
    # StyleGAN2's minibatch channel: 512 kernels of 3 x 3
    assert parameters(StyleGANDiscriminator(minibatch_group=4), (1, 256, 256, 3)) == 23_998_017 + 9 * 512
    assert parameters(MLPDiscriminator(), (1, 28, 28, 1)) == 785 * 256 + 257 * 128 + 129


@pytest.mark.parametrize("doubled,single", [(64, 32), (512, 256), (1024, 512)])
def test_stylegan_widths_double_with_the_multiplier(doubled, single):
    two, one = StyleGANDiscriminator(channel_multiplier=2), StyleGANDiscriminator()
    assert two._features(doubled) == one._features(single)
    assert [one._features(side) for side in (4, 32, 64, 128, 256, 512, 1024)] == [
        *(512, 512, 256, 128, 64, 32, 16)
    ]


@pytest.mark.parametrize(
    "module,shape,logits",
    [
        (PatchDiscriminator(**SMALL), (2, 16, 16, 3), (2, 2, 2, 1)),
        (PatchDiscriminator(**SMALL), (2, 13, 27, 1), (2, 1, 4, 1)),
        (PatchDiscriminator(**SMALL), (1, 12, 12, 16, 3), (1, 1, 1, 2, 1)),
        (PatchDiscriminator(channels=4, num_layers=3), (1, 28, 28, 1), (1, 1, 1, 1)),
        (PatchDiscriminator(**SMALL, norm="group", spectral_norm=True), (2, 16, 16, 3), (2, 2, 2, 1)),
        (StyleGANDiscriminator(max_channels=4), (3, 16, 16, 3), (3, 1)),
        (StyleGANDiscriminator(max_channels=4, minibatch_group=2), (2, 2, 8, 8, 3), (2, 1)),
        (StyleGANDiscriminator(max_channels=4), (2, 16, 8, 8, 3), (2, 1)),
        (MLPDiscriminator((8, 4)), (3, 7, 5, 1), (3, 1)),
        (MLPDiscriminator((8,)), (3, 2, 7, 5, 1), (3, 1)),
    ],
)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_logits_are_float32_of_the_expected_shape_in_either_compute_dtype(module, shape, logits, dtype):
    module = module.clone(dtype=dtype)
    variables = jax.eval_shape(module.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    for train in (False, True):
        out = jax.eval_shape(
            lambda variables, x, train=train: module.apply(variables, x, train=train),
            variables,
            jax.ShapeDtypeStruct(shape, jnp.float32),
        )
        assert out.shape == logits and out.dtype == jnp.float32


def test_layers_are_named_as_in_the_released_checkpoints():
    def layers(**fields):
        module = PatchDiscriminator(channels=4, num_layers=3, **fields)
        return jax.eval_shape(
            module.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 24, 24, 3), jnp.float32)
        )["params"]

    assert set(layers()) == {f"main_{i}" for i in (0, 2, 3, 5, 6, 8, 9, 11)}
    with_bias = {name for name, layer in layers().items() if "bias" in layer}
    assert with_bias == {"main_0", "main_3", "main_6", "main_9", "main_11"}
    assert set(layers(norm="none")) == {f"main_{i}" for i in (0, 2, 5, 8, 11)}
    assert layers(spectral_norm=True) == layers()


def test_a_logit_of_three_layers_sees_seventy_pixels(getkey):
    module = PatchDiscriminator(channels=4, num_layers=3, norm="none")
    x = normal(1, 96, 96, 1)
    variables = init(module, getkey(), x)
    slope = jax.jit(jax.grad(lambda x: module.apply(variables, x)[0, 5, 5, 0]))(x)
    rows = np.flatnonzero(np.abs(np.asarray(slope)[0, :, :, 0]).sum(1))
    assert rows.max() - rows.min() + 1 == 70


def test_training_normalises_by_the_batch_and_only_a_mutable_collection_moves(getkey):
    module = PatchDiscriminator(**SMALL)
    x = np.float32(2.0) * normal(4, 16, 16, 3) + np.float32(0.5)
    variables = init(module, getkey(), x)
    start = variables["batch_stats"]["main_3"]
    assert (np.asarray(start["mean"]) == 0).all() and (np.asarray(start["var"]) == 1).all()
    trained, updates = train(module, variables, x)
    # the generator's pass: the same logits up to fusion, no error, no update
    generators = apply(module, variables, x, train=True)
    np.testing.assert_allclose(generators, trained, rtol=1e-5, atol=1e-6)
    evaluated, kept = apply(module, variables, x, mutable=("batch_stats",))
    assert not np.allclose(evaluated, trained, atol=1e-3)
    for before, after in zip(jax.tree.leaves(variables), jax.tree.leaves({**variables, **kept}), strict=True):
        np.testing.assert_array_equal(before, after)
    moved = updates["batch_stats"]["main_3"]
    assert (np.asarray(moved["mean"]) != 0).all() and (np.asarray(moved["var"]) != 1).all()


def test_batch_norm_matches_numpy_with_torchs_running_variance(getkey):
    norm = BatchNorm()
    x = np.float32(3.0) * normal(3, 4, 2, 5) + np.arange(5, dtype=np.float32)
    variables = init(norm, getkey(), x)
    y, updates = train(norm, variables, x)
    flat = np.asarray(x, np.float64).reshape(-1, 5)
    params = {name: np.asarray(value, np.float64) for name, value in variables["params"].items()}
    expected = (flat - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5) * params["scale"] + params["bias"]
    # float32 against float64, here and below
    np.testing.assert_allclose(y.reshape(-1, 5), expected, atol=1e-5)
    stats = jax.tree.map(np.asarray, updates["batch_stats"])
    np.testing.assert_allclose(stats["mean"], 0.1 * flat.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * flat.var(0, ddof=1), rtol=1e-5)
    running = apply(norm, {**variables, **updates}, x)
    expected = (flat - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * params["scale"] + params["bias"]
    np.testing.assert_allclose(running.reshape(-1, 5), expected, atol=1e-5)
    assert np.abs(np.asarray(variables["params"]["scale"]) - 1.0).max() < 0.1


def test_statistics_of_a_sharded_batch_are_those_of_the_whole(getkey):
    module = PatchDiscriminator(**SMALL)
    x = normal(8, 16, 16, 3) * np.arange(1.0, 9.0, dtype=np.float32).reshape(8, 1, 1, 1)
    variables = init(module, getkey(), x)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    whole = train(module, variables, x)
    replicated = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
    sharded = train(module, replicated, jax.device_put(x, NamedSharding(mesh, PartitionSpec("data"))))
    np.testing.assert_allclose(sharded[0], whole[0], rtol=1e-4, atol=1e-5)  # sums in another order

    def added(result):
        """The batch's contribution to the running statistics, without that of the initial values."""
        stats = result[1]["batch_stats"]
        return [np.asarray(stats[f"main_{i}"]["var"]) - np.float32(0.9) for i in (3, 6)]

    for expected, actual, part in zip(
        added(whole), added(sharded), added(train(module, variables, x[:2])), strict=True
    ):
        np.testing.assert_allclose(actual, expected, rtol=2e-3)  # float32 rounding next to 0.9
        assert not np.allclose(part, expected, rtol=0.1)
    means = [result[1]["batch_stats"]["main_3"]["mean"] for result in (whole, sharded)]
    np.testing.assert_allclose(means[1], means[0], rtol=1e-4, atol=1e-7)


def spectral(getkey):
    """A discriminator with spectral norm whose kernels are three times those of `init`."""
    module = PatchDiscriminator(channels=4, num_layers=1, norm="none", spectral_norm=True)
    x = normal(2, 8, 8, 3)
    variables = init(module, getkey(), x)
    params = jax.tree.map(lambda leaf: np.float32(3.0) * np.asarray(leaf), variables["params"])
    return module, {**variables, "params": params}, x


def test_spectral_norm_divides_each_kernel_by_its_largest_singular_value(getkey):
    module, variables, x = spectral(getkey)
    for _ in range(30):
        variables = {**variables, **train(module, variables, x)[1]}

    def divide(path, leaf):
        if path[-1].key != "kernel":
            return leaf
        largest = np.linalg.svd(np.asarray(leaf).reshape(-1, leaf.shape[-1]), compute_uv=False)[0]
        sigma = variables["batch_stats"][f"{path[0].key}_spectral"][f"{path[0].key}/kernel/sigma"]
        assert float(sigma) == pytest.approx(largest, rel=1e-2)  # the iteration is close to its limit
        return leaf / largest

    divided = jax.tree_util.tree_map_with_path(divide, variables["params"])
    plain = PatchDiscriminator(channels=4, num_layers=1, norm="none")
    expected = apply(plain, {"params": divided}, x)
    # three kernels, each off by up to 1 %
    np.testing.assert_allclose(apply(module, variables, x), expected, rtol=3e-2, atol=3e-3)


def test_spectral_vectors_change_only_in_training_with_the_collection_mutable(getkey):
    module, variables, x = spectral(getkey)
    logits = [apply(module, variables, x, train=True) for _ in range(2)]
    np.testing.assert_array_equal(*logits)
    _, kept = apply(module, variables, x, mutable=("batch_stats",))
    moved = train(module, variables, x)[1]
    for before, same, other in zip(
        *(jax.tree.leaves(tree["batch_stats"]) for tree in (variables, kept, moved)), strict=True
    ):
        np.testing.assert_array_equal(before, same)
        assert not np.array_equal(before, other)


def test_blur_halves_with_the_binomial_filter_as_numpy_does(getkey):
    x = normal(2, 8, 6, 3)
    taps = np.array([1.0, 3.0, 3.0, 1.0]) / 8.0
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.zeros((2, 4, 3, 3))
    for i in range(4):
        for j in range(3):
            window = padded[:, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4]
            expected[:, i, j] = np.einsum("bijc,i,j->bc", window, taps, taps)
    blurred = jax.jit(stylegan._blur_down, static_argnums=1)(x, (1, 2))
    np.testing.assert_allclose(blurred, expected, atol=1e-6)


@pytest.mark.parametrize("batch,group,used", [(8, 4, 4), (6, 4, 3), (5, 4, 1), (2, 4, 2), (1, 4, 1)])
def test_minibatch_deviation_matches_numpy_for_any_batch_size(getkey, batch, group, used):
    x = normal(batch, 3, 2, 5)
    out = np.asarray(jax.jit(stylegan.minibatch_deviation, static_argnums=1)(x, group))
    np.testing.assert_array_equal(out[..., :5], x)
    groups = np.asarray(x, np.float64).reshape(batch // used, used, -1)
    deviation = np.sqrt(groups.var(1) + 1e-8).mean(-1).repeat(used)
    assert out.shape == (batch, 3, 2, 6)
    expected = np.broadcast_to(deviation[:, None, None], (batch, 3, 2))
    np.testing.assert_allclose(out[..., 5], expected, rtol=1e-5)  # float32 against float64


def test_stylegan_logits_are_the_same_on_four_devices(getkey):
    module = StyleGANDiscriminator(max_channels=4, minibatch_group=4)
    x = normal(8, 8, 8, 3)
    variables = init(module, getkey(), x)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    replicated = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
    sharded = apply(module, replicated, jax.device_put(x, NamedSharding(mesh, PartitionSpec("data"))))
    np.testing.assert_allclose(sharded, apply(module, variables, x), rtol=1e-5, atol=1e-6)


def test_without_the_minibatch_channel_a_logit_depends_on_its_own_picture_alone(getkey):
    x = normal(4, 4, 4, 1)
    for group, alone in [(0, True), (4, False)]:
        module = StyleGANDiscriminator(max_channels=4, minibatch_group=group)
        variables = init(module, getkey(), x)
        slope = jax.jit(jax.grad(lambda x, m=module, v=variables: m.apply(v, x)[0, 0]))(x)
        assert (np.abs(np.asarray(slope)[1:]).max() == 0.0) == alone


def test_a_stylegan_discriminator_learns_from_its_r1_penalty(getkey):
    module = StyleGANDiscriminator(max_channels=4, minibatch_group=2)
    x = jax.random.normal(getkey(), (4, 8, 8, 3))
    params = init(module, getkey(), x)["params"]

    def penalty(params):
        return r1_penalty(lambda x: module.apply({"params": params}, x, train=True), x)

    learn = jax.jit(jax.value_and_grad(penalty))
    value, grad = learn(params)
    assert float(value) > 0 and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grad))
    # a small step along the gradient lowers the penalty by step * |grad|^2
    square = sum(float(np.square(leaf).sum()) for leaf in jax.tree.leaves(grad))
    step = 1e-2 * float(value) / square
    lower, _ = learn(
        jax.tree.map(lambda p, g: np.asarray(p) - np.float32(step) * np.asarray(g), params, grad)
    )
    # to first order, for a step that lowers the penalty by 1 %
    assert float(value - lower) == pytest.approx(step * square, rel=0.1)


@pytest.mark.parametrize(
    "module,shape,message",
    [
        (PatchDiscriminator(), (1, 23, 64, 3), "at least 24 pixels for num_layers = 3, got shape"),
        (PatchDiscriminator(num_layers=2), (1, 11, 11, 3), "at least 12 pixels for num_layers = 2"),
        (StyleGANDiscriminator(), (1, 28, 28, 1), r"expected square pictures .* got shape \(1, 28, 28, 1\)"),
        (StyleGANDiscriminator(), (1, 32, 64, 1), "expected square pictures"),
        (StyleGANDiscriminator(), (1, 2, 2, 1), "expected square pictures"),
        (StyleGANDiscriminator(), (1, 3, 8, 8, 1), "frames a power of two"),
    ],
)
def test_pictures_that_do_not_fit_are_refused_with_the_sizes_that_do(module, shape, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(module.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))


def test_the_smallest_reported_size_is_enough():
    for layers in (1, 2, 3):
        module, side = PatchDiscriminator(channels=2, num_layers=layers), 3 * 2**layers
        variables = jax.eval_shape(
            module.init, jax.random.key(0), jax.ShapeDtypeStruct((1, side, side, 1), jnp.float32)
        )
        assert jax.eval_shape(
            module.apply, variables, jax.ShapeDtypeStruct((1, side, side, 1), jnp.float32)
        ).shape == (1, 1, 1, 1)


@pytest.mark.parametrize(
    "kind,fields,message",
    [
        (PatchDiscriminator, {"num_layers": 0}, "num_layers must be at least 1, got 0"),
        (PatchDiscriminator, {"norm": "layer"}, "expected norm batch, group or none, got 'layer'"),
        (StyleGANDiscriminator, {"minibatch_group": -1}, "minibatch_group must be at least 0"),
    ],
)
def test_bad_fields_are_refused_when_the_module_is_made(kind, fields, message):
    with pytest.raises(ValueError, match=message):
        kind(**fields)
