"""VQModel of diffusers, converted: the same codes and pictures, and the same folder back."""

import json

import jax
import numpy as np
import pytest

import vq_jax
from vq_jax.cli.main import main
from vq_jax.convert.weights_file import open_weights

torch = pytest.importorskip("torch", reason="pip install vq-jax[parity]")
diffusers = pytest.importorskip("diffusers", reason="pip install vq-jax[parity]")


@pytest.fixture(scope="module")
def theirs():
    torch.manual_seed(0)
    model = diffusers.VQModel(
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"),
        block_out_channels=(32, 64, 64),
        layers_per_block=1,
        latent_channels=16,
        vq_embed_dim=8,
        num_vq_embeddings=64,
        scaling_factor=0.25,
    ).eval()
    with torch.no_grad():  # norms that scale and shift, and codes apart, as in trained models
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("form", ["folder", "bin"])
def test_codes_and_pictures_are_theirs_and_the_folder_comes_back(form, theirs, tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (2, 32, 24, 3), np.uint8)
    given = torch.from_numpy(pictures.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1.0)
    source = tmp_path / "theirs"
    theirs.save_pretrained(source, safe_serialization=form == "folder")
    place, back = str(tmp_path / "ours"), tmp_path / "back"
    assert main(["convert", "diffusers", str(source), "-o", place, "--image-size", "32"]) == 0
    ours = vq_jax.load(place)
    with torch.no_grad():
        latents = theirs.encode(given).latents
        quantized, _, info = theirs.quantize(latents)
        decoded = theirs.decode(latents).sample
    codes = info[2].reshape(2, 8, 6).numpy()
    assert np.array_equal(ours.encode(pictures), codes)
    apply = jax.jit(ours.model.apply, static_argnames="method")
    found = apply(ours.variables, np.asarray(given).transpose(0, 2, 3, 1), method="encode_latents")
    np.testing.assert_allclose(found, latents.permute(0, 2, 3, 1), atol=1e-4)
    found = apply(ours.variables, codes.astype(np.int32), method="decode")
    np.testing.assert_allclose(found, decoded.permute(0, 2, 3, 1), atol=1e-4)
    assert main(["export", place, "--to", "diffusers", "-o", str(back)]) == 0
    loaded = diffusers.VQModel.from_pretrained(back)
    state = theirs.state_dict()
    assert set(loaded.state_dict()) == set(state)
    assert all(torch.equal(loaded.state_dict()[key], state[key]) for key in state)
    assert json.loads((back / "config.json").read_text())["scaling_factor"] == 0.25


def test_earlier_names_are_read_and_a_model_of_ours_is_written(theirs, tmp_path):
    state = {
        name.replace("to_out.0", "proj_attn")
        .replace("to_q", "query")
        .replace("to_k", "key")
        .replace("to_v", "value"): tensor
        for name, tensor in theirs.state_dict().items()
    }
    torch.save(state, tmp_path / "their.bin")
    place, back = str(tmp_path / "ours"), tmp_path / "back"
    assert main(["convert", "diffusers", str(tmp_path / "their.bin"), "-o", place]) == 0
    vq_jax.load(place).save(tmp_path / "plain")  # without what is known of the file
    assert main(["export", str(tmp_path / "plain"), "--to", "diffusers", "-o", str(back)]) == 0
    loaded = diffusers.VQModel.from_pretrained(back).state_dict()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in theirs.state_dict().items())
    assert set(open_weights(back, ()).tensors) == set(loaded)
