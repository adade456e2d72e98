"""Causal convolutions over time and the length rule against PyTorch and magvit2-pytorch.

The latter's convolution repeats the outermost values on request, as that of MAGVIT-v2's authors does.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from jitted import apply

torch = pytest.importorskip("torch")

from vq_jax import nn  # noqa: E402

SHAPE = (2, 7, 6, 8, 3)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def channels_first(x):
    return torch.tensor(np.moveaxis(x, -1, 1).copy())


def channels_last(x):
    return np.moveaxis(x.detach().numpy(), 1, -1)


def ours(x, weight, bias, **fields):
    """The layer with a kernel of PyTorch's layout, O I T H W."""
    layer = nn.CausalConv(weight.shape[0], width=weight.shape[-1], time_width=weight.shape[2], **fields)
    params = {"kernel": jnp.asarray(weight.transpose(2, 3, 4, 1, 0)), "bias": jnp.asarray(bias)}
    return apply(layer, {"params": params}, jnp.asarray(x))


@pytest.mark.parametrize("width, stride, time_stride", [(3, 1, 1), (4, 2, 2), (4, 2, 1), (1, 1, 1)])
@pytest.mark.parametrize("edges", ["repeat", "zeros"])
def test_a_causal_convolution_is_a_plain_one_after_padding_in_front(width, stride, time_stride, edges):
    x, weight, bias = normal(*SHAPE), normal(5, 3, width, width, width, seed=1), normal(5, seed=2)
    low, high = (width - 1) // 2, width // 2
    functional = torch.nn.functional
    past = functional.pad(channels_first(x), (0, 0, 0, 0, width - 1, 0), mode="replicate")
    mode = {"repeat": "replicate", "zeros": "constant"}[edges]
    padded = functional.pad(past, (low, high, low, high, 0, 0), mode=mode)
    strides = (time_stride, stride, stride)
    theirs = functional.conv3d(padded, torch.tensor(weight), torch.tensor(bias), stride=strides)
    found = ours(x, weight, bias, stride=stride, time_stride=time_stride, edges=edges)
    np.testing.assert_allclose(found, channels_last(theirs), atol=2e-5)


def magvit2():
    return pytest.importorskip("magvit2_pytorch.magvit2_pytorch")


def test_a_causal_convolution_equals_that_of_magvit2_pytorch():
    theirs = magvit2().CausalConv3d(3, 5, 3, pad_mode="replicate")
    x = normal(*SHAPE)
    weight, bias = (part.detach().numpy() for part in (theirs.conv.weight, theirs.conv.bias))
    np.testing.assert_allclose(ours(x, weight, bias), channels_last(theirs(channels_first(x))), atol=2e-5)


def test_time_is_halved_to_the_lengths_of_magvit2_pytorch():
    peer = magvit2()
    halve, double = peer.TimeDownsample2x(1), peer.TimeUpsample2x(1)
    model = nn.MAGVIT2VideoEncoder(channel_multipliers=(1, 1, 1, 1))
    for frames in (1, 5, 9, 17):
        clip = torch.zeros(1, 1, frames, 2, 2)
        codes = 1 + (frames - 1) // model.strides(3)[0]
        assert halve(halve(clip)).shape[2] == codes
        # Each doubling drops its first frame.
        once = double(torch.zeros(1, 1, codes, 2, 2))[:, :, 1:]
        assert double(once)[:, :, 1:].shape[2] == frames
