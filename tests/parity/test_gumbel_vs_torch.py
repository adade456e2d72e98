"""Gumbel-softmax against torch's and VQGAN's code, with the noise of one given to the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
peer = pytest.importorskip("taming.modules.vqvae.quantize")

from vq_jax import nn  # noqa: E402

SIZE, WIDTH, TEMPERATURE = 64, 16, 0.7


@pytest.mark.parametrize("hard", [True, False])
def test_values_indices_losses_and_gradients_are_equal(hard, monkeypatch):
    rng = np.random.default_rng(0)
    z, weight = (rng.normal(size=(2, 8, 8, WIDTH)).astype(np.float32) for _ in range(2))
    ours = nn.GumbelQuantizer(SIZE, WIDTH, TEMPERATURE, TEMPERATURE, kl_weight=5e-4, hard=hard)
    keys = {"quantizer": jax.random.key(1)}
    variables = jax.jit(ours.init)(jax.random.key(0), z)

    def draw(module):
        return jax.random.gumbel(module.make_rng("quantizer"), (z[..., 0].size, SIZE))

    noise = np.asarray(ours.apply(variables, method=draw, rngs=keys)).reshape(2, 8, 8, SIZE)

    def objective(params, z):
        out, _ = ours.apply({**variables, "params": params}, z, train=True, mutable=["codebook"], rngs=keys)
        return out.loss + jnp.sum(weight * out.quantized), out

    (grads, z_grad), out = jax.jit(jax.grad(objective, (0, 1), has_aux=True))(variables["params"], z)

    theirs = peer.GumbelQuantize(WIDTH, WIDTH, SIZE, hard, temp_init=TEMPERATURE, use_vqinterface=False)
    params = jax.tree.map(lambda leaf: torch.tensor(np.asarray(leaf)), variables["params"])
    with torch.no_grad():
        theirs.proj.weight.copy_(params["logits"]["kernel"].T[:, :, None, None])
        theirs.proj.bias.copy_(params["logits"]["bias"])
        theirs.embed.weight.copy_(params["embedding"])
    # torch draws e = exp(-g) and takes -log(e).
    given = torch.tensor(np.exp(-noise.astype(np.float64)).astype(np.float32)).permute(0, 3, 1, 2)
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda self: given)
    latents = torch.tensor(z).permute(0, 3, 1, 2).requires_grad_()
    values, loss, indices = theirs(latents)
    (loss + (values * torch.tensor(weight).permute(0, 3, 1, 2)).sum()).backward()

    np.testing.assert_array_equal(out.indices, indices.numpy())
    np.testing.assert_allclose(out.quantized, values.detach().permute(0, 2, 3, 1).numpy(), atol=1e-5)
    assert float(out.loss) == pytest.approx(loss.item(), rel=1e-5)
    np.testing.assert_allclose(z_grad, latents.grad.permute(0, 2, 3, 1).numpy(), atol=1e-5)
    np.testing.assert_allclose(grads["embedding"], theirs.embed.weight.grad.numpy(), atol=1e-5)
    kernel = theirs.proj.weight.grad.numpy()[:, :, 0, 0].T
    np.testing.assert_allclose(grads["logits"]["kernel"], kernel, atol=5e-5)  # sums over 128 positions

    # In evaluation theirs is still noisy; without noise it is ours.
    theirs.eval()
    given = torch.ones_like(given)
    values, loss, indices = theirs(torch.tensor(z).permute(0, 3, 1, 2))
    out = jax.jit(ours.apply)(variables, z)
    np.testing.assert_array_equal(out.indices, indices.numpy())
    np.testing.assert_allclose(out.quantized, values.detach().permute(0, 2, 3, 1).numpy(), atol=1e-5)
