"""Opening a source by name, what is true of every source, and the two sources that come with the package."""

import re
import socket
import subprocess
import sys

import cloudpickle
import numpy as np
import pytest
from PIL import Image
from skimage import data as photographs
from tiny_sets import prepare

from vq_jax import data
from vq_jax.configs import DataConfig
from vq_jax.data.crops import Window, cut
from vq_jax.data.in_memory import MemorySource
from vq_jax.data.source import take_crop
from vq_jax.errors import UserError

CONFIG = DataConfig()


def _pictures(count, height, width, channels):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, height, width, channels), dtype=np.uint8)


def _fill_folder(place):
    for number, picture in enumerate(_pictures(12, 10, 14, 3)):
        path = place / "pictures" / ("cats", "dogs")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    return f"folder:{place / 'pictures'}"


def _write_arrays(place):
    np.savez(place / "set.npz", images=_pictures(12, 10, 14, 4), labels=np.arange(12) % 3)
    return f"arrays:{place / 'set.npz'}"


def _prepare_tfds(place):
    prepare(str(place), "tiny_alone")
    return "tfds:tiny_alone"


def _fill_frames(place):
    for number, picture in enumerate(_pictures(12, 10, 14, 3)):
        path = place / "frames" / "abc"[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    return f"frames:{place / 'frames'}"


def _write_videos(place):
    pytest.importorskip("av")
    from made_videos import write

    (place / "videos").mkdir()
    for number, frames in enumerate(np.split(_pictures(12, 16, 24, 3), 3)):
        write(place / "videos" / f"{number}.mp4", frames)
    return f"video:{place / 'videos'}"


# Of every scheme: what makes a small data set in a directory and returns its name, and its channels.
ROWS = {
    "photos": (lambda place: "photos", 3),
    "fashion": (lambda place: "fashion", 1),
    "folder": (_fill_folder, 3),
    "arrays": (_write_arrays, 4),
    "tfds": (_prepare_tfds, 3),
    "frames": (_fill_frames, 3),
    "video": (_write_videos, 3),
    "moving-fashion": (lambda place: "moving-fashion:9", 1),
}


@pytest.fixture(scope="module", params=data.SCHEMES)
def opened(request, tmp_path_factory):
    """Both splits of a source of every registered scheme, and a function that opens it again."""
    assert request.param in ROWS, f"add a row for {request.param} to ROWS: how it is opened in tests"
    make, channels = ROWS[request.param]
    place = tmp_path_factory.mktemp("source")
    spec, config = make(place), DataConfig(image_size=8, data_dir=str(place), test_fraction=0.3)

    def reopen(split, channels=channels):
        return data.open_source(spec, split, config, channels)

    return {split: reopen(split) for split in ("train", "test")}, reopen, channels, config


def assert_same_record(one, other):
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[key], other[key]) for key in one)


