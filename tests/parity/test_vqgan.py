"""VQGAN's f16 encoder and decoder against diffusers' VQModel, random weights carried over."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vq_jax import nn

torch = pytest.importorskip("torch", reason="pip install vq-jax[parity]")
diffusers = pytest.importorskip("diffusers", reason="pip install vq-jax[parity]")

# Their name of each of our layers, in the order in which the rules are tried.
RULES = [
    (r"^encoder/quant_conv", "quant_conv"),
    (r"^decoder/post_quant_conv", "post_quant_conv"),
    (r"down_(\d)/block_(\d)", r"down_blocks/\1/resnets/\2"),
    (r"down_(\d)/attention_(\d)", r"down_blocks/\1/attentions/\2"),
    (r"down_(\d)_downsample/conv", r"down_blocks/\1/downsamplers/0/conv"),
    (r"up_(\d)/block_(\d)", lambda m: f"up_blocks/{4 - int(m[1])}/resnets/{m[2]}"),
    (r"up_(\d)/attention_(\d)", lambda m: f"up_blocks/{4 - int(m[1])}/attentions/{m[2]}"),
    (r"up_(\d)_upsample/conv", lambda m: f"up_blocks/{4 - int(m[1])}/upsamplers/0/conv"),
    (r"mid/block_(\d)", lambda m: f"mid_block/resnets/{int(m[1]) - 1}"),
    (r"mid/attention_1", "mid_block/attentions/0"),
    (r"(attentions/\d)/norm/", r"\1/group_norm/"),
    (r"(attentions/\d)/(q|k|v)/", r"\1/to_\2/"),
    (r"(attentions/\d)/proj_out/", r"\1/to_out/0/"),
    (r"/shortcut/", "/conv_shortcut/"),
    (r"/norm_out/", "/conv_norm_out/"),
    (r"/(kernel|scale)$", "/weight"),
]


def theirs_as_ours(state, abstract):
    """Their tensors in the tree of our parameters; every one of them must find its place."""
    left = dict(state)

    def take(path, leaf):
        name = "/".join(entry.key for entry in path)
        for pattern, replacement in RULES:
            name = re.sub(pattern, replacement, name)
        value = left.pop(name.replace("/", ".")).numpy()
        if value.ndim == 4:
            value = value.transpose(2, 3, 1, 0)
        elif value.ndim == 2 and len(leaf.shape) == 4:  # their attention's linear layers
            value = value.T[None, None]
        assert value.shape == leaf.shape, name
        return jnp.asarray(value)

    params = jax.tree_util.tree_map_with_path(take, abstract)
    assert set(left) == {"quantize.embedding.weight"}
    return params


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(0)
    theirs = diffusers.VQModel(
        down_block_types=("DownEncoderBlock2D",) * 4 + ("AttnDownEncoderBlock2D",),
        up_block_types=("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 128, 256, 256, 512),
        layers_per_block=2,
        latent_channels=256,
        num_vq_embeddings=1024,
        norm_num_groups=32,
    ).eval()
    with torch.no_grad():  # norms that scale and shift, as trained ones do
        for parameter in theirs.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    ours = nn.VQModel(nn.CNNEncoder(), nn.VectorQuantizer(1024, 256), nn.CNNDecoder())
    abstract = jax.eval_shape(ours.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))["params"]
    abstract = {part: abstract[part] for part in ("encoder", "decoder")}
    return theirs, ours, theirs_as_ours(theirs.state_dict(), abstract)


def relative(actual, expected):
    expected = np.moveaxis(expected.numpy(), 1, -1)
    return np.abs(np.asarray(actual) - expected).max() / np.abs(expected).max()


def test_the_encoder_is_theirs(pair):
    theirs, ours, params = pair
    images = np.random.default_rng(0).uniform(-1, 1, (2, 64, 48, 3)).astype(np.float32)
    with torch.no_grad():
        expected = theirs.encode(torch.from_numpy(images.transpose(0, 3, 1, 2))).latents
    encode = jax.jit(lambda params, images: ours.encoder.apply({"params": params}, images))
    assert relative(encode(params["encoder"], images), expected) < 1e-4  # float32 through 30 layers


def test_the_decoder_is_theirs(pair):
    theirs, ours, params = pair
    latents = np.random.default_rng(1).normal(size=(2, 4, 3, 256)).astype(np.float32)
    with torch.no_grad():
        expected = theirs.decode(
            torch.from_numpy(latents.transpose(0, 3, 1, 2)), force_not_quantize=True
        ).sample
    decode = jax.jit(lambda params, latents: ours.decoder.apply({"params": params}, latents))
    assert relative(decode(params["decoder"], latents), expected) < 1e-4  # float32 through 40 layers
