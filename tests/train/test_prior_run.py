"""Runs of priors: what they write, that they resume to the bit, and their codes on disk or on the fly."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal

import numpy as np
import pytest
from cli_runs import trained_run
from etils import epath
from prior_runs import CLASSES, STEPS, labelled_file, prior_config, prior_run, tokenizer_run
from runs import rows_of

from vq_jax.configs import CodesConfig, MaskedOptions
from vq_jax.data.in_memory import MemorySource
from vq_jax.errors import UserError
from vq_jax.generate import adapt_options
from vq_jax.pretrained.load import load
from vq_jax.pretrained.record import keep_copy
from vq_jax.pretrained.tokenizer import Tokenizer
from vq_jax.runs import code_cache
from vq_jax.runs.checkpoint import Checkpointer
from vq_jax.runs.digest import leaf_names
from vq_jax.runs.rundir import read_config
from vq_jax.train import jit, train
from vq_jax.train.tasks.base import open_task
from vq_jax.types import CodeSpec


@pytest.fixture(scope="session")
def finished():
    return prior_run()


def state_of(workdir, config):
    """Every array of the newest checkpoint, by name."""
    target = open_task(config, workdir).abstract_state()
    with Checkpointer(workdir / "checkpoints", read_only=True) as checkpointer:
        restored = checkpointer.restore_latest(target)
    return restored.step, {name: np.asarray(leaf) for name, leaf in leaf_names(restored.state).items()}


def assert_same_run(workdir, other, config):
    assert rows_of(workdir) == rows_of(other)
    (step, state), (other_step, other_state) = (state_of(place, config) for place in (workdir, other))
    assert step == other_step and state.keys() == other_state.keys()
    for name in state:
        np.testing.assert_array_equal(state[name], other_state[name], err_msg=name)


def test_a_run_of_a_prior_writes_what_a_run_holds(finished):
    names = {path.name for path in finished.iterdir()}
    assert {"config.json", "metrics.jsonl", "checkpoints", "images", "report.md", "codes"} <= names
    report = (finished / "report.md").read_text()
    assert "classes 0, 1, 2, 3" in report and "images/final.png" in report
    rows = rows_of(finished)
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    last = rows[-1]
    assert last["validation/bits_per_code"] == pytest.approx(
        last["validation/cross_entropy"] / np.log(2.0), rel=1e-6
    )
    record = json.loads((finished / "tokenizer.json").read_text())
    assert record["specs"]["shape"] == [4, 4] and record["num_classes"] == CLASSES


@pytest.mark.ci  # test_kinds.py stops the run of maskgit at another step
@pytest.mark.parametrize("kind,stop_at", [("maskgit", 3), ("gpt", 2), ("pixelcnn", 2)])
def test_a_stopped_run_resumes_to_the_same_bits(kind, stop_at, tmp_path, monkeypatch):
    taken, make, finished = [], jit.jit_prior_step, prior_run(kind)

    def make_stopping(*arguments, **keywords):
        step = make(*arguments, **keywords)

        def take(*inputs):
            taken.append(1)
            if len(taken) == stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
            return step(*inputs)

        take.eval_shape = step.eval_shape
        return take

    monkeypatch.setattr(jit, "jit_prior_step", make_stopping)
    workdir, config = tmp_path / "run", prior_config(kind=kind)
    result = train(config, workdir)
    assert result.signal == signal.SIGTERM and result.step == stop_at
    monkeypatch.undo()
    assert train(config, workdir).step == STEPS
    assert_same_run(workdir, finished, config)


@pytest.mark.ci
def test_codes_made_on_the_fly_give_the_same_run_as_cached_ones(finished, tmp_path):
    config = prior_config(codes=CodesConfig(mode="fly", variants=2))
    train(config, tmp_path / "run")
    assert not (tmp_path / "run" / "codes").exists()
    assert_same_run(tmp_path / "run", finished, config)


@pytest.mark.ci
def test_an_autoregressive_prior_is_trained_in_parts_and_unconditionally(tmp_path):
    config = prior_config(kind="gpt", conditional=False, accumulate=2, steps=2)
    result = train(config, tmp_path / "run")
    assert 0.0 < result.figures["validation/bits_per_code"] < 6.0
    assert "New pictures:" in (tmp_path / "run" / "report.md").read_text()


def test_a_damaged_cache_is_made_again_and_said(finished, tmp_path, caplog):
    workdir = shutil.copytree(finished, tmp_path / "run")
    shard = workdir / "codes" / "codes-00000.npy"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with caplog.at_level("INFO", logger="vq_jax"):
        train(prior_config(steps=STEPS + 1), workdir)
    assert "damaged codes in codes-00000.npy: it is made again" in caplog.text
    assert shard.read_bytes() == whole


@pytest.mark.parametrize("fingerprint", [None, "of another tokenizer"])
def test_a_process_that_sees_another_cache_than_the_one_that_was_made_says_so(
    fingerprint, finished, tmp_path, monkeypatch
):
    if fingerprint is not None:
        shutil.copytree(finished / "codes", tmp_path / "codes")
        index = json.loads((tmp_path / "codes" / "codes.json").read_text())
        (tmp_path / "codes" / "codes.json").write_text(json.dumps({**index, "fingerprint": fingerprint}))
    monkeypatch.setattr(code_cache.distributed, "is_main", lambda: False)  # another process makes it
    source = MemorySource(np.zeros((4, 8, 8, 1), np.uint8))
    options = {"tokenizer": "this one", "specs": CodeSpec((1,), 16), "batch_size": 4}
    with pytest.raises(UserError, match="expected a directory of codes that all processes share"):
        code_cache.open_cache(tmp_path / "codes", source, lambda images: images, **options)


def open_small_cache(directory, encode=lambda images: images[:, 0, 0], tokenizer="this one", labels=True):
    pictures = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 1), np.uint8)
    source = MemorySource(pictures, np.arange(10) % 3 if labels else None, 3 if labels else None)
    options = {"specs": CodeSpec((1,), 16), "batch_size": 2, "shard_rows": 4}
    return code_cache.open_cache(directory, source, encode, tokenizer=tokenizer, **options)


def test_what_was_made_before_an_interruption_is_kept_if_it_is_of_the_same(tmp_path):
    encoded = []

    def encode(images):
        if len(encoded) == 3:
            raise KeyboardInterrupt
        encoded.append(images[:, 0, 0, 0].tolist())
        return images[:, 0, 0]

    for directory in (tmp_path / "kept", tmp_path / "other"):
        encoded.clear()
        with pytest.raises(KeyboardInterrupt):
            open_small_cache(directory, encode)
        assert sorted(path.name for path in directory.iterdir()) == [
            "codes-00000.json",
            "codes-00000.npy",
            "labels-00000.npy",
            "making.json",
        ]
    (tmp_path / "kept" / ".vq-jax-0.part").write_bytes(b"torn")
    (tmp_path / "whole").mkdir()
    for directory in tmp_path.iterdir():
        for name in ("mine.npy", "codes-of-mine.npy", "labels.npy"):
            (directory / name).write_bytes(b"of someone else")
    open_small_cache(tmp_path / "whole")
    for directory, tokenizer in ((tmp_path / "kept", "this one"), (tmp_path / "other", "another")):
        encoded[:] = [None] * 4  # past the interruption
        cache = open_small_cache(directory, encode, tokenizer)
        first = [] if tokenizer == "this one" else [[0, 1], [2, 3]]
        assert encoded[4:] == [*first, [4, 5], [6, 7], [8, 9]]
        assert cache.take(np.arange(10)).ravel().tolist() == list(range(10))
        assert cache.labels.tolist() == [number % 3 for number in range(10)]
        names = [path.name for path in (tmp_path / "whole").iterdir()]
        assert sorted(names) == sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("name", ["codes-00000.npy", "labels-00000.npy", "codes-00000.json"])
@pytest.mark.parametrize("content", [None, b"torn"])
def test_what_was_damaged_after_an_interruption_is_made_again(tmp_path, name, content):
    def encode(images):
        if images.min() > 3:
            raise KeyboardInterrupt
        return images[:, 0, 0]

    with pytest.raises(KeyboardInterrupt):
        open_small_cache(tmp_path, encode)
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_bytes(content)
    cache = open_small_cache(tmp_path)
    assert cache.take(np.arange(10)).ravel().tolist() == list(range(10))
    assert cache.labels.tolist() == [number % 3 for number in range(10)]


def test_a_picture_that_cannot_be_read_is_not_reported_as_a_cache_that_cannot_be_written(tmp_path):
    def encode(images):
        raise FileNotFoundError(2, "No such file or directory", "train.array_record")

    with pytest.raises(FileNotFoundError, match="array_record"):
        open_small_cache(tmp_path, encode)


def test_several_processes_make_the_shards_between_them(tmp_path):
    made_of = {"fingerprint": "f", "shard_rows": 4}
    source = MemorySource(np.arange(10, dtype=np.uint8)[:, None, None, None], None, None)
    make = code_cache._Maker(tmp_path, source, lambda images: images[:, 0, 0], made_of, CodeSpec((1,), 16), 4)
    lock = contextlib.ExitStack()
    assert make.begin(lock) and (tmp_path / ".lock").exists()
    parts = [make.shards(number, 2) for number in (1, 0)]
    assert [list(part) for part in parts] == [["codes-00001.npy"], ["codes-00000.npy", "codes-00002.npy"]]
    make.finish(parts[0] | parts[1])
    cache = code_cache._opened(tmp_path, "f", CodeSpec((1,), 16))
    assert cache.take(np.arange(10)[::-1]).ravel().tolist() == list(range(10))[::-1]
    assert cache.labels is None and not make.begin(lock)
    lock.close()


def test_a_picture_with_several_grids_has_a_file_for_each(tmp_path):
    specs = (CodeSpec((1,), 16), CodeSpec((2,), 2**17, 2))
    source = MemorySource(
        np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 1), np.uint8)
    )

    def encode(images):
        first = images[:, 0, 0].astype(np.int32)
        return first, np.stack([first, first + 2**16], axis=-1) * np.ones((1, 2, 1), np.int32)

    options = {"specs": specs, "batch_size": 4, "shard_rows": 6}
    cache = code_cache.open_cache(tmp_path, source, encode, tokenizer="t", **options)
    numbers = np.array([9, 0, 6])
    coarse, fine = cache.take(numbers)
    assert coarse[:, 0].tolist() == [9, 0, 6] and fine.shape == (3, 2, 2) and fine.dtype == np.int32
    assert fine[:, 1, 1].tolist() == [9 + 2**16, 2**16, 6 + 2**16] and len(cache) == 10
    kept = {name: np.load(tmp_path / f"codes-00001.{name}.npy") for name in (0, 1)}
    assert (kept[0].dtype, kept[1].dtype, len(kept[0])) == (np.uint16, np.int32, 4)
    index = json.loads((tmp_path / "codes.json").read_text())
    assert (index["kind"], index["version"]) == ("code-cache", 1)
    (tmp_path / "codes-00000.1.npy").write_bytes(b"torn")
    again = code_cache.open_cache(tmp_path, source, encode, tokenizer="t", **options)
    np.testing.assert_array_equal(again.take(numbers)[1], fine)


def test_a_cache_from_before_there_was_a_version_is_read(tmp_path):
    open_small_cache(tmp_path)
    index = json.loads((tmp_path / "codes.json").read_text())
    old = {name: value for name, value in index.items() if name not in ("kind", "version", "sha256")}
    (tmp_path / "codes.json").write_text(json.dumps(old))

    def encode(images):
        raise AssertionError("the cache is there")

    assert len(open_small_cache(tmp_path, encode)) == 10


@pytest.mark.parametrize("name, value", [("shard_rows", 0), ("shard_rows", 3), ("files", {}), ("sha256", "")])
def test_an_index_that_was_changed_is_made_again_and_said(name, value, tmp_path, caplog):
    open_small_cache(tmp_path)
    index = json.loads((tmp_path / "codes.json").read_text())
    (tmp_path / "codes.json").write_text(json.dumps({**index, name: value}))
    assert open_small_cache(tmp_path).take(np.arange(10)).ravel().tolist() == list(range(10))
    assert "codes.json that cannot be read: it is made again" in caplog.text


def test_a_cache_of_other_pictures_is_made_again_and_said(tmp_path, caplog):
    codes = CodesConfig(variants=2, directory=str(tmp_path / "codes"))

    def prepare(codes, name):
        """What a run does before its first step."""
        (tmp_path / name).mkdir()
        open_task(prior_config(codes=codes), tmp_path / name).prepare(epath.Path(tmp_path / name))

    prepare(codes, "one")
    more = dataclasses.replace(codes, variants=4)
    caplog.clear()
    with caplog.at_level("INFO", logger="vq_jax"):
        prepare(more, "two")
    assert "is of another tokenizer or of other pictures: it is made again" in caplog.text
    caplog.clear()
    with caplog.at_level("INFO", logger="vq_jax"):
        prepare(more, "three")
    assert "Extracting" not in caplog.text


def test_a_missing_and_a_changed_tokenizer_are_refused(finished, tmp_path):
    workdir = shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(workdir / "tokenizer")  # as in a run from before it kept a copy
    record = json.loads((workdir / "tokenizer.json").read_text())
    record |= {"path": str(tmp_path / "nowhere"), "relative": "../nowhere"}
    (workdir / "tokenizer.json").write_text(json.dumps(record))
    gone = dataclasses.replace(prior_config(), tokenizer=str(tmp_path / "gone"))
    with pytest.raises(UserError, match="tokenizer of the prior .* is missing: there is no run in .*gone or"):
        train(gone, workdir)
    (workdir / "tokenizer.json").write_text(json.dumps({**record, "fingerprint": "0" * 32}))
    with pytest.raises(UserError, match="is not the one that the model .* gives other codes"):
        train(prior_config(), workdir)


def test_a_prior_needs_its_tokenizers_run_no_longer(finished, tmp_path, caplog):
    workdir = shutil.copytree(finished, tmp_path / "run")
    for file in ("tokenizer.json", "config.json"):
        text = (workdir / file).read_text().replace(str(tokenizer_run()), str(tmp_path / "gone"))
        (workdir / file).write_text(text)
    known = load(finished).tokenizer.fingerprint
    assert load(workdir).tokenizer.fingerprint == known
    assert open_task(read_config(workdir), workdir).tokenizer.fingerprint == known
    (workdir / "tokenizer" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="is damaged"):
        load(workdir)
    assert load(workdir, tokenizer=tokenizer_run()).tokenizer.fingerprint == known
    with pytest.raises(UserError, match="gives other codes: say with --tokenizer where that one is"):
        load(workdir, tokenizer=trained_run())


def test_the_copy_of_the_tokenizer_is_made_where_it_is_missing(finished, tmp_path):
    keep_copy(epath.Path(tmp_path), load(tokenizer_run()))
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "tokenizer" / name).read_bytes() == (finished / "tokenizer" / name).read_bytes()
    before = (tmp_path / "tokenizer" / "config.json").stat().st_mtime_ns
    keep_copy(epath.Path(tmp_path), load(tokenizer_run()))
    assert (tmp_path / "tokenizer" / "config.json").stat().st_mtime_ns == before


def test_a_tokenizer_moved_with_its_prior_is_found(finished, tmp_path):
    import vq_jax

    moved = tmp_path / "elsewhere"
    prior = shutil.copytree(finished, moved / finished.name)
    shutil.rmtree(prior / "tokenizer")  # as in a run from before it kept a copy
    shutil.copytree(tokenizer_run(), moved / "tokenizer")
    for file in ("tokenizer.json", "config.json"):
        text = (prior / file).read_text().replace(str(finished.parent), str(tmp_path / "old"))
        (prior / file).write_text(text)
    assert vq_jax.load(prior).tokenizer.fingerprint == vq_jax.load(finished).tokenizer.fingerprint


def test_a_prior_is_trained_over_a_model_directory(tmp_path):
    import vq_jax

    tokenizer, place = vq_jax.load(tokenizer_run()), tmp_path / "model"
    tokenizer.save(place)
    task = open_task(prior_config(tokenizer=place), tmp_path / "run")
    assert (task.record.path, task.record.step) == (str(place), tokenizer.step)
    assert task.record.fingerprint == tokenizer.fingerprint
    assert task.data == open_task(prior_config(), tmp_path / "other").data


@pytest.mark.parametrize(
    "change, message",
    [
        ({"tokenizer": ""}, "give --tokenizer RUN"),
        ({"tokenizer": "nowhere"}, "nowhere is not a run directory"),
        ({"codes": "gs://bucket/codes"}, "cannot be kept in gs://bucket/codes"),
    ],
)
def test_a_mistake_is_reported_before_anything_is_written(change, message, tmp_path, monkeypatch):
    if "codes" in change:
        # With a package that reads gs://, or as with one.
        monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
        change = {"codes": CodesConfig(directory=change["codes"])}
        monkeypatch.undo()
    config = dataclasses.replace(prior_config(), **change)
    with pytest.raises(UserError, match=message):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_prior_is_not_a_tokenizer(finished, tmp_path):
    with pytest.raises(UserError, match="expected a tokenizer, .* holds a prior"):
        train(prior_config(tokenizer=finished), tmp_path / "run")


def test_codes_of_the_cache_are_those_of_the_tokenizer(finished):
    import vq_jax

    tokenizer = vq_jax.load(tokenizer_run())
    with np.load(labelled_file()) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    codes = np.load(finished / "codes" / "codes-00000.npy")
    kept = np.load(finished / "codes" / "labels-00000.npy")
    assert codes.dtype == np.uint16 and len(codes) == len(kept)
    count = len(codes) // 2  # the pictures, then their mirror images
    np.testing.assert_array_equal(kept[:count], kept[count:])
    expected = tokenizer.encode(images).reshape(len(images), -1)
    mirrored = tokenizer.encode(images[:, :, ::-1]).reshape(len(images), -1)
    rows = {
        tuple(row): (label, tuple(other))
        for row, label, other in zip(expected, labels, mirrored, strict=True)
    }
    for row, label, other in zip(codes[:count], kept, codes[count:], strict=False):
        assert tuple(row.ravel()) in rows
        if list(map(tuple, expected)).count(tuple(row.ravel())) == 1:
            assert rows[tuple(row.ravel())] == (label, tuple(other.ravel()))


@pytest.mark.parametrize("kind", ["maskgit", pytest.param("noise", marks=pytest.mark.ci)])
def test_a_prior_starts_from_the_weights_of_another(kind, tmp_path):
    start = prior_run(kind)
    task = open_task(prior_config(kind=kind, init=str(start)), tmp_path)
    state = task.init_state()
    found = leaf_names(task._eval_params(state))
    for name, wanted in leaf_names(load(start).variables["params"]).items():
        np.testing.assert_array_equal(found[name], wanted, err_msg=name)


def test_a_prior_does_not_start_from_one_over_other_codes(tmp_path, monkeypatch):
    monkeypatch.setattr(Tokenizer, "fingerprint", property(lambda tokenizer: str(id(tokenizer))))
    monkeypatch.setattr(Tokenizer, "has_fingerprint", lambda *_: True)
    with pytest.raises(UserError, match="models the codes of another tokenizer"):
        open_task(prior_config(init=str(prior_run())), tmp_path)


def test_a_prior_over_pictures_without_classes_draws_without_guidance_and_says_so_at_its_start(
    tmp_path, caplog
):
    config = prior_config(conditional=False)
    config = dataclasses.replace(config, sampling=MaskedOptions(guidance=3.0))
    task = open_task(config, tmp_path)
    assert "no classes: pictures are drawn with sampling.guidance 1" in caplog.text
    assert adapt_options(task.config.sampling, task.model).guidance == 1.0


def test_options_that_cannot_draw_are_refused_before_anything_is_written(tmp_path):
    plain = prior_config(prior={"class_dropout": 0.0})
    config = dataclasses.replace(plain, sampling=MaskedOptions(guidance=3.0))
    with pytest.raises(UserError, match="no pictures can be drawn.*trained without class dropout"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
