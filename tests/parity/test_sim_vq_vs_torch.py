"""SimVQ against vector-quantize-pytorch: outputs, indices, losses and gradients, over several updates."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

torch = pytest.importorskip("torch")
peer = pytest.importorskip("vector_quantize_pytorch")

from vq_jax import nn  # noqa: E402

SIZE, WIDTH, DIM, RATE = 48, 12, 8, 0.5


@pytest.mark.parametrize("gradient", ["straight_through", "rotation"])
def test_five_updates_match(gradient):
    rng = np.random.default_rng(0)
    theirs = peer.SimVQ(DIM, SIZE, frozen_codebook_dim=WIDTH, rotation_trick=gradient == "rotation")
    optimizer = torch.optim.SGD(theirs.parameters(), RATE)
    ours = nn.SimVQ(SIZE, DIM, frozen_dim=WIDTH, gradient=gradient)
    params = {"kernel": jnp.asarray(theirs.code_transform.weight.detach().numpy().T.copy())}
    codebook = {"frozen": jnp.asarray(theirs.frozen_codebook.numpy())}

    def loss(params, z, weight):
        out = ours.apply({"params": params, "codebook": codebook}, z, train=True)
        return (weight * out.quantized).sum() + out.loss, out

    for _ in range(5):
        z, weight = (rng.normal(size=(4, 9, DIM)).astype(np.float32) for _ in range(2))
        given = torch.tensor(z, requires_grad=True)
        values, indices, their_loss = theirs(given)
        optimizer.zero_grad()
        ((values * torch.tensor(weight)).sum() + their_loss).backward()
        optimizer.step()
        (_, out), (of_params, of_z) = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(
            params, jnp.asarray(z), weight
        )
        np.testing.assert_array_equal(out.indices, indices.numpy())
        np.testing.assert_allclose(out.quantized, values.detach().numpy(), atol=1e-5)
        assert float(out.loss) == pytest.approx(their_loss.item(), abs=1e-5)
        np.testing.assert_allclose(of_z, given.grad.numpy(), atol=1e-5)
        of_theirs = theirs.code_transform.weight.grad.numpy().T
        np.testing.assert_allclose(of_params["kernel"], of_theirs, atol=1e-5)
        params = optax.apply_updates(params, jax.tree.map(lambda g: -jnp.float32(RATE) * g, of_params))
    np.testing.assert_allclose(
        ours.apply({"params": params, "codebook": codebook}, method="codebook"),
        theirs.codebook.detach().numpy(),
        atol=1e-5,
    )
