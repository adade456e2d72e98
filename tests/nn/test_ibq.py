"""IBQ against its formula; what every quantizer does is in the contract test."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec
from jitted import apply, init

from vq_jax import nn


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def test_the_code_is_that_of_the_largest_product_and_the_losses_have_their_weights(getkey):
    weights = {"commitment_weight": 0.5, "codebook_weight": 0.3, "propagation_weight": 2.0}
    quantizer = nn.IBQ(16, 4, **weights, entropy_weight=0.7, entropy_temperature=0.5)
    z = normal(3, 5, 4)
    variables = init(quantizer, getkey(), z)
    assert set(variables) == {"params"}
    out = apply(quantizer, variables, z)
    table, flat = np.asarray(variables["params"]["embedding"], np.float64), z.reshape(-1, 4)
    best = (flat @ table.T).argmax(1)
    np.testing.assert_array_equal(np.reshape(out.indices, -1), best)
    assert (best != ((flat[:, None] - table[None]) ** 2).sum(-1).argmin(1)).any()  # not the nearest
    error = np.mean((table[best] - flat) ** 2)
    expected = 2.8 * error + 0.7 * float(out.metrics["entropy_loss"])
    assert float(out.loss) == pytest.approx(expected, rel=1e-5)


def test_every_code_learns_from_a_single_latent_and_the_gradient_is_the_softmaxs(getkey):
    quantizer = nn.IBQ(16, 4, entropy_weight=0.0)
    z, weight = normal(1, 4), normal(1, 4, seed=1)
    variables = init(quantizer, getkey(), z)

    def pull(params, z):
        return (weight * quantizer.apply({"params": params}, z).quantized).sum()

    params, of_z = jax.jit(jax.grad(pull, (0, 1)))(variables["params"], z)
    table = np.asarray(variables["params"]["embedding"], np.float64)
    p = np.exp(z @ table.T)[0] / np.exp(z @ table.T).sum()
    along = table @ weight[0]
    of_products = p * (along - p @ along)
    np.testing.assert_allclose(of_z[0], of_products @ table, atol=1e-6)
    expected = of_products[:, None] * z
    expected[(z @ table.T).argmax()] += weight[0]
    np.testing.assert_allclose(params["embedding"], expected, atol=1e-6)
    assert (np.asarray(params["embedding"]) != 0).all()


def test_kmeans_sets_the_codebook(getkey):
    quantizer = nn.IBQ(16, 4, normalize=True)
    latents = jnp.asarray(normal(2, 64, 4))
    params, codebook = jax.jit(quantizer.fit)(getkey(), {}, {}, latents)
    assert codebook == {} and params["embedding"].shape == (16, 4)
    np.testing.assert_allclose(np.linalg.norm(params["embedding"], axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("fields", [{"revive_threshold": 0.1}, {"gradient": "rotation"}])
def test_what_has_no_place_beside_the_gradient_to_all_codes_is_refused(fields):
    with pytest.raises(ValueError, match="leave out gradient and revive_threshold, got"):
        nn.IBQ(8, 4, **fields)


def test_devices_of_shard_map_sum_the_gradients_of_the_codebook(getkey):
    quantizer = nn.IBQ(8, 4, entropy_weight=0.0, axis_name="data")
    z = jnp.asarray(normal(16, 4))
    params = init(quantizer, getkey(), z)["params"]

    def loss(params, z):
        out = quantizer.apply({"params": params}, z)
        return out.loss + jnp.mean(jnp.square(out.quantized))

    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    mapped = jax.shard_map(
        jax.value_and_grad(lambda *inputs: jax.lax.pmean(loss(*inputs), "data")),
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec("data")),
        out_specs=PartitionSpec(),
    )
    found, expected = (jax.jit(function)(params, z) for function in (mapped, jax.value_and_grad(loss)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected)
