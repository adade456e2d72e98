"""Residual FSQ against vector-quantize-pytorch: values, codes and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
peer = pytest.importorskip("vector_quantize_pytorch")

from vq_jax import nn  # noqa: E402


@pytest.mark.parametrize("levels, stages", [((8, 5, 5, 3), 4), ((5, 5), 3), ((2, 3, 4, 8), 2)])
def test_values_codes_and_gradients_are_theirs(levels, stages):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(16, 20, len(levels))).astype(np.float32)
    weight = rng.normal(size=z.shape).astype(np.float32)
    theirs = peer.ResidualFSQ(levels=list(levels), num_quantizers=stages, dim=len(levels))
    given = torch.tensor(z, requires_grad=True)
    values, indices = theirs(given)
    (values * torch.tensor(weight)).sum().backward()

    ours = nn.ResidualFSQ(levels, stages)
    out = jax.jit(lambda z: ours.apply({}, z))(z)
    gradient = jax.jit(jax.grad(lambda z: (weight * ours.apply({}, z).quantized).sum()))(z)
    # The two libraries' tanh differ in the last bits: a latent at the border of two levels may go to either.
    same = (np.asarray(out.indices) == indices.numpy()).all(axis=-1)
    assert same.mean() > 0.995
    np.testing.assert_allclose(out.quantized, values.detach().numpy(), atol=1e-2)
    np.testing.assert_allclose(np.asarray(out.quantized)[same], values.detach().numpy()[same], atol=1e-5)
    np.testing.assert_allclose(np.asarray(gradient)[same], given.grad.numpy()[same], atol=1e-5, rtol=1e-5)
    theirs.quantize_dropout = True  # only then do they decode fewer stages
    for n in range(1, stages + 1):
        np.testing.assert_allclose(
            ours.apply({}, jnp.asarray(indices[..., :n].numpy(), jnp.int32), method="lookup"),
            theirs.get_output_from_indices(indices[..., :n]).numpy(),
            atol=1e-6,
        )
