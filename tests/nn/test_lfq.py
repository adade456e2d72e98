"""Lookup-free quantization against a NumPy oracle over all codes; what every quantizer does is elsewhere."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, PartitionSpec
from jitted import apply, init

from vq_jax import nn
from vq_jax.nn.quantizers.lfq import bit_entropy

VARIANTS = [
    {"batch_entropy": "full"},
    {"batch_entropy": "sum", "group_size": 2},
    {"batch_entropy": "mean", "group_size": 3, "commitment_weight": 0.0},
    {"spherical": True, "batch_entropy": "full", "entropy_temperature": 0.1},
    {"spherical": True, "batch_entropy": "sum", "group_size": 1, "entropy_temperature": 1.0},
]
every_variant = pytest.mark.parametrize("fields", VARIANTS)
BITS = 5
WEIGHTS = {"sample_entropy_weight": 0.3, "batch_entropy_weight": 0.2, "entropy_temperature": 0.7}


def made(fields, **more):
    return nn.LFQ(BITS, **{**WEIGHTS, **fields, **more})


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def entropy(p):
    return -np.sum(p * np.log(np.maximum(p, 1e-300)), axis=-1)


def softmax(logits):
    p = np.exp(logits - logits.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def oracle(z, quantizer):
    """Codes, vectors and figures by the papers' formulas over all 2^D codes, float64."""
    flat = z.reshape(-1, z.shape[-1]).astype(np.float64)
    bits = flat.shape[1]
    scale = 1.0
    if quantizer.spherical:
        flat, scale = flat / np.linalg.norm(flat, axis=1, keepdims=True), bits**-0.5
    everything = np.arange(2**bits)[:, None] >> np.arange(bits) & 1
    codes = np.where(everything == 1, scale, -scale)
    nearest = (flat @ codes.T).argmax(1)  # of equal lengths, the nearest code
    temperature = quantizer.entropy_temperature
    sample = entropy(softmax(2 * flat @ codes.T / temperature)).mean()
    size = bits if quantizer.batch_entropy == "full" else quantizer.group_size
    groups = []
    for start in range(0, bits, size):
        part = slice(start, start + size)
        table = np.unique(codes[:, part], axis=0)
        groups.append(entropy(softmax(2 * flat[:, part] @ table.T / temperature).mean(0)))
    batch = np.mean(groups) if quantizer.batch_entropy == "mean" else np.sum(groups)
    commitment = np.mean((flat - codes[nearest]) ** 2)
    loss = (
        quantizer.sample_entropy_weight * sample
        - quantizer.batch_entropy_weight * batch
        + quantizer.commitment_weight * commitment
    )
    figures = {"sample_entropy": sample, "batch_entropy": batch, "commitment_loss": commitment}
    return nearest, codes[nearest], loss, figures


@every_variant
def test_codes_vectors_and_losses_are_those_of_all_codes_written_out(fields):
    quantizer, z = made(fields), normal(4, 6, BITS)
    out = apply(quantizer, {}, z)
    nearest, vectors, loss, figures = oracle(z, quantizer)
    np.testing.assert_array_equal(np.ravel(out.indices), nearest)
    np.testing.assert_allclose(np.reshape(out.quantized, (-1, BITS)), vectors, atol=1e-6)
    assert float(out.loss) == pytest.approx(loss, abs=2e-6)
    for name, expected in figures.items():
        assert float(out.metrics[name]) == pytest.approx(expected, abs=5e-6), name


@every_variant
def test_the_gradient_of_the_loss_is_that_of_the_formula(fields):
    quantizer, z = made(fields), normal(3, BITS)
    gradient = np.asarray(jax.jit(jax.grad(lambda z: quantizer.apply({}, z).loss))(z))
    step = 1e-6
    for place in np.ndindex(z.shape):
        shifted = [z.astype(np.float64) for _ in range(2)]
        shifted[0][place] += step
        shifted[1][place] -= step
        above, below = (oracle(one, quantizer)[2] for one in shifted)
        assert gradient[place] == pytest.approx((above - below) / (2 * step), abs=1e-5)


@pytest.mark.parametrize("spherical", [False, True])
def test_gradients_pass_straight_through_on_the_scaled_value(spherical):
    z, weight = normal(6, BITS), normal(6, BITS, seed=1)
    quantizer = nn.LFQ(BITS, spherical)
    gradient = jax.jit(jax.grad(lambda z: jnp.sum(weight * quantizer.apply({}, z).quantized)))(z)
    expected = weight
    if spherical:  # that of scaling to length one
        length = np.linalg.norm(z, axis=1, keepdims=True)
        unit = z / length
        expected = (weight - unit * np.sum(unit * weight, axis=1, keepdims=True)) / length
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