def test_every_source_gives_records_of_the_same_form(opened):
    sources, _, channels, _ = opened
    for source in sources.values():
        assert isinstance(source, data.Source) and len(source) >= 1 and source.channels == channels
        labels = {"label"} if source.num_classes is not None else set()
        for index in {0, len(source) // 2, len(source) - 1}:
            record = source[index]
            assert record.keys() == {"image", "broken", *labels}
            assert (
                record["image"].dtype == np.uint8
                and record["image"].ndim == 3
                and record["image"].shape[2] == channels
            )
            assert record["broken"] == 0 and record["broken"].dtype == np.int32
            if labels:
                assert record["label"].dtype == np.int32 and 0 <= record["label"] < source.num_classes


def test_the_records_of_every_source_are_the_same_whenever_they_are_read(opened):
    sources, reopen, _, _ = opened
    for split, source in sources.items():
        again = reopen(split)
        assert len(again) == len(source)
        for index in (len(source) - 1, 0):
            assert_same_record(source[index], again[index])
            assert_same_record(source[index], source[index])


def test_the_splits_of_every_source_are_disjoint(opened):
    train, test = (
        {source[index]["image"].tobytes() for index in range(len(source))} for source in opened[0].values()
    )
    assert train and test and not train & test


def test_every_source_has_a_fingerprint_of_its_records(opened):
    sources, reopen, _, _ = opened
    assert sources["train"].fingerprint != sources["test"].fingerprint
    for split, source in sources.items():
        assert source.fingerprint and reopen(split).fingerprint == source.fingerprint


def test_every_source_ends_with_an_index_error(opened):
    for source in opened[0].values():
        with pytest.raises(IndexError):
            source[len(source)]


def test_every_source_refuses_channels_that_it_cannot_give(opened):
    for split in opened[0]:
        with pytest.raises(UserError, match=r"model\.image_channels"):
            opened[1](split, channels=2)


def test_every_source_reaches_worker_processes(opened):
    source = opened[0]["test"]
    copy = cloudpickle.loads(cloudpickle.dumps(source))
    assert len(copy) == len(source) and copy.fingerprint == source.fingerprint
    assert_same_record(copy[0], source[0])


def test_a_source_that_crops_by_itself_crops_its_own_pictures(opened):
    source = opened[0]["train"]
    sizes = []
    record = take_crop(source, 1, lambda *size: sizes.append(size) or Window(1, 2, 6, 6, True), (4, 4), False)
    whole = source[1]
    assert sizes == [whole["image"].shape[:2]]
    assert_same_record(record, {**whole, "image": cut(whole["image"], Window(1, 2, 6, 6, True), (4, 4))})


def test_batches_are_made_of_every_source(opened):
    sources, _, channels, config = opened
    keys = {"image", "broken"} | ({"label"} if sources["train"].num_classes is not None else set())
    with data.train_batches(sources["train"], config, seed=0) as batches:
        batch = next(batches)
    assert batch.keys() == keys and batch["image"].shape == (config.batch_size, 8, 8, channels)
    (held_out, *_) = data.test_batches(sources["test"], config, batch_size=2, limit=2)
    assert held_out.keys() == keys | {"valid"} and held_out["image"].shape == (2, 8, 8, channels)


def names_of(source, names):
    """The photographs of skimage that a source holds, by comparison of pixels."""
    held = [source[index]["image"].tobytes() for index in range(len(source))]
    return {name for name in names if np.ascontiguousarray(getattr(photographs, name)()).tobytes() in held}


def test_an_unknown_kind_names_the_nearest_one():
    with pytest.raises(UserError, match=r"got 'photo'; did you mean photos\?"):
        data.open_source("photo", "train", CONFIG, 3)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.ci] * (name == "video")) for name in data.SCHEMES]
)
def test_a_source_with_too_much_or_too_little_after_its_name_is_an_error(name):
    scheme = data.SCHEMES[name]
    if scheme.optional:
        assert data.open_source(name, "test", CONFIG, 1).channels == 1
        return
    if scheme.argument:
        specs, message = (name, f"{name}:"), "needs something after a colon"
    else:
        specs, message = (f"{name}:cats",), "takes nothing after its name"
    for spec in specs:
        with pytest.raises(UserError, match=f"source {name} {message}: expected photos, .*got '{spec}'"):
            data.open_source(spec, "train", CONFIG, 3)


def test_the_sources_are_listed_with_what_is_written_after_the_colon():
    kinds = "photos, fashion, folder:PATH, arrays:FILE.npz, tfds:NAME[:SPLIT], frames:PATH, video:PATH or "
    message = re.escape(f"({kinds}moving-fashion[:CLIPS]), got 'cats'")
    with pytest.raises(UserError, match=message):
        data.open_source("cats", "train", CONFIG, 3)


def test_a_new_source_is_one_entry_of_the_registry(monkeypatch):
    monkeypatch.setitem(data.SCHEMES, "negatives", data.Scheme(__name__, "open_negatives", "NAME"))
    source = data.open_source("negatives:fashion", "test", CONFIG, 1)
    assert np.array_equal(source[3]["image"], 255 - open_negatives.original[3]["image"])


def open_negatives(argument, split, config, channels):
    open_negatives.original = data.open_source(argument, split, config, channels)
    return MemorySource([255 - record["image"] for record in open_negatives.original])


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
def test_every_photograph_has_the_channels_asked_for(channels):
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
