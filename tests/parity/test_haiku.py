"""Quantizers against dm-haiku's, update by update."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax import nn

hk = pytest.importorskip("haiku", reason="pip install vq-jax[parity]")

STEPS, SIZE, DIM = 20, 32, 8
# float32 products and sums in another order
TOLERANCE = {"rtol": 0, "atol": 1e-5}


def batches():
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=(4, 6, 6, DIM)), jnp.float32) for _ in range(STEPS)]


@pytest.fixture(autouse=True)
def haikus_own_promotions():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def test_twenty_updates_of_the_ema_quantizer_match_haiku():
    theirs = hk.transform_with_state(
        lambda x: hk.nets.VectorQuantizerEMA(DIM, SIZE, 0.25, 0.99)(x, is_training=True)
    )
    ours = nn.VectorQuantizerEMA(SIZE, DIM, commitment_weight=0.25, decay=0.99)
    data = batches()
    params, state = theirs.init(jax.random.key(0), data[0])
    variables = ours.init(jax.random.key(1), data[0])
    variables["codebook"]["embedding"] = state["vector_quantizer_ema"]["embeddings"].T
    unused = 0
    for x in data:
        expected, state = theirs.apply(params, state, None, x)
        actual, updates = ours.apply(variables, x, train=True, mutable=["codebook"])
        variables = {**variables, **updates}
        unused += int((np.bincount(np.asarray(actual.indices).ravel(), minlength=SIZE) == 0).sum())
        np.testing.assert_array_equal(actual.indices, expected["encoding_indices"])
        np.testing.assert_allclose(actual.quantized, expected["quantize"], **TOLERANCE)
        np.testing.assert_allclose(actual.loss, expected["loss"], **TOLERANCE)
        # a sum over 32 codes of about 20 in all
        np.testing.assert_allclose(actual.metrics["perplexity"], expected["perplexity"], rtol=1e-5)
        codebook, theirs_codebook = variables["codebook"], state["vector_quantizer_ema"]
        np.testing.assert_allclose(codebook["embedding"], theirs_codebook["embeddings"].T, **TOLERANCE)
        average = state["vector_quantizer_ema/~/ema_cluster_size"]["average"]
        np.testing.assert_allclose(codebook["cluster_size"], average, rtol=1e-5, atol=1e-5)
        average = state["vector_quantizer_ema/~/ema_dw"]["average"]
        np.testing.assert_allclose(codebook["embedding_sum"], average.T, rtol=1e-5, atol=1e-5)
    assert unused > 0  # a code that is never used is part of what must agree


def test_twenty_gradient_steps_of_the_quantizer_match_haiku():
    theirs = hk.without_apply_rng(
        hk.transform(lambda x: hk.nets.VectorQuantizer(DIM, SIZE, 0.25)(x, is_training=True))
    )
    ours = nn.VectorQuantizer(SIZE, DIM, commitment_weight=0.25)
    data = batches()
    their_params = theirs.init(jax.random.key(0), data[0])
    variables = ours.init(jax.random.key(1), data[0])
    our_params = {"embedding": their_params["vector_quantizer"]["embeddings"].T}

    def their_loss(params, x):
        out = theirs.apply(params, x)
        return out["loss"] + jnp.mean(out["quantize"] ** 2), out

    def our_loss(params, x):
        out, _ = ours.apply({**variables, "params": params}, x, train=True, mutable=["codebook"])
        return out.loss + jnp.mean(out.quantized**2), out

    for x in data:
        (_, expected), (their_grad, their_dx) = jax.value_and_grad(their_loss, (0, 1), has_aux=True)(
            their_params, x
        )
        (_, actual), (our_grad, our_dx) = jax.value_and_grad(our_loss, (0, 1), has_aux=True)(our_params, x)
        np.testing.assert_array_equal(actual.indices, expected["encoding_indices"])
        np.testing.assert_allclose(actual.quantized, expected["quantize"], **TOLERANCE)
        np.testing.assert_allclose(actual.loss, expected["loss"], **TOLERANCE)
        np.testing.assert_allclose(our_dx, their_dx, **TOLERANCE)
        their_params = jax.tree.map(lambda p, g: p - 0.5 * g, their_params, their_grad)
        our_params = jax.tree.map(lambda p, g: p - 0.5 * g, our_params, our_grad)
        np.testing.assert_allclose(
            our_params["embedding"], their_params["vector_quantizer"]["embeddings"].T, **TOLERANCE
        )
