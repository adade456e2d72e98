"""The benchmark of the input pipeline: what it writes, takes and measures."""

import input_pipeline
import pytest
import turns
from PIL import Image

from vq_jax import data

pytestmark = pytest.mark.ci


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two sheets to train on."""
    folder = tmp_path_factory.mktemp("pictures")
    input_pipeline.write_pictures(folder, 2, 3, seed=1)
    return folder


def test_pictures_are_written_the_same_again(folder, tmp_path):
    files = sorted(path.relative_to(folder) for path in folder.rglob("*.jpg"))
    assert [str(path) for path in files] == [
        "test/0002.jpg",
        "test/0003.jpg",
        "train/0000.jpg",
        "train/0001.jpg",
    ]
    input_pipeline.write_pictures(tmp_path, 2, 3, seed=1)
    for path in files:
        assert (tmp_path / path).read_bytes() == (folder / path).read_bytes()
    with Image.open(folder / files[-1]) as picture:
        assert picture.size == (1500, 1125)


@pytest.mark.ci
def test_both_sides_take_batches_of_pictures(folder, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(input_pipeline, "BATCH", 2)
    monkeypatch.setattr(input_pipeline.folders, "_CACHE_BYTES", 0)  # set back afterwards
    streams = []
    original = data.train_batches
    monkeypatch.setattr(
        data, "train_batches", lambda *a, **o: streams.append(original(*a, **o)) or streams[-1]
    )
    for take in (
        input_pipeline.ours(0, True, folder, batches=1),
        input_pipeline.in_torch(0, folder, batches=1),
    ):
        take()
    (stream,) = streams
    stream.close()


def test_scaled_decoding_is_compared_with_whole_decoding(folder, monkeypatch):
    monkeypatch.setattr(input_pipeline, "BATCH", 2)
    monkeypatch.setattr(input_pipeline.folders, "_CACHE_BYTES", 0)
    figures = input_pipeline.psnr_of_scaled(folder, batches=3)
    assert 0 < figures["share_of_pictures"] < 1 and 35 < figures["psnr_lowest"] <= figures["psnr_median"]


def test_turns_settle_before_they_are_timed():
    class Pipe:
        def __init__(self):
            self.asked, self.sent = [True, True, False], []

        def recv(self):
            return self.asked.pop(0)

        def send(self, value):
            self.sent.append(value)

    calls = []
    pipe = Pipe()
    turns._serve(pipe, lambda name: lambda: calls.append(name), ("a",), settle=3)
    assert calls == ["a"] * (2 + 2 * (3 + 1)) and len(pipe.sent) == 3
