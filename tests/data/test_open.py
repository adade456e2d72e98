"""Opening a source by name, and the two sources that come with the package."""

import socket
import subprocess
import sys

import numpy as np
import pytest
from skimage import data as photographs

from vq_jax import data
from vq_jax.configs import DataConfig
from vq_jax.errors import UserError

CONFIG = DataConfig()


def names_of(source, names):
    """The photographs of skimage that a source holds, by comparison of pixels."""
    held = [source[index]["image"].tobytes() for index in range(len(source))]
    return {name for name in names if np.ascontiguousarray(getattr(photographs, name)()).tobytes() in held}


def test_an_unknown_kind_names_the_nearest_one():
    with pytest.raises(UserError, match=r"got 'photo'; did you mean photos\?"):
        data.open_source("photo", "train", CONFIG, 3)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("folder", "needs something after a colon"),
        ("arrays:", "needs something after a colon"),
        ("tfds", "needs something after a colon"),
        ("photos:cats", "takes nothing after its name"),
        ("fashion:shoes", "takes nothing after its name"),
    ],
)
def test_a_source_with_too_much_or_too_little_after_its_name_is_an_error(spec, message):
    with pytest.raises(UserError, match=message):
        data.open_source(spec, "train", CONFIG, 3)


@pytest.mark.parametrize("spec", ["photos", "folder:somewhere"])
def test_pictures_that_are_converted_have_one_or_three_channels(spec):
    with pytest.raises(UserError, match=r"1 \(grey\) or 3 \(colour\).*got 4"):
        data.open_source(spec, "train", CONFIG, 4)


def test_the_cat_and_the_coffee_are_tested_on_and_never_trained_on():
    train = data.open_source("photos", "train", CONFIG, 3)
    test = data.open_source("photos", "test", CONFIG, 3)
    assert len(train) == 10 and len(test) == 2
    assert names_of(train, ["astronaut", "rocket", "retina", "chelsea", "coffee"]) == {
        "astronaut",
        "rocket",
        "retina",
    }
    assert names_of(test, ["astronaut", "chelsea", "coffee"]) == {"chelsea", "coffee"}
    assert train.fingerprint != test.fingerprint


def test_photographs_open_without_a_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert len(data.open_source("photos", "train", CONFIG, 3)) == 10


@pytest.mark.parametrize("channels", [1, 3])
def test_every_photograph_has_the_wanted_channels(channels):
    source = data.open_source("photos", "train", CONFIG, channels)
    assert source.channels == channels and source.num_classes is None
    for index in range(len(source)):
        record = source[index]
        assert record["image"].dtype == np.uint8 and record["image"].shape[2] == channels
        assert record["broken"] == 0 and record["broken"].dtype == np.int32
        assert "label" not in record


def test_fashion_is_split_evenly_over_its_classes_without_overlap():
    train = data.open_source("fashion", "train", CONFIG, 1)
    test = data.open_source("fashion", "test", CONFIG, 1)
    assert len(train) == 8000 and len(test) == 2000 and train.num_classes == 10
    for source, count in ((train, 800), (test, 200)):
        labels = [int(source[index]["label"]) for index in range(len(source))]
        assert np.bincount(labels).tolist() == [count] * 10
    assert train[0]["image"].shape == (28, 28, 1) and train[0]["image"].dtype == np.uint8
    assert train[0]["label"].dtype == np.int32
    pictures = {train[index]["image"].tobytes() for index in range(8000)}
    repeated = sum(test[index]["image"].tobytes() in pictures for index in range(2000))
    assert repeated == 0


def test_fashion_in_colour_is_an_error_that_names_the_field():
    message = r"with 3 channels \(model.image_channels\), fashion has 1; set --model.image-channels 1"
    with pytest.raises(UserError, match=message):
        data.open_source("fashion", "train", CONFIG, 3)


def test_a_fingerprint_is_the_same_each_time_and_another_for_other_records():
    prints = [
        data.open_source("fashion", "train", CONFIG, 1).fingerprint,
        data.open_source("fashion", "test", CONFIG, 1).fingerprint,
        data.open_source("photos", "test", CONFIG, 3).fingerprint,
        data.open_source("photos", "test", CONFIG, 1).fingerprint,
    ]
    assert len(set(prints)) == 4
    assert data.open_source("fashion", "train", CONFIG, 1).fingerprint == prints[0]


def test_sources_are_sequences():
    source = data.open_source("photos", "test", CONFIG, 3)
    assert isinstance(source, data.Source)
    assert len([record for record in source]) == 2
    assert source[-1]["image"].shape == source[1]["image"].shape


def test_importing_data_pulls_in_no_reader_and_names_are_listed():
    heavy = ["grain", "tensorflow_datasets", "skimage", "PIL", "jax"]
    code = (
        "import sys, vq_jax.data as data; from vq_jax.data import open_source; "
        f"print([name for name in {heavy} if name in sys.modules]); "
        "assert all(getattr(data, name) for name in dir(data))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        data.nothing  # noqa: B018
