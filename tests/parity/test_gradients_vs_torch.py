"""Gradients through a codebook against vector-quantize-pytorch and the package of DiVeQ's authors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
peer = pytest.importorskip("vector_quantize_pytorch.vector_quantize_pytorch")

from vq_jax import nn, ops  # noqa: E402

ROWS, SIZE, DIM = 64, 16, 6


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def theirs_of(function, z, quantized, weight):
    """Values, and gradients of their weighted sum to latents and vectors."""
    inputs = [torch.tensor(x, requires_grad=True) for x in (z, quantized)]
    values = function(*inputs)
    (values * torch.tensor(weight)).sum().backward()
    return [values.detach().numpy(), *(x.grad.numpy() for x in inputs if x.grad is not None)]


def ours_of(function, z, quantized, weight):
    values, pullback = jax.vjp(function, jnp.asarray(z), jnp.asarray(quantized))
    return [values, *pullback(weight)]


def test_the_rotation_trick_matches_vector_quantize_pytorch():
    z, quantized, weight = normal(ROWS, DIM), normal(ROWS, DIM, seed=1), normal(ROWS, DIM, seed=2)
    expected = theirs_of(peer.rotate_to, z, quantized, weight)
    for ours, theirs in zip(ours_of(ops.rotation_trick, z, quantized, weight), expected, strict=False):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_every_derivative_of_the_rotation_trick_matches():
    z, quantized = normal(4, DIM), normal(4, DIM, seed=1)
    expected = torch.autograd.functional.jacobian(
        lambda z: peer.rotate_to(z, torch.tensor(quantized)), torch.tensor(z)
    )
    found = jax.jit(jax.jacrev(lambda z: ops.rotation_trick(z, jnp.asarray(quantized))))(jnp.asarray(z))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_diveq_matches_vector_quantize_pytorch_with_its_noise(monkeypatch):
    z, quantized, weight = normal(ROWS, DIM), normal(ROWS, DIM, seed=1), normal(ROWS, DIM, seed=2)
    drawn = normal(ROWS, DIM, seed=3)
    monkeypatch.setattr(torch, "randn_like", lambda like: torch.tensor(drawn))
    expected = theirs_of(peer.directional_reparam, z, quantized, weight)
    noise = jnp.asarray(np.float32(np.sqrt(5e-3)) * drawn)
    found = ours_of(lambda z, quantized: ops.diveq(z, quantized, noise), z, quantized, weight)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_quantizer_with_diveq_matches_its_authors(monkeypatch):
    authors = pytest.importorskip("diveq")
    theirs = authors.DIVEQ(SIZE, DIM, codebook_reset=False, uniform_init=False, allow_warning=False)
    z, weight, drawn = normal(ROWS, DIM), normal(ROWS, DIM, seed=2), normal(ROWS, DIM, seed=3)
    noise = np.float32(theirs.noise_var) * drawn  # their variance is a standard deviation
    monkeypatch.setattr(
        torch.distributions.normal.Normal, "sample", lambda self, shape: self.scale * torch.tensor(drawn)
    )
    codebook = normal(SIZE, DIM, seed=4)
    theirs.codebook.data = torch.tensor(codebook)
    given = torch.tensor(z, requires_grad=True)
    values, indices, perplexity = theirs(given)
    (values * torch.tensor(weight)).sum().backward()

    ours = nn.VectorQuantizer(SIZE, DIM, commitment_weight=0.0, codebook_weight=0.0, gradient="diveq")
    assert ours.diveq_noise == theirs.noise_var
    variables = ours.init(jax.random.key(0), jnp.asarray(z))
    monkeypatch.setattr(ops, "directional_noise", lambda rng, flat, *_: jnp.asarray(noise))

    def apply(params, z):
        rngs = {"quantizer": jax.random.key(0)}
        return ours.apply({**variables, "params": params}, z, train=True, mutable=["codebook"], rngs=rngs)[0]

    params, z = {"embedding": jnp.asarray(codebook)}, jnp.asarray(z)
    out = apply(params, z)
    np.testing.assert_array_equal(out.indices, indices.numpy())
    np.testing.assert_allclose(out.quantized, values.detach().numpy(), atol=1e-5)
    assert float(out.metrics["perplexity"]) == pytest.approx(float(perplexity), rel=1e-5)
    of_params, of_z = jax.grad(lambda *x: (weight * apply(*x).quantized).sum(), (0, 1))(params, z)
    np.testing.assert_allclose(of_z, given.grad.numpy(), atol=1e-5)
    np.testing.assert_allclose(of_params["embedding"], theirs.codebook.grad.numpy(), atol=1e-5)
