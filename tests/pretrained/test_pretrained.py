import dataclasses
import json
import shutil

import cli_runs
import jax
import numpy as np
import pytest
from cli_runs import call, pictures
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jitted import apply
from PIL import ExifTags, Image

import vq_jax
from vq_jax.errors import UserError
from vq_jax.host import memory
from vq_jax.pretrained.build import build_model


@pytest.fixture(scope="session")
def run():
    return cli_runs.trained_run()


@pytest.fixture(scope="session")
def tokenizer(run):
    return vq_jax.load(run)


@pytest.fixture(scope="session")
def mlp(tmp_path_factory):
    """A tokenizer of grey pictures of 8 x 8, fully connected."""
    base = tmp_path_factory.mktemp("mlp")
    np.savez(base / "grey.npz", images=pictures(20, 8, 8, 1))
    arguments = ["--data", f"arrays:{base / 'grey.npz'}", "--model.image-size", "8", "8"]
    arguments += ["--data.image-size", "8", "--batch-size", "8", "--model.hidden-features", "16"]
    arguments += ["--model.num-latents", "4", "--model.codebook-size", "8", "--training.ema-decay", "0.5"]
    assert call("train", "vqvae-fashion-mlp", *arguments, "--steps", "2", "--workdir", base / "run") == 0
    return vq_jax.load(base / "run")


def test_a_model_is_made_by_name():
    model = vq_jax.create_model("vqvae-residual", codebook_size=33, channels=8)
    assert model.quantizer.codebook_size == 33 and model.encoder.channels == 8
    assert model.code_specs((32, 48, 3)).shape == (8, 12)
    with pytest.raises(ValueError, match="unknown architecture 'vqvae-residul'; did you mean vqvae-residual"):
        vq_jax.create_model("vqvae-residul")
    with pytest.raises(ValueError, match="no field 'codebooksize'; did you mean codebook_size"):
        vq_jax.create_model("vqvae-residual", codebooksize=33)
    with pytest.raises(ValueError, match="model.quantizer.codebook_size must be at least 1, got 0"):
        vq_jax.create_model("vqvae-residual", codebook_size=0)


