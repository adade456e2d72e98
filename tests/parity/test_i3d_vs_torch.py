"""I3D against a transcription in PyTorch of the published layout, with random weights."""

import warnings

import jax
import numpy as np
import pytest
from random_inception import random_tensors
from safetensors.numpy import save_file

from vq_jax.convert.feature_networks import i3d_from
from vq_jax.nn.features.i3d import i3d_shapes

REASON = "pip install vq-jax[parity]"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its import
    torch = pytest.importorskip("torch", reason=REASON)


def padded(x, window, stride):
    """Zeros around, as TensorFlow's SAME has them; nothing is below zero where a maximum follows."""
    sides = []
    for length, size, step in reversed(list(zip(x.shape[2:], window, stride, strict=True))):
        whole = max(size - (step if length % step == 0 else length % step), 0)
        sides += [whole // 2, whole - whole // 2]
    return torch.nn.functional.pad(x, sides)


class Transcription:
    """The layers by their names in the file."""

    def __init__(self, tensors):
        self.tensors = {name: torch.from_numpy(array) for name, array in tensors.items()}

    def unit(self, x, name, size=1, stride=1):
        window, strides = (size,) * 3, (stride,) * 3
        x = padded(x, window, strides)
        x = torch.nn.functional.conv3d(x, self.tensors[f"{name}.conv3d.weight"], stride=strides)
        statistics = [self.tensors[f"{name}.bn.{part}"] for part in ("running_mean", "running_var")]
        scale, shift = (self.tensors[f"{name}.bn.{part}"] for part in ("weight", "bias"))
        return torch.relu(torch.nn.functional.batch_norm(x, *statistics, scale, shift, eps=1e-3))

    def pool(self, x, window, stride):
        return torch.nn.functional.max_pool3d(padded(x, window, stride), window, stride)

    def mixed(self, x, name):
        branches = [
            self.unit(x, f"{name}.b0"),
            self.unit(self.unit(x, f"{name}.b1a"), f"{name}.b1b", 3),
            self.unit(self.unit(x, f"{name}.b2a"), f"{name}.b2b", 3),
            self.unit(self.pool(x, (3, 3, 3), (1, 1, 1)), f"{name}.b3b"),
        ]
        return torch.cat(branches, dim=1)

    def logits(self, clips):
        """From uint8 [B, T, H, W, 3] to the mean logits."""
        batch, frames = clips.shape[:2]
        x = torch.from_numpy(clips).flatten(0, 1).permute(0, 3, 1, 2).float()
        x = torch.nn.functional.interpolate(x, (224, 224), mode="bilinear", align_corners=False)
        x = (2 * x / 255 - 1).reshape(batch, frames, 3, 224, 224).transpose(1, 2)
        x = self.pool(self.unit(x, "Conv3d_1a_7x7", 7, 2), (1, 3, 3), (1, 2, 2))
        x = self.unit(self.unit(x, "Conv3d_2b_1x1"), "Conv3d_2c_3x3", 3)
        x = self.pool(x, (1, 3, 3), (1, 2, 2))
        x = self.mixed(self.mixed(x, "Mixed_3b"), "Mixed_3c")
        x = self.pool(x, (3, 3, 3), (2, 2, 2))
        for letter in "bcdef":
            x = self.mixed(x, f"Mixed_4{letter}")
        x = self.pool(x, (2, 2, 2), (2, 2, 2))
        x = self.mixed(self.mixed(x, "Mixed_5b"), "Mixed_5c")
        x = torch.nn.functional.avg_pool3d(x, (2, 7, 7), stride=1)
        names = (self.tensors[f"logits.conv3d.{part}"] for part in ("weight", "bias"))
        return torch.nn.functional.conv3d(x, *names)[..., 0, 0].mean(dim=2)


def test_logits_of_clips_are_those_of_the_published_layout(tmp_path):
    tensors = random_tensors(i3d_shapes())
    path = tmp_path / "i3d.safetensors"
    save_file(tensors, path)
    network = i3d_from(path)
    assert not network.is_reference
    clips = np.random.default_rng(1).integers(0, 256, (1, 17, 36, 44, 3), np.uint8)  # 17: an odd length
    clips[:, :, 9:20, 11:30] //= 4
    found = np.asarray(jax.jit(network)(network.weights, clips).pooled)
    with torch.no_grad():
        expected = Transcription(tensors).logits(clips).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert found.shape == (1, 400) and expected.std() > 0.1
