"""IBQ against a transcription of its formula in PyTorch, over several updates."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

torch = pytest.importorskip("torch")

from vq_jax import nn  # noqa: E402

SIZE, DIM, RATE, TEMPERATURE = 40, 6, 0.05, 0.1


def formula(z, codebook):
    """Output, codes and loss with the default weights, all N x K assignments at once."""
    products = z @ codebook.T
    p = products.softmax(1)
    indices = products.argmax(1)
    hot = torch.nn.functional.one_hot(indices, SIZE).to(z.dtype)
    output, hard = (hot + p - p.detach()) @ codebook, hot @ codebook
    logits = products / TEMPERATURE
    sharp = logits.softmax(1)
    mean = sharp.mean(0)
    entropy = -(sharp * (logits + 1e-5).log_softmax(1)).sum(1).mean() + (mean * (mean + 1e-5).log()).sum()
    loss = ((output - z) ** 2).mean() + ((hard.detach() - z) ** 2).mean()
    return output, indices, loss + 0.25 * ((hard - z.detach()) ** 2).mean() + 0.05 * entropy


def test_five_updates_match_the_formula():
    rng = np.random.default_rng(0)
    theirs = torch.tensor(rng.normal(size=(SIZE, DIM)).astype(np.float32), requires_grad=True)
    ours = nn.IBQ(SIZE, DIM, entropy_temperature=TEMPERATURE)
    params = {"embedding": jnp.asarray(theirs.detach().numpy().copy())}

    def total(params, z, weight):
        out = ours.apply({"params": params}, z, train=True)
        return (weight * out.quantized).sum() + out.loss, out

    for _ in range(5):
        z, weight = (rng.normal(size=(60, DIM)).astype(np.float32) for _ in range(2))
        given = torch.tensor(z, requires_grad=True)
        output, indices, loss = formula(given, theirs)
        theirs.grad = None
        ((output * torch.tensor(weight)).sum() + loss).backward()
        (_, out), (of_params, of_z) = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))(
            params, jnp.asarray(z), weight
        )
        np.testing.assert_array_equal(out.indices, indices.numpy())
        np.testing.assert_allclose(out.quantized, output.detach().numpy(), atol=1e-5)
        assert float(out.loss) == pytest.approx(loss.item(), abs=1e-5)
        np.testing.assert_allclose(of_z, given.grad.numpy(), atol=1e-5)
        np.testing.assert_allclose(of_params["embedding"], theirs.grad.numpy(), atol=1e-5)
        with torch.no_grad():
            theirs -= RATE * theirs.grad
        params = optax.apply_updates(
            params, jax.tree.map(lambda gradient: -jnp.float32(RATE) * gradient, of_params)
        )
