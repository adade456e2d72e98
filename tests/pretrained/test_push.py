"""Uploads to the hub: cards and refusals here, and what goes over HTTP to a stand-in of the hub."""

import json
import sys
import types

import numpy as np
import pytest
from hub_server import TOKEN, Hub
from made import make_prior, make_tokenizer, write_run
from processes import Forked, finish

import vq_jax
from vq_jax.cli.main import main
from vq_jax.errors import UserError
from vq_jax.pretrained.model_card import measured_figures, model_card


@pytest.fixture
def sent(monkeypatch):
    """What was handed to a package that stands in for the hub's."""
    found = []

    class HfApi:
        def create_repo(self, name, private, exist_ok):
            found.append((name, private))
            if name == "other/small":
                raise OSError("\n403 Forbidden: no rights.\nMore of it")

        def create_commit(self, name, operations, commit_message):
            found.extend(operations)
            return types.SimpleNamespace(commit_url=f"https://hub/{name}/commit/1")

    module = types.ModuleType("huggingface_hub")
    module.HfApi = HfApi
    module.CommitOperationAdd = lambda path_in_repo, path_or_fileobj: (path_in_repo, path_or_fileobj)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return found


def refused(arguments, capsys):
    assert main(["push", *map(str, arguments)]) == 2
    message = capsys.readouterr().err
    assert len(message.splitlines()) <= 3
    return message


def test_a_model_directory_goes_up_as_it_is_with_a_card(sent, tmp_path, capsys):
    make_tokenizer().save(tmp_path / "model")
    (tmp_path / "model" / "secret.txt").write_text("not a file of a model")
    assert main(["push", str(tmp_path / "model"), "hf://owner/small", "--license", "mit"]) == 0
    assert capsys.readouterr().out == "https://hub/owner/small/commit/1\n"
    assert sent[0] == ("owner/small", False) and sent[-1][0] == "config.json"
    files = dict(sent[1:])
    card = files.pop("README.md").decode()
    assert files == {name: (tmp_path / "model" / name).read_bytes() for name in files} and len(files) == 2
    assert card.startswith("---\nlibrary_name: vq_jax\nlicense: mit\ntags:\n- vq_jax\n- jax\n- vq-gan\n")
    assert "| architecture | vqvae-mlp |" in card and "| quantizer | 8 codes, 4 wide, ema |" in card
    assert "| bits a pixel | 0.1875 |" in card  # 4 codes of 3 bits for 8 x 8 pixels
    assert 'vq_jax.load_tokenizer("hf://owner/small")' in card and "None were measured" in card


def test_a_card_of_the_users_own_goes_up_unchanged(sent, tmp_path):
    make_tokenizer().save(tmp_path / "model")
    (tmp_path / "model" / "README.md").write_text("mine")
    vq_jax.push(tmp_path / "model", "owner/small", private=True)
    assert sent[0] == ("owner/small", True) and dict(sent[1:])["README.md"] == b"mine"


@pytest.mark.ci
def test_the_best_checkpoint_of_a_run_goes_up_with_the_figures_of_its_step(sent, tmp_path):
    write_run(tmp_path / "run", steps=(1, 2))  # of which the second has the lower loss
    rows = [{"step": step, "loss": 9.0, "validation/psnr": 20.25 + step, "note": "x"} for step in (1, 2, 3)]
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    vq_jax.push(tmp_path / "run", "owner/small")
    files = dict(sent[1:])
    assert json.loads(files["config.json"])["step"] == 2
    card = files["README.md"].decode()
    assert "by the run at step 2:\n\n| figure | value |\n|---|---|\n| psnr | 22.25 |\n" in card
    assert "loss" not in card and "| trained on | fashion |" in card


def test_a_card_of_a_prior_says_what_it_draws_with():
    card = model_card(make_prior(), "owner/drawn", [])
    assert "- image-generation\n" in card and "| prior | pixelcnn |" in card and "| classes | 3 |" in card
    assert "made = prior.sample(16)  # uint8 [16, 8, 8, 1]" in card


