"""Examples: one builder for training batches, held-out sets and cached variants."""

import functools
import hashlib

import numpy as np
import pytest

from vq_jax import data
from vq_jax.configs import DataConfig
from vq_jax.data import held_out, pipeline, variants
from vq_jax.data.crops import Window
from vq_jax.data.examples import ExampleBuilder, RecordRng, stack
from vq_jax.data.in_memory import MemorySource
from vq_jax.data.source import crop_record, take_crop

CONFIG = DataConfig(batch_size=4, image_size=16)
MIDDLE = np.array([0.5, 0.5, 0.5, 0.5])


def noise(count=7, height=40, width=50):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    return MemorySource(images, np.arange(count) % 3, 3)


def make(config=CONFIG, window=MIDDLE, seed=(0,), source=None):
    record = functools.partial(take_crop, noise() if source is None else source, 2)
    return ExampleBuilder(config)(record, RecordRng(window, seed))


def take(source, config, count, **options):
    with data.train_batches(source, config, seed=0, **options) as batches:
        return [next(batches) for _ in range(count)]


def test_an_example_has_the_keys_that_apply():
    example = make()
    assert example.keys() == {"image", "broken", "label"}
    assert example["image"].shape == (16, 16, 3) and example["image"].dtype == np.uint8
    assert example["label"] == 2 and example["broken"] == 0
    assert example["label"].dtype == example["broken"].dtype == np.int32
    unlabelled = MemorySource(np.zeros((3, 16, 16, 1), np.uint8))
    assert make(source=unlabelled).keys() == {"image", "broken"}


def test_four_numbers_decide_the_part_and_a_part_decides_itself():
    picture = noise()[2]["image"]
    assert np.array_equal(make()["image"], picture[12:28, 17:33])
    mirrored = make(window=np.array([0.5, 0.0, 0.0, 0.49]))
    assert np.array_equal(mirrored["image"], picture[:16, 15::-1])
    unmirrored = make(DataConfig(image_size=16, flip=False), np.array([0.5, 0.0, 0.0, 0.49]))
    assert np.array_equal(unmirrored["image"], picture[:16, :16])
    assert np.array_equal(make(window=Window(3, 5, 16, 16))["image"], picture[3:19, 5:21])


def test_a_record_that_was_read_gives_the_example_of_the_source():
    read = ExampleBuilder(CONFIG)(functools.partial(crop_record, noise()[2]), RecordRng(MIDDLE, (0,)))
    unread = make()
    assert read.keys() == unread.keys() and all(np.array_equal(read[key], unread[key]) for key in read)


def test_the_generator_of_a_record_starts_at_its_seed_or_continues_the_one_given():
    rng = RecordRng(MIDDLE, (1, 2))
    assert rng.generator().random() == rng.generator().random() == np.random.default_rng((1, 2)).random()
    generator = np.random.default_rng(0)
    assert RecordRng(MIDDLE, generator).generator() is generator


class Noisy(ExampleBuilder):
    """What hangs on the builder: a target that takes random numbers of its record."""

    def __call__(self, record, rng):
        example = super().__call__(record, rng)
        return {**example, "target": rng.generator().integers(0, 256, 5, dtype=np.uint8)}


@pytest.fixture
def noisy(monkeypatch):
    for module in (pipeline, held_out, variants):
        monkeypatch.setattr(module, "ExampleBuilder", Noisy)


def test_what_hangs_on_the_builder_reaches_training_batches_whoever_makes_them(noisy):
    whole = take(noise(), CONFIG, 3)
    targets = np.concatenate([batch["target"] for batch in whole])
    assert targets.shape == (12, 5) and len(np.unique(targets, axis=0)) == 12
    for index in range(2):
        part = take(noise(), CONFIG, 2, start_batch=1, process_index=index, process_count=2)
        for batch, expected in zip(part, whole[1:], strict=True):
            assert np.array_equal(batch["target"], expected["target"][2 * index : 2 * index + 2])


def test_what_hangs_on_the_builder_reaches_held_out_sets_and_variants(noisy):
    (batch, *_), (again, *_) = (data.test_batches(noise(), CONFIG, batch_size=8, limit=14) for _ in range(2))
    assert batch["target"].shape == (8, 5) and len(np.unique(batch["target"], axis=0)) == 8
    assert np.array_equal(batch["target"], again["target"])
    crops = data.Variants(noise(), CONFIG, 2)
    targets = [crops[index]["target"] for index in range(14)]
    assert len(np.unique(targets, axis=0)) == 14 - 7  # a crop and its mirror image have one generator
    assert all(np.array_equal(crops[index]["target"], targets[index]) for index in (13, 0))


def test_stacking_repeats_the_last_example_and_notices_a_missing_key():
    examples = [
        {"image": np.full((2, 3, 1), number, np.uint8), "label": np.int32(number)} for number in (4, 7)
    ]
    batch = stack(iter(examples), 3)
    assert batch["image"].shape == (3, 2, 3, 1) and batch["image"].dtype == np.uint8
    assert batch["label"].tolist() == [4, 7, 7] and batch["label"].dtype == np.int32
    assert batch["image"][:, 1, 2, 0].tolist() == [4, 7, 7]
    plain = stack([{"image": examples[0]["image"], "label": 3}], 1)  # a source may give Python's own numbers
    assert plain["label"].tolist() == [3] and plain["label"].dtype == np.int32
    with pytest.raises(KeyError, match="label"):
        stack([examples[0], {"image": examples[1]["image"]}], 2)


def digest(batches):
    found = hashlib.blake2b(digest_size=8)
    for batch in batches:
        for key in sorted(batch):
            found.update(f"{key}{batch[key].shape}{batch[key].dtype}".encode() + batch[key].tobytes())
    return found.hexdigest()


GOLDEN = {"training": "053ba3fd8fa65d94", "held-out": "6efe2554911727f7", "variants": "e25327920c9fb729"}


@pytest.mark.parametrize("kind", GOLDEN)
def test_examples_stay_the_same_from_version_to_version(kind):
    """Runs resume, and caches of codes are read, across versions: the same seed gives the same crops."""
    config = DataConfig(batch_size=4, image_size=16, crops_per_picture=2)
    if kind == "training":
        examples = take(noise(), config, 3, start_batch=2)
    elif kind == "held-out":
        examples = list(data.test_batches(noise(), config, batch_size=4, limit=20))
    else:
        crops = data.Variants(noise(), config, 2)
        examples = [crops[index] for index in range(0, len(crops), 3)]
    assert digest(examples) == GOLDEN[kind]
