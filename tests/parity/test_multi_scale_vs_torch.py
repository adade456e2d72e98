"""Multi-scale quantization against VAR's loop, written down here in PyTorch from its formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch.nn import functional  # noqa: E402

from vq_jax import nn, ops  # noqa: E402

VAR = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
TICKS = (0, 0, 1, 1, 1, 2, 2, 3, 3, 3)  # the convolution of each scale


def loop(z, table, kernels, biases, beta=0.25):
    """Output, codes and loss for latents [B, D, H, W]."""
    size, last = z.shape[-1], len(VAR) - 1
    rest, total, loss, codes = z.detach(), torch.zeros_like(z), 0.0, []
    for k, scale in enumerate(VAR):
        down = functional.interpolate(rest, (scale, scale), mode="area") if k < last else rest
        rows = down.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
        found = torch.cdist(rows, table.detach()).argmin(dim=1)
        codes.append(found.reshape(len(z), scale, scale))
        h = table[found].reshape(len(z), scale, scale, -1).permute(0, 3, 1, 2)
        if k < last:
            h = functional.interpolate(h, (size, size), mode="bicubic")
        h = 0.5 * h + 0.5 * functional.conv2d(h, kernels[TICKS[k]], biases[TICKS[k]], padding=1)
        total, rest = total + h, rest - h.detach()
        loss = loss + beta * ((total.detach() - z) ** 2).mean() + ((total - z.detach()) ** 2).mean()
    return z + (total - z).detach(), codes, loss / len(VAR)


def test_output_codes_loss_and_gradients_are_those_of_vars_loop():
    rng, width = np.random.default_rng(0), 8
    z = rng.normal(size=(2, 16, 16, width)).astype(np.float32)
    weight = rng.normal(size=z.shape).astype(np.float32)
    ours = nn.MultiScaleQuantizer(64, width, scales=VAR)
    variables = jax.jit(ours.init)(jax.random.key(0), jnp.asarray(z))

    def run(params, z):
        out = ours.apply({**variables, "params": params}, z)
        return (weight * out.quantized).sum() + 100.0 * out.loss, out

    (_, out), (params_gradient, z_gradient) = jax.jit(jax.value_and_grad(run, argnums=(0, 1), has_aux=True))(
        variables["params"], jnp.asarray(z)
    )

    def leaf(x):
        return torch.tensor(np.asarray(x), requires_grad=True)

    params = variables["params"]
    layers = [params[f"convolutions_{number}"]["Conv_0"] for number in range(4)]
    given, table = leaf(z.transpose(0, 3, 1, 2)), leaf(params["embedding"])
    kernels = [leaf(np.asarray(layer["kernel"]).transpose(3, 2, 0, 1)) for layer in layers]
    biases = [leaf(layer["bias"]) for layer in layers]
    quantized, codes, loss = loop(given, table, kernels, biases)
    ((torch.tensor(weight.transpose(0, 3, 1, 2)) * quantized).sum() + 100.0 * loss).backward()

    close = {"atol": 1e-5, "rtol": 1e-5}
    for found, expected in zip(out.indices, codes, strict=True):
        np.testing.assert_array_equal(found, expected.numpy())
    np.testing.assert_allclose(out.quantized, quantized.detach().numpy().transpose(0, 2, 3, 1), **close)
    np.testing.assert_allclose(out.loss, loss.detach().numpy(), **close)
    np.testing.assert_allclose(z_gradient, given.grad.numpy().transpose(0, 2, 3, 1), **close)
    np.testing.assert_allclose(params_gradient["embedding"], table.grad.numpy(), **close)
    for number, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
        layer = params_gradient[f"convolutions_{number}"]["Conv_0"]
        np.testing.assert_allclose(
            layer["kernel"], kernel.grad.numpy().transpose(2, 3, 1, 0), atol=1e-4, rtol=1e-4
        )
        np.testing.assert_allclose(layer["bias"], bias.grad.numpy(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("sizes", [(16, 13), (16, 5), (7, 3), (5, 1)])
def test_matrices_are_pytorchs_interpolation(sizes):
    large, small = sizes
    x = torch.tensor(np.random.default_rng(0).normal(size=(1, 1, 1, large)).astype(np.float32))
    down = functional.interpolate(x, (1, small), mode="area")[0, 0, 0]
    np.testing.assert_allclose(ops.area_matrix(large, small) @ x[0, 0, 0].numpy(), down, atol=1e-6)
    up = functional.interpolate(x[..., :small], (1, large), mode="bicubic")[0, 0, 0]
    np.testing.assert_allclose(ops.bicubic_matrix(small, large) @ x[0, 0, 0, :small].numpy(), up, atol=1e-6)
