import ast
import json

import jax
import jax.numpy as jnp
import pytest
from processes import Forked

from vq_jax.configs import ExperimentConfig
from vq_jax.configs.presets import DEFAULT_PRESET, load_preset, presets
from vq_jax.configs.serialize import from_dict, to_dict
from vq_jax.errors import UserError

VAR_GRIDS = tuple((size, size) for size in (1, 2, 3, 4, 5, 6, 8, 10, 13, 16))


def test_the_default_is_a_preset():
    assert DEFAULT_PRESET in presets()


@pytest.mark.parametrize("name", presets())
def test_a_preset_has_its_name_and_its_command_and_survives_json(name):
    config = load_preset(name)
    assert config.name == name
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config
    docstring = ast.get_docstring(ast.parse(presets()[name].read_text()))
    assert f"vq-jax train {name}\n" in docstring + "\n"
    assert "Hardware:" in docstring


@pytest.mark.parametrize(
    "name, generator, discriminator, codes",
    [
        ("vqgan-imagenet-f16-1024", 72_141_699, 2_765_633, (16, 16)),
        # 15,360 more vectors of 256; one convolution of 256 to 512 channels and its norm less
        ("vqgan-imagenet-f16-16384", 72_141_699 + 15_360 * 256, 663_361, (16, 16)),
        ("llamagen-imagenet", 71_883_403, 2_765_633, (16, 16)),
        ("maskgit-imagenet-tokenizer", 54_515_587, 23_998_017, (16, 16)),
        ("vqgan-imagenet-f8", None, 663_361, (32, 32)),
        # the authors' encoder and decoder, 106,787,715 in PyTorch, and 16,384 vectors of 256
        pytest.param("ibq-imagenet", 110_982_019, 2_765_633, (16, 16), marks=pytest.mark.ci),
        # counted layer by layer in the authors' network
        pytest.param("open-magvit2-imagenet", 115_127_829, None, (16, 16), marks=pytest.mark.ci),
        pytest.param("fsq-imagenet", None, 23_998_017, (16, 16), marks=pytest.mark.ci),
        # the authors' encoder, decoder and 1x1 convolutions, in PyTorch; the codebook is not a parameter
        pytest.param("rq-vae-imagenet", 100_207_491, 663_361, (8, 8, 4), marks=pytest.mark.ci),
        # counted layer by layer in the authors' network
        ("bsq-imagenet", 174_816_210, 23_998_017, (32, 32)),
        # the authors' layers, counted in PyTorch
        pytest.param("var-imagenet-tokenizer", 108_948_355, None, VAR_GRIDS, marks=pytest.mark.ci),
        # counted layer by layer in tests/nn/test_video_networks.py
        pytest.param("magvit2-video-128", 376_003_221, None, (5, 16, 16, 2), marks=pytest.mark.ci),
    ],
)
def test_a_preset_at_scale_has_networks_of_the_published_size(name, generator, discriminator, codes):
    config = load_preset(name)
    pictures = jnp.zeros((2, *config.data.lengths, 3))
    model = config.model.build(config.losses.head)
    networks = (model, config.discriminator.build())
    with jax.numpy_dtype_promotion("standard"):  # linen's average pooling
        params = [jax.eval_shape(network.init, jax.random.key(0), pictures)["params"] for network in networks]
        specs = model.code_specs(pictures.shape[1:])
    assert jax.tree.map(lambda spec: spec.array_shape, specs) == codes
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(tree)) for tree in params]
    assert sizes == [generator or sizes[0], discriminator or sizes[1]]


def test_the_recipes_of_taming_put_beta_on_the_codebook_term():
    for name in ("f16-1024", "f16-16384", "f8"):
        config = load_preset(f"vqgan-imagenet-{name}")
        quantizer = config.model.quantizer
        assert (quantizer.commitment_weight, quantizer.codebook_weight) == (1.0, 0.25)
        assert config.optimizer == config.discriminator.optimizer
        assert config.optimizer.learning_rate == pytest.approx(4.5e-6 * config.data.batch_size)


def test_a_preset_is_found_under_the_name_of_its_file():
    assert load_preset("vqvae_fashion_mlp") == load_preset("vqvae-fashion-mlp")


def test_an_experiment_is_read_from_any_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import dataclasses\n"
        "from vq_jax.configs.presets import load_preset\n"
        "config = dataclasses.replace(load_preset('vqvae-fashion'), name='mine')\n"
    )
    config = load_preset(str(file))
    assert isinstance(config, ExperimentConfig) and config.name == "mine"


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(UserError, match="unknown preset 'vqvae-foto'; did you mean vqvae-photos"):
        load_preset("vqvae-foto")


@pytest.mark.parametrize(
    "code, message",
    [
        ("config = 1 / 0", "fails when it is run: ZeroDivisionError"),
        ("config = (", "fails when it is run: SyntaxError"),
        (
            "from vq_jax.configs import DataConfig\nDataConfig(batch_size=0)",
            "data.batch_size must be at least 1",
        ),
        ("settings = 1", "must define `config`, one of ExperimentConfig, PriorConfig, .*; it does not"),
        ("config = {}", "must define `config`, one of ExperimentConfig, PriorConfig, .*; it is a dict"),
    ],
)
def test_a_file_that_is_not_an_experiment_is_refused(tmp_path, code, message):
    file = tmp_path / "wrong.py"
    file.write_text(code)
    with pytest.raises(UserError, match=message):
        load_preset(str(file))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="no such file .*nowhere.py"):
        load_preset(str(tmp_path / "nowhere.py"))


@pytest.mark.parametrize(
    "text, what",
    [
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("raise BaseException('a\\nb')", "BaseException: a"),
        ("raise GeneratorExit", "GeneratorExit: "),
    ],
)
def test_a_file_that_ends_the_program_is_an_error_of_the_file(text, what, tmp_path):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(UserError) as told:
        load_preset(str(tmp_path / "mine.py"))
    assert str(told.value) == f"{tmp_path / 'mine.py'} fails when it is run: {what}"


def load_and_say(path):
    print(load_preset(path).name, flush=True)


def test_a_file_that_forks_describes_one_run(tmp_path):
    preset = presets()["vqvae-photos"]
    (tmp_path / "mine.py").write_text(f"import os\nos.fork()\n{preset.read_text()}")
    process = Forked(load_and_say, str(tmp_path / "mine.py"))
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and said == "vqvae-photos\n"