def test_figures_are_those_of_evaluate_and_of_the_same_model(tmp_path):
    tokenizer, file = make_tokenizer(), tmp_path / "figures.json"
    report = {"kind": "evaluation", "version": 1, "name": "small", "step": 3, "pictures": 7}
    report |= {"figures": {"psnr": 21.5}, "computed": ["fd-vgg: of VGG16"]}
    file.write_text(json.dumps(report))
    lines = measured_figures(file, tokenizer)
    assert lines[0] == "By `vq-jax evaluate`, 7 held-out pictures:"
    assert "| psnr | 21.5 |" in lines and lines[-1] == "- fd-vgg: of VGG16"
    file.write_text(json.dumps({**report, "step": 4}))
    with pytest.raises(UserError, match="figures of small, step 4, and the model is small, step 3"):
        measured_figures(file, tokenizer)
    file.write_text("[1]")
    with pytest.raises(UserError, match="expected figures that `vq-jax evaluate RUN -o FILE.json` wrote"):
        measured_figures(file, tokenizer)


def test_refusals_are_one_message_and_send_nothing(sent, tmp_path, capsys, monkeypatch):
    make_tokenizer().save(tmp_path / "model")
    (tmp_path / "pictures").mkdir()
    model = tmp_path / "model"
    assert "as OWNER/NAME or hf://OWNER/NAME, got 'small'" in refused([model, "small"], capsys)
    assert "is not a run directory" in refused([tmp_path / "pictures", "owner/small"], capsys)
    assert "such as apache-2.0 or mit, got 'mit\\nx: 1'" in refused(
        [model, "owner/small", "--license", "mit\nx: 1"], capsys
    )
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    assert "is damaged" in refused([model, "owner/small"], capsys)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert 'pip install "vq-jax[hub]"' in refused([model, "owner/small"], capsys)
    assert sent == []


def test_what_the_hub_says_is_told(sent, tmp_path, capsys):
    make_tokenizer().save(tmp_path / "model")
    message = refused([tmp_path / "model", "other/small"], capsys)
    assert (
        "does not take other/small, and no file was uploaded: OSError: 403 Forbidden: no rights." in message
    )
    assert "HF_TOKEN" in message and len(sent) == 1


def pushed(*arguments):
    """In a process of its own, because the hub's package reads its address when it is imported."""
    return main(["push", *arguments])


def loaded(place, codes):
    model = vq_jax.load(place)
    np.save(codes, model.encode(np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)))
    return main(["inspect", place])


def inspected(place):
    return main(["inspect", place])


@pytest.mark.ci
def test_a_model_goes_to_the_hub_over_http_and_comes_back(tmp_path):
    tokenizer = make_tokenizer()
    tokenizer.save(tmp_path / "model")
    with Hub() as hub:

        def ended(function, *arguments, token=TOKEN, home="home"):
            """Status, stdout and stderr of a process that has the stand-in for the hub."""
            surroundings = {
                **{"HF_ENDPOINT": hub.address, "HF_TOKEN": token, "HF_HOME": str(tmp_path / home)},
                **{"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_PROXY": "127.0.0.1"},
            }
            return finish([Forked(function, *arguments, **surroundings)])[0]

        model = str(tmp_path / "model")
        for name, token in (("owner/small", ""), ("owner/small", "hf_of_another"), ("else/small", TOKEN)):
            status, _, err = ended(pushed, model, name, token=token)
            assert status == 2 and f"does not take {name}, and no file was uploaded" in err, err
            assert err.partition("vq-jax: ")[2].count("\n") <= 3 and "Traceback" not in err
        assert not any(hub.commits.values()) and not hub.large
        status, out, err = ended(pushed, model, "owner/small")
        assert (status, out[: len(hub.address)]) == (0, hub.address), err
        (files,) = hub.commits["owner/small"]
        assert set(files) == {"config.json", "model.safetensors", "README.md"}
        assert files["model.safetensors"] == (tmp_path / "model" / "model.safetensors").read_bytes()
        status, out, err = ended(loaded, "hf://owner/small", str(tmp_path / "codes.npy"), home="other")
        assert status == 0 and out.startswith("small: vqvae-mlp, step 3"), err
        pictures = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)
        np.testing.assert_array_equal(np.load(tmp_path / "codes.npy"), tokenizer.encode(pictures))
        status, _, err = ended(inspected, "hf://owner/none", home="other")
        assert status == 2 and "the Hugging Face hub does not give owner/none as a model" in err, err
