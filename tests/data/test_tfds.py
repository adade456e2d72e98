"""tensorflow-datasets: read without TensorFlow, from small sets that are written here."""

import importlib.util
import pathlib
import sys
import types

import cloudpickle
import numpy as np
import pytest
from tiny_sets import TinyTested, prepare

from vq_jax import data
from vq_jax.configs import DataConfig
from vq_jax.errors import UserError


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = str(tmp_path_factory.mktemp("tfds"))
    kinds = ("alone", "tested", "validated", "unlabelled", "words", "numbers", "videos")
    prepare(directory, *(f"tiny_{kind}" for kind in kinds))
    return directory


def open_set(spec, directory, split="train", channels=3):
    config = DataConfig(data_dir=directory, test_fraction=0.25)
    return data.open_source(f"tfds:{spec}", split, config, channels)


def values(source):
    return sorted(int(record["image"].flat[0]) for record in source)


def test_records_are_pictures_with_labels_and_tensorflow_stays_out(directory):
    source = open_set("tiny_tested", directory)
    record = source[0]
    assert record["image"].shape == (8, 9, 3) and record["image"].dtype == np.uint8
    assert record["label"].dtype == np.int32 and record["broken"] == 0
    assert all(found["label"] == found["image"].flat[0] % 4 for found in source)
    assert source.num_classes == 4 and source.channels == 3
    assert "tensorflow" not in sys.modules


def test_the_set_s_own_test_split_is_held_out_or_else_its_validation(directory):
    assert len(open_set("tiny_tested", directory)) == 6
    assert len(open_set("tiny_tested", directory, "test")) == 3
    assert len(open_set("tiny_validated", directory, "test")) == 4


def test_a_test_split_without_labels_is_not_the_one_held_out(directory):
    test = open_set("tiny_unlabelled", directory, "test")
    assert len(test) == 4 and all(record["label"] >= 0 for record in test)
    assert len(open_set("tiny_unlabelled", directory)) == 6
    assert len(open_set("tiny_unlabelled:test", directory)) == 2


def test_a_set_whose_labels_are_words_has_none(directory):
    source = open_set("tiny_words", directory, "test")
    assert len(source) == 3 and source.num_classes is None and "label" not in source[0]


@pytest.mark.parametrize("spec", ["tiny_alone", "tiny_alone:train"])
def test_a_single_split_is_cut_in_two(directory, spec):
    train, test = open_set(spec, directory), open_set(spec, directory, "test")
    assert len(train) == 15 and len(test) == 5
    assert sorted(values(train) + values(test)) == list(range(20))
    assert train.fingerprint != test.fingerprint
    assert train.fingerprint == open_set(spec, directory).fingerprint


def test_a_named_split_may_be_a_slice(directory):
    assert len(open_set("tiny_alone:train[:40%]", directory)) == 6
    assert len(open_set("tiny_alone:train[:40%]", directory, "test")) == 2
    assert len(open_set("tiny_tested:test", directory)) == 2


def test_an_unknown_split_names_the_nearest(directory):
    with pytest.raises(UserError, match=r"\(train, validation\S*.*got 'validaton'; did you mean valid"):
        open_set("tiny_validated:validaton", directory)


def test_an_unknown_set_names_the_nearest():
    with pytest.raises(UserError, match="got 'cifar1'; did you mean cifar1"):
        open_set("cifar1", None)
    with pytest.raises(UserError, match="did you mean .*mnist"):
        data.prepare("mnits")


@pytest.mark.parametrize(
    "name, words",
    [
        ("imagenet2012/", "Parsing builder name string imagenet2012/ failed; expected NAME or NAME/CONFIG"),
        ("../x", "failed"),
        ("mnist/plain/more", "failed"),
        ("mnist/version=1", "Can only convert strings to versions"),
        ("mnist/a=b", "unexpected keyword argument 'a'"),
        ("voc/1999", "BuilderConfig 1999 not found"),
        ("coco/2014", "needs what is not installed: import of tensorflow"),
    ],
)
def test_a_name_that_tfds_refuses_is_one_line(tmp_path, monkeypatch, capsys, name, words):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(UserError) as caught:
        data.open_source(f"tfds:{name}", "train", DataConfig(data_dir=str(tmp_path)), 1)
    message = str(caught.value)
    assert words in message and "\n" not in message and len(message) < 600
    assert capsys.readouterr().out == ""