@pytest.mark.parametrize("height, width", [(16, 16), (7, 21), (1, 2)])
def test_pictures_of_any_size_go_through_the_codes(tokenizer, height, width):
    given = pictures(2, height, width)
    indices = tokenizer.encode(given)
    assert indices.shape == (2, -(-height // 4), -(-width // 4)) and indices.dtype == np.int32
    whole = tokenizer.decode(indices)
    assert whole.shape == (2, *(4 * side for side in indices.shape[1:]), 3) and whole.dtype == np.uint8
    reconstruction = tokenizer.reconstruct(given)
    np.testing.assert_array_equal(reconstruction, whole[:, :height, :width])
    np.testing.assert_array_equal(reconstruction, tokenizer.decode(indices, size=(height, width)))


def test_what_cannot_fit_into_memory_is_said_before_it_is_computed(tokenizer, monkeypatch):
    monkeypatch.setattr(memory, "total_memory", lambda: 2**20)
    huge = np.zeros((1, 1000, 100), np.int8)
    for size in (None, (4000, 400)):
        with pytest.raises(UserError, match=r"codes of shape \(1, 1000, 100\) needs at least .* GiB"):
            tokenizer.decode(huge, size=size)
    with pytest.raises(UserError, match="do the codes belong to another picture"):
        tokenizer.decode(huge, size=(4001, 400))
    with pytest.raises(UserError, match="pictures of shape .* needs at least .* GiB"):
        tokenizer.encode(pictures(1, 512, 512))
    assert tokenizer.encode(pictures(64, 16, 16), batch_size=8).shape == (64, 4, 4)


def test_pictures_are_encoded_one_by_one(tokenizer):
    given = pictures(3, 16, 16)
    one_by_one = np.concatenate([tokenizer.encode(given[index : index + 1]) for index in range(3)])
    np.testing.assert_array_equal(tokenizer.encode(given), one_by_one)


def test_the_tokenizer_computes_what_its_model_does(tokenizer):
    given = pictures(2, 16, 16)
    images = vq_jax.ops.normalize_pictures(given)
    output = apply(tokenizer.model, tokenizer.variables, images)
    np.testing.assert_array_equal(tokenizer.encode(given), output.indices)
    decoded = np.asarray(vq_jax.ops.to_uint8(output.reconstruction)).astype(int)
    # Compiled in one program or two, sums may differ in the last bit: a value may round the other way.
    np.testing.assert_allclose(tokenizer.reconstruct(given).astype(int), decoded, atol=1)


def test_a_fully_connected_model_takes_its_own_size(mlp):
    given = pictures(2, 8, 8, 1)
    assert mlp.channels == 1 and mlp.encode(given).shape == (2, 4)
    assert mlp.reconstruct(given).shape == given.shape
    with pytest.raises(UserError, match=r"takes only pictures of shape \(8, 8, 1\), got \(8, 9, 1\)"):
        mlp.encode(pictures(2, 8, 9, 1))
    with pytest.raises(UserError, match=r"expected codes of shape \[B, 4\], got \(1, 5\)"):
        mlp.decode(np.zeros((1, 5), int))


@pytest.mark.parametrize(
    "given, message",
    [
        (pictures(1, 8, 8).astype(np.float32), "expected uint8 pictures .*, got float32"),
        (pictures(1, 8, 8)[0, ..., 0], r"expected uint8 pictures \[B, H, W, C\], got uint8 \[8, 8\]"),
        (pictures(1, 8, 8, 1), "expected pictures with 3 channels .model.image_channels., got 1"),
        (pictures(1, 8, 8)[:, :0], r"got uint8 \[1, 0, 8, 3\]"),
    ],
)
def test_other_arrays_are_not_encoded(tokenizer, given, message):
    with pytest.raises(UserError, match=message):
        tokenizer.encode(given)


@pytest.mark.parametrize(
    "indices, message",
    [
        (np.zeros((1, 2, 2)), "expected integer codes, got float64"),
        (np.full((1, 2, 2), 16), "codes from 0 to 15 .* got 16 to 16"),
        (np.full((1, 2, 2), -1), "got -1 to -1"),
        (np.full((1, 2, 2), 2**32), "got 4294967296 to 4294967296"),
        (np.zeros((0, 2, 2), int), "got none"),
        (np.zeros((1, 4), int), "or of other spatial size"),
    ],
)
def test_other_arrays_are_not_decoded(tokenizer, indices, message):
    with pytest.raises(UserError, match=message):
        tokenizer.decode(indices)


def test_a_size_beyond_the_codes_is_refused(tokenizer):
    with pytest.raises(UserError, match=r"a size of at most \(8, 8\) .* got \(9, 8\)"):
        tokenizer.decode(np.zeros((1, 2, 2), int), size=(9, 8))


@pytest.mark.parametrize("size", [(8, 8, 3), (8,), (), 0, (8, -8)])
def test_codes_of_what_is_no_size_are_refused_in_one_line(tokenizer, size):
    with pytest.raises(UserError, match=r"^expected the size of a picture, one number or 2 without the .*$"):
        tokenizer.code_specs(size)


def test_the_best_checkpoint_is_loaded_on_demand(run, tmp_path):
    copied = shutil.copytree(run, tmp_path / "run")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = min((row for row in rows if row["step"] in (2, 4)), key=lambda row: row["validation/loss"])
    assert vq_jax.load(copied, best=True).step == best["step"]
    assert vq_jax.load(copied).step == 4


def test_a_run_of_more_devices_than_there_are_is_loaded(run, tmp_path, tokenizer):
    copied = shutil.copytree(run, tmp_path / "run")
    config = json.loads((copied / "config.json").read_text())
    config["training"] |= {"mesh_data": 16, "mesh_fsdp": 4}
    (copied / "config.json").write_text(json.dumps(config))
    given = pictures(1, 16, 16)
    np.testing.assert_array_equal(vq_jax.load(copied).encode(given), tokenizer.encode(given))


def test_a_checkpoint_of_another_model_is_refused(run, tmp_path):
    copied = shutil.copytree(run, tmp_path / "run")
    config = json.loads((copied / "config.json").read_text())
    config["model"]["quantizer"]["codebook_size"] = 17
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="is of another model"):
        vq_jax.load(copied)


def test_a_directory_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="is not a run directory"):
        vq_jax.load(tmp_path)


def test_a_tokenizer_knows_the_configuration_of_its_run(tokenizer, run):
    assert tokenizer.config.name == "vqvae-photos"
    assert dataclasses.replace(tokenizer.config) == tokenizer.config
    assert set(tokenizer.variables) == {"params", "codebook"}


def test_a_model_whose_fields_do_not_fit_together_is_a_users_mistake():
    preset = vq_jax.load_preset("vqvae-photos-fsq")
    config = dataclasses.replace(preset, model=preset.model.override(levels=(2, 5)))
    with pytest.raises(UserError, match="levels must be at least 3 unless symmetric = True"):
        build_model(config)


def test_pictures_are_encoded_in_batches_over_a_mesh_and_one_by_one(tokenizer):
    given = pictures(5, 16, 12)
    codes, whole = tokenizer.encode(given), tokenizer.reconstruct(given)
    spread = NamedSharding(jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,)), PartitionSpec("data"))
    for options in (
        {"batch_size": 2},
        {"batch_size": 8},
        {"sharding": spread},
        {"batch_size": 3, "sharding": spread},
    ):
        np.testing.assert_array_equal(tokenizer.encode(given, **options), codes)
        np.testing.assert_array_equal(tokenizer.reconstruct(given, **options), whole)
    np.testing.assert_array_equal(tokenizer.encode(given[0]), codes[0])
    np.testing.assert_array_equal(tokenizer.reconstruct(given[0]), whole[0])
    with pytest.raises(UserError, match="batch_size of at least 1, got 0"):
        tokenizer.encode(given, batch_size=0)


def test_a_picture_of_pillow_is_encoded_as_its_file_is(tokenizer, tmp_path):
    pixels = np.dstack([pictures(1, 8, 12)[0], np.arange(96).reshape(8, 12, 1) * 2])
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "p.png", exif=turned)
    with Image.open(tmp_path / "p.png") as picture:
        found = tokenizer.encode(picture)
    np.testing.assert_array_equal(found, tokenizer.encode(vq_jax.data.read_picture(tmp_path / "p.png", 3)))
    assert found.shape == (3, 2)
