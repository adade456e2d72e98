"""FSQ against vector-quantize-pytorch: values, indices and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
peer = pytest.importorskip("vector_quantize_pytorch")

from vq_jax import nn  # noqa: E402


@pytest.mark.parametrize(
    "levels, symmetric",
    [((8, 5, 5, 5), False), ((8, 6, 5), False), ((7, 5, 5, 5, 5), False), ((2, 3, 4, 8), True)],
)
def test_values_and_indices_are_equal_to_the_bit_and_gradients_to_1e_6(levels, symmetric):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(64, 64, len(levels))).astype(np.float32)
    weight = rng.normal(size=z.shape).astype(np.float32)
    theirs = peer.FSQ(list(levels), preserve_symmetry=symmetric)
    given = torch.tensor(z, requires_grad=True)
    values, indices = theirs(given)
    (values * torch.tensor(weight)).sum().backward()

    ours = nn.FSQ(levels, symmetric=symmetric)
    out = jax.jit(lambda z: ours.apply({}, z))(z)
    np.testing.assert_array_equal(out.indices, indices.numpy())
    np.testing.assert_array_equal(out.quantized, values.detach().numpy())
    gradient = jax.jit(jax.grad(lambda z: (weight * ours.apply({}, z).quantized).sum()))(z)
    # The two libraries' tanh differ in the last bits.
    np.testing.assert_allclose(gradient, given.grad.numpy(), atol=1e-6)
    every = jnp.arange(ours.codebook_size, dtype=jnp.int32)[None]
    np.testing.assert_array_equal(
        ours.apply({}, every, method="lookup"),
        theirs.indices_to_codes(torch.tensor(np.asarray(every))).numpy(),
    )
