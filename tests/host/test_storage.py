"""Paths on gs://: what they need is said before anything is read or written."""

import importlib.util

import pytest

from vq_jax import data, load
from vq_jax.configs import DataConfig
from vq_jax.configs.presets import load_preset
from vq_jax.errors import UserError
from vq_jax.host.storage import require_storage
from vq_jax.train import train

WORDS = r'gs://bucket/place needs a package for Google Cloud Storage: pip install "vq-jax\[gcs\]"'


@pytest.fixture
def installed(monkeypatch):
    """Names of the packages that are said to be there, of those that read from gs://."""
    names, find = set(), importlib.util.find_spec

    def found(name, *rest):
        if name in ("gcsfs", "tensorflow"):
            return object() if name in names else None
        return find(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", found)
    return names


@pytest.mark.parametrize(
    "use",
    [
        lambda: train(load_preset("vqvae-fashion-mlp"), "gs://bucket/place"),
        lambda: train(load_preset("prior-fashion"), "gs://bucket/place"),
        lambda: load("gs://bucket/place"),
        lambda: data.open_source("tfds:mnist", "train", DataConfig(data_dir="gs://bucket/place"), 1),
    ],
)
def test_a_missing_package_is_named(installed, use):
    with pytest.raises(UserError, match=WORDS):
        use()


@pytest.mark.parametrize("name", ["gcsfs", "tensorflow"])
def test_either_package_will_do_and_other_places_need_none(installed, name):
    require_storage("runs/gs://")
    installed.add(name)
    require_storage("gs://bucket/place")
