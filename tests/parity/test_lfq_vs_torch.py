"""LFQ and BSQ against vector-quantize-pytorch: values, indices, losses and gradients.

The two disagree in two points. There the first channel is the highest bit of an index: channels are handed
over in reverse. And there the logarithms of an entropy stop at that of 1e-5: the sum over all codes then
lacks a part of the entropy of each latent with less likely codes, which the last test shows.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
peer = pytest.importorskip("vector_quantize_pytorch")

from vq_jax import nn  # noqa: E402


def theirs(z, weight, bits, temperature, **fields):
    """Values, indices, the loss and its parts, and the gradient of loss and weighted values."""
    quantizer = peer.LFQ(dim=bits, **fields)
    given = torch.tensor(z[..., ::-1].copy(), requires_grad=True)
    (values, indices, loss), parts = quantizer(
        given, inv_temperature=1 / temperature, return_loss_breakdown=True
    )
    (loss + (values * torch.tensor(weight[..., ::-1].copy())).sum()).backward()
    found = (values.detach().numpy()[..., ::-1], indices.numpy(), loss.item(), given.grad.numpy()[..., ::-1])
    return found, [part.item() for part in parts]


def ours(z, weight, quantizer):
    def objective(z):
        out = quantizer.apply({}, z, train=True)
        return out.loss + jnp.sum(weight * out.quantized), out

    gradient, out = jax.jit(jax.grad(objective, has_aux=True))(z)
    parts = [float(out.metrics[name]) for name in ("sample_entropy", "batch_entropy", "commitment_loss")]
    return (out.quantized, out.indices, float(out.loss), gradient), parts


@pytest.mark.parametrize(
    "bits, spherical, spread, temperature",
    [
        (4, False, 0.005, 0.01),  # at the temperature of the recipes, where bits are undecided
        (4, False, 1.0, 0.01),  # and where they are decided
        (10, False, 0.1, 1.0),
        (4, True, 1.0, 1.0),
        (10, True, 1.0, 1.0),
    ],
)
def test_values_indices_losses_and_gradients_are_equal(bits, spherical, spread, temperature):
    rng = np.random.default_rng(0)
    z = (spread * rng.normal(size=(4, 64, bits))).astype(np.float32)
    if spread == 1.0 and not spherical:  # no bit so close to zero that a code has between 0 and 1e-5
        z = np.sign(z) * (np.abs(z) + np.float32(0.1))
    weight = rng.normal(size=z.shape).astype(np.float32)
    quantizer = nn.LFQ(
        bits,
        spherical,
        batch_entropy="full",
        sample_entropy_weight=0.1,
        batch_entropy_weight=0.07,
        entropy_temperature=temperature,
        commitment_weight=0.25,
    )
    found, parts = ours(z, weight, quantizer)
    expected, their_parts = theirs(
        z,
        weight,
        bits,
        temperature,
        spherical=spherical,
        entropy_loss_weight=0.1,
        diversity_gamma=0.7,
        commitment_loss_weight=0.25,
    )
    np.testing.assert_array_equal(found[1], expected[1])
    for mine, other in zip(
        (found[0], *found[2:], parts), (expected[0], *expected[2:], their_parts), strict=True
    ):
        np.testing.assert_allclose(mine, other, atol=1e-5, rtol=1e-5)
    codes = jnp.arange(2**bits, dtype=jnp.int32)[None]
    table = peer.LFQ(dim=bits, spherical=spherical).indices_to_codes(torch.tensor(np.asarray(codes))).numpy()
    np.testing.assert_allclose(quantizer.apply({}, codes, method="lookup"), table[..., ::-1], atol=1e-6)


def test_where_codes_are_less_likely_than_1e_5_their_entropy_lacks_what_these_add():
    bits, temperature = 10, 0.01
    z = np.random.default_rng(0).normal(size=(1, 256, bits), scale=0.01).astype(np.float32)
    quantizer = nn.LFQ(bits, batch_entropy="full", entropy_temperature=temperature)
    _, (sample, _, _) = ours(z, np.zeros_like(z), quantizer)
    _, (their_sample, _, _) = theirs(z, np.zeros_like(z), bits, temperature)
    points = np.where(np.arange(2**bits)[:, None] >> np.arange(bits) & 1, 1.0, -1.0)
    logits = 2 * z[0].astype(np.float64) @ points.T / temperature
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    whole, clamped = (-(p * np.log(np.maximum(p, floor))).sum(1).mean() for floor in (1e-300, 1e-5))
    assert sample == pytest.approx(whole, abs=1e-5) and their_sample == pytest.approx(clamped, abs=1e-5)
    assert whole - clamped > 1e-4
