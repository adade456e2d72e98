"""Temperature, top-k and top-p against transformers' logits processors, exactly."""

import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
processors = pytest.importorskip("transformers.generation.logits_process")

from vq_jax import ops  # noqa: E402


@pytest.fixture(params=range(3))
def logits(request):
    rng = np.random.default_rng(request.param)
    return (rng.normal(size=(16, 1024)) * [0.5, 2.0, 8.0][request.param]).astype(np.float32)


def theirs(processor, logits):
    return processor(None, torch.from_numpy(logits)).numpy()


@pytest.mark.parametrize("temperature", [0.1, 0.7, 1.0, 1.3])
def test_temperature(logits, temperature):
    expected = theirs(processors.TemperatureLogitsWarper(temperature), logits)
    np.testing.assert_array_equal(ops.filter_logits(jnp.asarray(logits), temperature=temperature), expected)


@pytest.mark.parametrize("k", [1, 10, 600, 1024, 2000])
def test_top_k(logits, k):
    expected = theirs(processors.TopKLogitsWarper(k), logits)
    np.testing.assert_array_equal(ops.filter_top_k(jnp.asarray(logits), k), expected)


@pytest.mark.parametrize("p", [0.01, 0.3, 0.92, 0.999, 1.0])
def test_top_p(logits, p):
    expected = theirs(processors.TopPLogitsWarper(p), logits)
    np.testing.assert_array_equal(ops.filter_top_p(jnp.asarray(logits), p), expected)


def test_all_three_in_their_order(logits):
    expected = logits
    for processor in (
        processors.TemperatureLogitsWarper(0.9),
        processors.TopKLogitsWarper(100),
        processors.TopPLogitsWarper(0.8),
    ):
        expected = theirs(processor, expected)
    ours = ops.filter_logits(jnp.asarray(logits), temperature=0.9, top_k=100, top_p=0.8)
    np.testing.assert_array_equal(ours, expected)
