"""Names of the Hugging Face hub, by a package that is put in the place of its own."""

import sys
import types

import pytest
from made import make_tokenizer

import vq_jax
from vq_jax.errors import UserError


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """What was asked for, and a hub of one model, owner/small."""
    asked = []
    make_tokenizer().save(tmp_path / "snapshot")

    def snapshot_download(repo_id, allow_patterns):
        asked.append((repo_id, allow_patterns))
        if repo_id != "owner/small":
            raise OSError("404 Client Error.\nRepository Not Found")
        return str(tmp_path / "snapshot")

    module = types.ModuleType("huggingface_hub")
    module.snapshot_download = snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.chdir(tmp_path)
    return asked


def test_a_name_is_downloaded_and_loaded(hub):
    assert vq_jax.load("owner/small").fingerprint == make_tokenizer().fingerprint
    assert {name for name, _ in hub} == {"owner/small"}
    assert "model.safetensors" in hub[0][1] and "*" not in hub[0][1]


def test_a_path_that_exists_goes_before(hub, tmp_path):
    make_tokenizer(seed=1).save(tmp_path / "owner" / "small")
    assert vq_jax.load("owner/small").fingerprint == make_tokenizer(seed=1).fingerprint
    assert not hub


def test_a_name_that_the_hub_does_not_know_is_one_message(hub):
    with pytest.raises(UserError, match="no directory owner/other, and the .* OSError: 404 Client Error.$"):
        vq_jax.load("owner/other")


@pytest.mark.parametrize("place", ["nowhere", "./owner/small", "a/b/c", "/owner/small"])
def test_other_places_are_paths(hub, place):
    with pytest.raises(UserError, match="is not a run directory"):
        vq_jax.load(place)
    assert not hub


def test_without_the_package_the_message_says_what_to_install(hub, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r'no directory owner/small.*pip install "vq-jax\[hub\]"'):
        vq_jax.load("owner/small")
