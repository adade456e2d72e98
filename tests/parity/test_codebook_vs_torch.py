"""Codebooks against vector-quantize-pytorch's: running averages, revival and k-means, with given draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
peer = pytest.importorskip("vector_quantize_pytorch.vector_quantize_pytorch")

from vq_jax import nn, ops  # noqa: E402
from vq_jax.ops import codebook as our_codebook  # noqa: E402

SIZE, DIM, STEPS = 24, 5, 8


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def initial_state(codebook):
    """That of theirs: every code was used once, and nothing of the averages' start is divided out."""
    return {
        "embedding": jnp.asarray(codebook),
        "cluster_size": jnp.ones(SIZE),
        "embedding_sum": jnp.asarray(codebook),
        "zero_weight": jnp.zeros(()),
    }


@pytest.mark.parametrize("threshold", [0.0, 0.9])
@pytest.mark.parametrize("cosine", [False, True])
def test_updates_and_revivals_match_step_by_step(threshold, cosine, monkeypatch):
    theirs = peer.VectorQuantize(
        DIM,
        SIZE,
        decay=0.8,
        commitment_weight=0.25,
        rotation_trick=False,
        use_cosine_sim=cosine,
        threshold_ema_dead_code=threshold,
    )
    inner = theirs._codebook
    ours = nn.VectorQuantizerEMA(SIZE, DIM, decay=0.8, revive_threshold=threshold, normalize=cosine)
    state, revived = initial_state(inner.embed[0].numpy().copy()), 0.0
    for step in range(STEPS):
        z, drawn = normal(2, 20, DIM, seed=step), normal(SIZE, DIM, seed=100 + step)
        if cosine:
            drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)

        def draw(samples, number, drawn=drawn):
            dead = inner.cluster_size[0] < threshold
            assert int(dead.sum()) == number
            return torch.tensor(drawn)[dead][None]

        inner.replace_sample_fn = draw
        monkeypatch.setattr(ops, "sample_vectors", lambda *_, drawn=drawn: jnp.asarray(drawn))
        given = torch.tensor(z, requires_grad=True)
        values, indices, loss = theirs(given)
        weight = normal(2, 20, DIM, seed=200 + step)
        (loss.sum() + (values * torch.tensor(weight)).sum()).backward()

        def total(z, state=state, weight=weight):
            rngs = {"quantizer": jax.random.key(0)}
            out, new = ours.apply({"codebook": state}, z, train=True, mutable=["codebook"], rngs=rngs)
            return out.loss + (weight * out.quantized).sum(), (out, new["codebook"])

        gradient, (out, state) = jax.grad(total, has_aux=True)(jnp.asarray(z))
        np.testing.assert_array_equal(out.indices, indices.numpy())
        np.testing.assert_allclose(out.quantized, values.detach().numpy(), atol=1e-5)
        assert float(out.loss) == pytest.approx(loss.item(), abs=1e-5)
        np.testing.assert_allclose(gradient, given.grad.numpy(), atol=1e-5)
        for name, expected in (
            ("embedding", inner.embed),
            ("cluster_size", inner.cluster_size),
            ("embedding_sum", inner.embed_avg),
        ):
            np.testing.assert_allclose(state[name], expected[0].numpy(), atol=1e-5)
        revived += float(out.metrics["revived"])
    assert threshold == 0.0 or revived > 0


def test_kmeans_from_given_means_matches(monkeypatch):
    points = normal(400, DIM)
    means = points[:SIZE].copy()
    expected, counts = peer.kmeans(
        torch.tensor(points)[None], SIZE, 10, sample_fn=lambda *_: torch.tensor(means)[None]
    )
    assert (counts > 0).all()  # of an empty cluster theirs keeps the mean, ours draws another
    monkeypatch.setattr(our_codebook, "sample_vectors", lambda *_: jnp.asarray(means))
    centres, _ = ops.kmeans(jax.random.key(0), jnp.asarray(points), SIZE)
    np.testing.assert_allclose(centres, expected[0].numpy(), atol=1e-5)