@pytest.mark.parametrize("spherical", [False, True])
def test_every_code_has_the_bits_of_its_number_the_first_channel_lowest(spherical):
    quantizer = nn.LFQ(BITS, spherical)
    codes = np.arange(2**BITS, dtype=np.int32)[None]
    points = apply(quantizer, {}, codes, method="lookup")
    scale = np.float32(BITS**-0.5 if spherical else 1)
    bits = codes[0][:, None] >> np.arange(BITS) & 1
    np.testing.assert_array_equal(points[0], np.where(bits == 1, scale, -scale))
    out = apply(quantizer, {}, 3 * np.asarray(points))
    np.testing.assert_array_equal(out.indices, codes)
    np.testing.assert_array_equal(out.quantized, points)


def test_zero_is_no_one_and_confident_or_even_bits_have_the_entropies_they_should():
    out = apply(nn.LFQ(3), {}, np.zeros((1, 3), np.float32))
    assert out.indices.tolist() == [0] and out.quantized.tolist() == [[-1.0] * 3]
    logits = np.array([0.0, 1e3, -1e3, 2.0], np.float32)
    entropies, gradient = jax.jit(jax.vmap(jax.value_and_grad(bit_entropy)))(logits)
    p = 1 / (1 + np.exp(-2.0))
    np.testing.assert_allclose(entropies, [np.log(2), 0, 0, entropy(np.array([p, 1 - p]))], atol=1e-6)
    np.testing.assert_allclose(gradient, [0, 0, 0, -2 * p * (1 - p)], atol=1e-6)
    # Opposite confident latents: no entropy each, one bit of it in their mean for each channel.
    out = apply(nn.LFQ(3, batch_entropy="full"), {}, np.array([[5.0] * 3, [-5.0] * 3], np.float32))
    assert float(out.metrics["sample_entropy"]) == 0.0
    assert float(out.metrics["batch_entropy"]) == pytest.approx(np.log(2), rel=1e-6)


def test_the_entropy_under_shard_map_is_that_of_the_global_batch():
    z, quantizer = normal(8, BITS), made({"batch_entropy": "full"}, axis_name="data")
    mesh = Mesh(np.array(jax.devices()), ("data",), axis_types=(AxisType.Auto,))
    mapped = functools.partial(
        jax.shard_map, mesh=mesh, in_specs=PartitionSpec("data"), out_specs=PartitionSpec()
    )

    def loss(quantizer, z):
        out = quantizer.apply({}, z, train=True)
        return out.loss, (out.metrics["usage"], out.metrics["perplexity"])

    @mapped
    def everywhere(z):
        loss_, figures = loss(quantizer, z)
        return jax.lax.pmean(loss_, "data"), figures

    found = jax.jit(jax.value_and_grad(everywhere, has_aux=True))(z)
    expected = jax.jit(
        jax.value_and_grad(functools.partial(loss, made({"batch_entropy": "full"})), has_aux=True)
    )(z)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6), found, expected)
    without = mapped(lambda z: jax.lax.pmean(loss(made({}), z)[0], "data"))
    with pytest.raises(
        ValueError, match=r"over data: set axis_name .* or to \(\) for one entropy per device"
    ):
        jax.eval_shape(without, z)


@pytest.mark.parametrize("fields", [{"batch_entropy": "full"}, {"spherical": True}])
def test_training_on_2_to_the_18_codes_takes_megabytes(fields):
    """4,096 latents times 2^18 codes would be 4.3 GB."""
    quantizer = nn.LFQ(18, **fields)
    step = jax.jit(jax.grad(lambda z: quantizer.apply({}, z, train=True).loss))
    program = step.lower(jax.ShapeDtypeStruct((4096, 18), jnp.float32)).compile()
    assert program.memory_analysis().temp_size_in_bytes < 2**27


def test_there_is_nothing_to_learn_and_no_state(getkey):
    assert init(nn.LFQ(4), getkey(), normal(2, 4)) == {}


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"bits": 0}, "LFQ.bits must be at least 1, got 0"),
        ({"bits": 31}, "LFQ.bits must be at most 30, got 31"),
        (
            {"bits": 21, "batch_entropy": "full"},
            "it takes bits up to 20, got bits = 21; take 'sum' or 'mean'",
        ),
        ({"bits": 8, "batch_entropy": "max"}, "batch_entropy must be one of full, sum, mean, got 'max'"),
        ({"bits": 8, "entropy_temperature": 0.0}, "LFQ.entropy_temperature must be positive, got 0.0"),
    ],
)
def test_fields_out_of_range_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        nn.LFQ(**fields)