def test_an_error_about_a_set_that_is_not_prepared_has_the_two_commands(tmp_path):
    message = rf'not prepared.*pip install "vq-jax\[tfds\]".*vq-jax prepare cifar10 --data-dir {tmp_path}'
    with pytest.raises(UserError, match=message):
        open_set("cifar10", str(tmp_path))


def test_wrong_channels_and_sets_without_pictures_are_errors(directory):
    with pytest.raises(UserError, match="1 channels .*tiny_alone has 3; set --model.image-channels 3"):
        open_set("tiny_alone", directory, channels=1)
    with pytest.raises(UserError, match="feature named image, or of videos .*, tiny_numbers has value"):
        open_set("tiny_numbers", directory)


def test_videos_give_clips_that_begin_from_their_first_frame_to_the_last_possible_one(directory):
    def opened(split, frames, stride=1):
        config = DataConfig(data_dir=directory, frames=frames, frame_stride=stride)
        return data.open_source("tfds:tiny_videos", split, config, 3)

    train = opened("train", 3, stride=2)
    assert len(train) == 160 and train.num_classes == 4 and train.frames == 3
    starts: dict[int, set[int]] = {}
    for record in train:
        clip = record["image"]
        assert clip.shape == (3, 8, 9, 3) and clip.dtype == np.uint8
        first = int(clip[0, 0, 0, 0])
        assert [int(frame[0, 0, 0]) for frame in clip] == [first, first + 2, first + 4]
        video = first // 10
        assert record["label"] == video % 4
        starts.setdefault(video, set()).add(first - 10 * video)
    # 3 and 4 frames are too few for a clip; of n frames, clips begin at 0 to n - 5
    assert starts == {video: set(range(video - 1)) for video in range(2, 10)}
    replaced = [record for record in train if record["broken"]]
    assert len(replaced) == 32
    assert [len(opened(split, 4)) for split in ("train", "test")] == [160, 4]
    with pytest.raises(UserError, match="expected videos of at least 13 frames .* all 10 are shorter"):
        opened("train", 13)[0]
    with pytest.raises(UserError, match="expected videos for data.frames = 3, .* holds pictures"):
        data.open_source("tfds:tiny_tested", "train", DataConfig(data_dir=directory, frames=3), 3)


def test_a_set_that_needs_tensorflow_says_so(tmp_path):
    if importlib.util.find_spec("tensorflow"):
        pytest.skip("TensorFlow is installed")
    with pytest.raises(UserError, match=r"got 'ucf101'.* only with TensorFlow: pip install vq-jax\[tfds\]"):
        open_set("ucf101", str(tmp_path))


def test_a_source_reaches_worker_processes(directory):
    source = cloudpickle.loads(cloudpickle.dumps(open_set("tiny_alone", directory)))
    assert len(source) == 15 and values(source) == values(open_set("tiny_alone", directory))


def test_preparing_without_tensorflow_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(UserError, match=r'pip install "vq-jax\[tfds\]"'):
        data.prepare("tiny_tested", str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_preparing_writes_array_records_once_and_hides_gpus_from_tensorflow(monkeypatch, tmp_path):
    hidden = []
    config = types.SimpleNamespace(set_visible_devices=lambda *devices: hidden.append(devices))
    monkeypatch.setitem(sys.modules, "tensorflow", types.SimpleNamespace(config=config))
    prepared = data.prepare("tiny_tested", str(tmp_path))
    assert prepared == data.prepare("tiny_tested", str(tmp_path))
    assert hidden == [([], "GPU")] * 2
    assert list(pathlib.Path(prepared).glob("*.array_record*"))
    assert len(open_set("tiny_tested", str(tmp_path))) == 6


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionError("no network"), "could not be downloaded: no network"),
        (AssertionError("Manual directory D is empty."), "cannot be prepared: Manual directory D is empty"),
    ],
)
def test_a_failed_download_and_missing_archives_are_errors(monkeypatch, tmp_path, error, words):
    def fail(self, **kwargs):
        raise error

    config = types.SimpleNamespace(set_visible_devices=lambda *devices: None)
    monkeypatch.setitem(sys.modules, "tensorflow", types.SimpleNamespace(config=config))
    monkeypatch.setattr(TinyTested, "download_and_prepare", fail)
    with pytest.raises(UserError, match=words):
        data.prepare("tiny_tested", str(tmp_path))
