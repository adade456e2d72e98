"""Checkpoints: what is saved comes back to the bit, and what is damaged is never taken for it."""

import errno
import json
import os
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from processes import Forked, finish

from vq_jax.errors import UserError
from vq_jax.runs import checkpoint, checkpoint_record, orbax_managers
from vq_jax.runs.checkpoint import Checkpointer, CheckpointError
from vq_jax.runs.digest import leaf_names


def make_state(seed=0, width=64):
    key = jax.random.key(seed)
    params = {
        "kernel": jax.random.normal(key, (16, width)),
        "bias": jax.random.normal(key, (width,)).astype(jnp.bfloat16),
    }
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
    return {
        "step": jnp.int32(seed),
        "params": params,
        "opt_state": optimizer.init(params),
        "rng": jax.random.fold_in(key, 1),
        "ema": None,
        "used": jnp.arange(width) % 2 == 0,
    }


def abstract(state):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def bits(tree):
    """Structure, dtypes and bytes: equal only to the bit."""
    raw = {}
    for name, leaf in leaf_names(tree).items():
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        host = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
        raw[name] = (str(leaf.dtype), host.shape, host.tobytes())
    return jax.tree.structure(tree), raw


def save_steps(directory, steps, losses=None, **kwargs):
    with Checkpointer(directory, **kwargs) as checkpointer:
        for step in steps:
            loss = (losses or {}).get(step)
            checkpointer.save(step, make_state(step), {"batches": step}, loss)


def data_files(step_directory):
    files = [path for path in step_directory.rglob("*") if path.is_file()]
    return sorted(files, key=lambda path: (path.stat().st_size, str(path)))


def flip(path, position, bit=0):
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(bytes(content))


@pytest.fixture
def at_point(monkeypatch):
    """Puts a function in the place of the one named point of a save."""

    def install(name, action):
        monkeypatch.setattr(orbax_managers, "at_point", lambda at: action() if at == name else None)

    return install


def fill_disk():
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_state_comes_back_to_the_bit(tmp_path):
    state = make_state(3)
    meta = {"fingerprint": "abc", "batches": 640, "best": 0.1 + 0.2, "fields": [1, None, {"a": 2}]}
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(5, state, meta, 0.25)
        restored = checkpointer.restore_latest(abstract(state))
    assert (restored.step, restored.meta) == (5, meta)
    assert bits(restored.state) == bits(state)
    assert jax.random.normal(restored.state["rng"]) == jax.random.normal(state["rng"])


def test_a_state_is_saved_while_an_error_is_handled(tmp_path):
    state = make_state()
    with Checkpointer(tmp_path) as checkpointer:
        try:
            raise RuntimeError
        except RuntimeError:
            checkpointer.save(1, state, {}, None)
            checkpointer.wait()
        assert bits(checkpointer.restore(1, abstract(state)).state) == bits(state)


def test_a_state_with_not_a_number_and_subnormals_comes_back_to_the_bit(tmp_path):
    words = np.array([0x7FC00001, 0xFFC12345, 0x00000001, 0x80000000, 0x7F800000], np.uint32)
    state = {"x": jax.lax.bitcast_convert_type(jnp.asarray(words), jnp.float32)}
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, state, {}, None)
        assert bits(checkpointer.restore(1, abstract(state)).state) == bits(state)


def test_an_empty_or_missing_directory_restores_nothing(tmp_path):
    with Checkpointer(tmp_path / "new") as checkpointer:
        assert checkpointer.restore_latest(abstract(make_state())) is None
        assert checkpointer.steps() == [] and checkpointer.best_step() is None
    with Checkpointer(tmp_path / "absent", read_only=True) as checkpointer:
        assert checkpointer.restore_latest(abstract(make_state())) is None
    assert not (tmp_path / "absent").exists()


def test_a_relative_directory_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_steps("runs/photos", [1])
    assert (tmp_path / "runs/photos/1").is_dir()


@pytest.mark.parametrize(
    ("losses", "kept", "best"),
    [
        ([1, 2, 3, 4, 5], [1, 4, 5], 1),
        ([5, 4, 3, 2, 1], [4, 5], 5),
        ([3, 1, 2, 5, 4], [2, 4, 5], 2),
        ([2, 1, 1, 2, 2], [3, 4, 5], 3),
        ([2, None, 3, None, None], [1, 4, 5], 1),
        ([None, 2, 3, float("nan"), None], [2, 4, 5], 2),
        ([None, None, None, None, None], [4, 5], 5),
    ],
    ids=["worsening", "improving", "mixed", "ties", "missing", "nan", "none"],
)
@pytest.mark.parametrize("restarted", [False, True])
def test_the_newest_two_and_the_best_are_kept(tmp_path, losses, kept, best, restarted):
    by_step = {n: None if x is None else float(x) for n, x in enumerate(losses, start=1)}
    if restarted:
        for step in by_step:
            save_steps(tmp_path, [step], by_step)
    else:
        save_steps(tmp_path, by_step, by_step)
    with Checkpointer(tmp_path) as checkpointer:
        assert checkpointer.steps() == kept
        assert checkpointer.best_step() == best
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == kept


def test_keep_says_how_many_of_the_newest_stay(tmp_path):
    save_steps(tmp_path, range(1, 6), keep=3)
    with Checkpointer(tmp_path) as checkpointer:
        assert checkpointer.steps() == [3, 4, 5]
    with pytest.raises(UserError, match="at least 1"):
        Checkpointer(tmp_path, keep=0)


def test_saving_a_step_that_is_there_leaves_it_as_it_is(tmp_path):
    save_steps(tmp_path, [1])
    before = [path.read_bytes() for path in data_files(tmp_path / "1")]
    save_steps(tmp_path, [1])
    assert [path.read_bytes() for path in data_files(tmp_path / "1")] == before


def test_buffers_donated_right_after_save_are_saved_as_they_were(tmp_path):
    update = jax.jit(lambda x: x * 0 - 1, donate_argnums=0)
    with Checkpointer(tmp_path) as checkpointer:
        for step in range(1, 4):
            state = {"big": jnp.arange(2_000_000, dtype=jnp.float32) + step}
            expected = np.asarray(state["big"]).copy()
            checkpointer.save(step, state, {}, None)
            for _ in range(3):
                state = {"big": update(state["big"])}
            jax.block_until_ready(state)
            restored = checkpointer.restore(step, abstract(state))
            np.testing.assert_array_equal(np.asarray(restored.state["big"]), expected)


def test_a_state_restores_onto_another_number_of_devices(tmp_path):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    state = make_state(2)

    def on_mesh(tree, axis):
        spec = {2: PartitionSpec(axis), 1: PartitionSpec(axis), 0: PartitionSpec()}
        return jax.tree.map(lambda x: jax.device_put(x, NamedSharding(mesh, spec[x.ndim])), tree)

    for number, (source, target) in enumerate(
        [(state, on_mesh(state, "data")), (on_mesh(state, "data"), state)]
    ):
        with Checkpointer(tmp_path / str(number)) as checkpointer:
            checkpointer.save(1, source, {}, None)
        with Checkpointer(tmp_path / str(number)) as checkpointer:
            restored = checkpointer.restore_latest(abstract(target)).state
        assert bits(restored) == bits(state)
        wanted = jax.tree.leaves(abstract(target))
        assert [x.sharding for x in jax.tree.leaves(restored)] == [x.sharding for x in wanted]


def test_a_target_without_shardings_goes_to_the_first_device(tmp_path):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    state = {"x": jax.device_put(jnp.arange(8.0), NamedSharding(mesh, PartitionSpec("data")))}
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, state, {}, None)
        restored = checkpointer.restore(1, jax.eval_shape(lambda: {"x": jnp.zeros(8)}))
    assert restored.state["x"].devices() == {jax.devices()[0]}


def test_another_model_is_an_error_and_not_damage(tmp_path, caplog):
    save_steps(tmp_path, [1, 2])
    with Checkpointer(tmp_path) as checkpointer:
        with pytest.raises(UserError, match=r"another model.*float32\[16,64\].*float32\[16,4\]"):
            checkpointer.restore_latest(abstract(make_state(width=4)))
        with pytest.raises(UserError, match=r"\['extra'\]: nothing in the checkpoint"):
            checkpointer.restore_latest(abstract({**make_state(), "extra": jnp.zeros(2)}))
        assert checkpointer.steps() == [1, 2]
    assert not caplog.records


def test_restoring_a_step_that_is_not_there_lists_those_that_are(tmp_path):
    save_steps(tmp_path, [1, 2])
    with Checkpointer(tmp_path) as checkpointer:
        with pytest.raises(UserError, match=r"step 7 .*\[1, 2\]"):
            checkpointer.restore(7, abstract(make_state()))


def restore_after_damage(directory, caplog):
    """Restores; returns the step, after checking that its bits are right and damage was told."""
    caplog.clear()
    with Checkpointer(directory) as checkpointer:
        restored = checkpointer.restore_latest(abstract(make_state()))
        listed = checkpointer.steps()
    assert bits(restored.state) == bits(make_state(restored.step))
    assert restored.meta == {"batches": restored.step}
    warnings = [record.getMessage() for record in caplog.records if record.name == "vq_jax"]
    if restored.step == 2:
        assert not warnings and listed == [1, 2]
    else:
        assert len(warnings) == 1 and "step 2" in warnings[0] and "before" in warnings[0]
        assert listed == [1] and (directory / "2.damaged").is_dir()
    return restored.step


def copies(tmp_path):
    """Yields fresh copies of a directory with the checkpoints 1 and 2."""
    save_steps(tmp_path / "whole", [1, 2])
    for number in range(10_000):
        directory = tmp_path / f"copy{number}"
        shutil.copytree(tmp_path / "whole", directory)
        yield directory
        shutil.rmtree(directory)


def test_one_byte_flipped_anywhere_in_the_largest_data_file_is_noticed(tmp_path, caplog):
    rng = np.random.default_rng(0)
    size = None
    fell_back = []
    for directory, _ in zip(copies(tmp_path), range(40), strict=False):
        largest = max((directory / "2/state").rglob("d/*"), key=lambda path: path.stat().st_size)
        size = largest.stat().st_size
        flip(largest, int(rng.integers(size)), int(rng.integers(8)))
        fell_back.append(restore_after_damage(directory, caplog) == 1)
    # A byte that no array is read from may differ; restore_after_damage has checked the arrays.
    assert np.mean(fell_back) > 0.5


@pytest.mark.parametrize("damage", ["truncated", "emptied", "deleted", "flipped"])
def test_damage_to_any_file_of_a_checkpoint_never_changes_what_is_restored(tmp_path, caplog, damage):
    save_steps(tmp_path / "whole", [1, 2])
    names = [path.relative_to(tmp_path / "whole") for path in data_files(tmp_path / "whole/2")]
    fell_back = {}
    for name, directory in zip(names, copies(tmp_path), strict=False):
        file = directory / name
        content = file.read_bytes()
        if damage == "flipped":
            flip(file, len(content) // 2, 2)
        elif damage == "deleted":
            file.unlink()
        else:
            file.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"")
        fell_back[str(name)] = restore_after_damage(directory, caplog) == 1
    assert len(fell_back) == len(names) > 10
    assert fell_back["2/state/manifest.ocdbt"]
    assert fell_back["2/meta/metadata"]


def test_a_damaged_step_is_set_aside_and_can_be_saved_again(tmp_path, caplog):
    losses = {1: 2.0, 2: 1.0, 3: 3.0}
    save_steps(tmp_path, [1, 2], losses)
    for _ in range(2):
        (tmp_path / "2/state/manifest.ocdbt").unlink()
        with Checkpointer(tmp_path) as checkpointer:
            assert checkpointer.restore_latest(abstract(make_state())).step == 1
            assert checkpointer.best_step() == 1
            checkpointer.save(2, make_state(2), {"batches": 2}, 1.0)
            assert checkpointer.steps() == [1, 2]
            restored = checkpointer.restore_latest(abstract(make_state()))
            assert bits(restored.state) == bits(make_state(2))
    save_steps(tmp_path, [3], losses)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "2.damaged", "3"]


def test_a_part_is_restored_whatever_happened_to_the_rest(tmp_path):
    def state_of(step):
        rng = np.random.default_rng(step)
        return {"params": {"kernel": rng.normal(size=(16, 64))}, "moments": [rng.normal(size=(64, 64))]}

    states = {step: jax.tree.map(jnp.float32, state_of(step)) for step in (1, 2)}
    with Checkpointer(tmp_path / "whole") as checkpointer:
        for step, state in states.items():
            checkpointer.save(step, state, {}, None)
    seen, rng = set(), np.random.default_rng(0)
    for number in range(16):
        directory = shutil.copytree(tmp_path / "whole", tmp_path / f"copy{number}")
        files = sorted((directory / "2/state").rglob("d/*"), key=lambda path: path.stat().st_size)
        file = files[-1 - number % 2]
        flip(file, int(rng.integers(file.stat().st_size)))
        with Checkpointer(directory, read_only=True) as checkpointer:
            whole = checkpointer.restore_latest(abstract(states[2])).step
            part = checkpointer.restore_latest({"params": abstract(states[2]["params"])}, ("params",))
        assert bits(part.state) == bits({"params": states[part.step]["params"]})
        assert part.step >= whole
        seen.add((whole, part.step))
        shutil.rmtree(directory)
    assert {(1, 2), (1, 1)} <= seen


def test_a_part_of_another_model_is_an_error(tmp_path):
    save_steps(tmp_path, [1])
    params = abstract(make_state()["params"])
    with Checkpointer(tmp_path, read_only=True) as checkpointer:
        with pytest.raises(
            UserError, match=r"another model.*bias'\]: bfloat16\[64\] in the checkpoint, nothing"
        ):
            checkpointer.restore(1, {"params": {"kernel": params["kernel"]}}, ("params",))
        with pytest.raises(UserError, match=r"\['params'\]\['more'\]: nothing in the checkpoint"):
            checkpointer.restore(1, {"params": {**params, "more": params["bias"]}}, ("params",))


def test_the_warning_names_the_leaf_whose_bytes_changed(tmp_path, caplog):
    save_steps(tmp_path, [1, 2])
    record_file = tmp_path / "2/meta/metadata"
    record = json.loads(record_file.read_text())
    record["body"]["digests"]["['params']['kernel']"][0] ^= 1
    record["sha256"] = checkpoint_record.body_digest(record["body"])
    record_file.write_text(json.dumps(record))
    assert restore_after_damage(tmp_path, caplog) == 1
    assert "['params']['kernel']" in caplog.text and "['params']['bias']" not in caplog.text


def test_where_none_restores_the_error_says_what_to_do_and_nothing_is_moved(tmp_path):
    save_steps(tmp_path, [1, 2])
    for step in ("1", "2"):
        (tmp_path / step / "state/manifest.ocdbt").unlink()
    for _ in range(2):
        with Checkpointer(tmp_path) as checkpointer:
            with pytest.raises(UserError, match=r"none of the checkpoints in .*") as caught:
                checkpointer.restore_latest(abstract(make_state()))
        message = str(caught.value)
        assert str(tmp_path) in message and "step 1" in message and "step 2" in message
        assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


def test_a_reader_falls_back_and_changes_nothing(tmp_path, caplog):
    save_steps(tmp_path, [1, 2])
    (tmp_path / "2/state/manifest.ocdbt").unlink()
    (tmp_path / "3.orbax-checkpoint-tmp").mkdir()
    with Checkpointer(tmp_path, read_only=True) as checkpointer:
        assert checkpointer.restore_latest(abstract(make_state())).step == 1
        with pytest.raises(CheckpointError, match="read only"):
            checkpointer.save(4, make_state(), {}, None)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["1", "2", "3.orbax-checkpoint-tmp"]


@pytest.mark.parametrize("point", ["before-save", "during-save", "before-rename"])
@pytest.mark.parametrize("surfaces_at", ["wait", "save", "close"])
def test_a_disk_that_fills_during_a_save_leaves_the_checkpoint_before_it(
    tmp_path, at_point, point, surfaces_at
):
    state = make_state(2)
    checkpointer = Checkpointer(tmp_path)
    for step in (1, 2):
        checkpointer.save(step, make_state(step), {"batches": step}, float(step))
    checkpointer.wait()
    at_point(point, fill_disk)
    with pytest.raises(CheckpointError, match="no space left on device") as caught:
        checkpointer.save(3, make_state(3), {}, 0.5)
        if surfaces_at == "save":
            checkpointer.save(4, make_state(4), {}, 0.5)
        else:
            getattr(checkpointer, surfaces_at)()
    assert caught.value.step == 3 and isinstance(caught.value, UserError)
    assert "step 2 is whole" in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]
    at_point("nowhere", fill_disk)
    if surfaces_at == "close":
        checkpointer = Checkpointer(tmp_path)
    assert checkpointer.steps() == [1, 2] and checkpointer.best_step() == 1
    assert bits(checkpointer.restore_latest(abstract(state)).state) == bits(state)
    checkpointer.save(3, make_state(3), {"batches": 3}, 0.5)
    assert checkpointer.steps() == [2, 3] and checkpointer.best_step() == 3
    checkpointer.close()


def test_an_error_of_the_run_is_not_hidden_by_one_of_the_last_save(tmp_path, at_point, caplog):
    at_point("during-save", fill_disk)
    with pytest.raises(ZeroDivisionError):
        with Checkpointer(tmp_path) as checkpointer:
            checkpointer.save(1, make_state(), {}, None)
            raise ZeroDivisionError
    assert "no space left" in caplog.text


def test_a_directory_below_a_file_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot use the directory"):
        Checkpointer(tmp_path / "file" / "checkpoints")


@pytest.mark.parametrize("looks", [2, 1000])
def test_a_checkpoint_that_another_process_sees_first_is_waited_for(tmp_path, monkeypatch, looks):
    save_steps(tmp_path, [1, 2], {1: 0.5, 2: 0.1})
    monkeypatch.setattr(checkpoint, "_SEEN_SECONDS", 60 if looks == 2 else 1)
    load = orbax_managers.ocp.CheckpointManager._load_checkpoint_infos
    begun = []

    def late(manager, **options):
        begun.append(manager)
        infos = load(manager, **options)
        return infos if len(begun) > looks else [info for info in infos if info.step == 1]

    monkeypatch.setattr(orbax_managers.ocp.CheckpointManager, "_load_checkpoint_infos", late)
    others = {"steps": [1, 2], "reason": None}
    monkeypatch.setattr(
        checkpoint,
        "exchange",
        lambda value: [value, others["steps" if isinstance(value, list) else "reason"]],
    )
    with Checkpointer(tmp_path) as checkpointer:
        assert checkpointer.steps() == [1]
        restored = checkpointer.restore_latest(abstract(make_state(0)))
        assert restored.step == (2 if looks == 2 else 1)
        assert checkpointer.best_step() == restored.step


def test_a_checkpoint_that_is_gone_for_this_process_costs_nothing(tmp_path, monkeypatch):
    save_steps(tmp_path, [1, 2])
    (tmp_path / "2").rename(tmp_path / "2.damaged")
    monkeypatch.setattr(checkpoint, "_SEEN_SECONDS", 0)
    monkeypatch.setattr(
        checkpoint, "exchange", lambda value: [value, [1, 2] if isinstance(value, list) else None]
    )
    with Checkpointer(tmp_path) as checkpointer:
        assert checkpointer.restore_latest(abstract(make_state(0))).step == 1
    assert list((tmp_path / "2.damaged").iterdir())


def test_other_bytes_in_another_process_are_damage_here_too(tmp_path, monkeypatch):
    save_steps(tmp_path, [1, 2])
    told = iter([None, "not the bytes that were saved in params.", None, None])
    monkeypatch.setattr(
        checkpoint, "exchange", lambda value: [value, value if isinstance(value, list) else next(told)]
    )
    with Checkpointer(tmp_path) as checkpointer:
        assert checkpointer.restore_latest(abstract(make_state(0))).step == 1
    assert (tmp_path / "2.damaged").is_dir()


def save_until_killed(directory, point):
    """Saves twice; is killed at this point of the second save."""
    with Checkpointer(directory) as checkpointer:
        checkpointer.save(1, {"x": jnp.arange(1000)}, {}, 1.0)
        checkpointer.wait()
        orbax_managers.at_point = lambda at: os.kill(os.getpid(), signal.SIGKILL) if at == point else None
        checkpointer.save(2, {"x": jnp.arange(1000) + 1}, {}, 0.5)


@pytest.mark.parametrize("point", ["before-save", "during-save", "before-rename"])
def test_a_run_killed_at_a_point_of_a_save_leaves_the_checkpoint_before_it(tmp_path, point):
    ((status, _, err),) = finish([Forked(save_until_killed, str(tmp_path), point)])
    assert status == -signal.SIGKILL, err
    leftovers = [path.name for path in tmp_path.iterdir() if path.name != "1"]
    assert leftovers == ([] if point == "before-save" else ["2.orbax-checkpoint-tmp"])
    state = {"x": jnp.arange(1000)}
    with Checkpointer(tmp_path) as checkpointer:
        assert checkpointer.steps() == [1]
        restored = checkpointer.restore_latest(abstract(state))
        assert bits(restored.state) == bits(state)
        checkpointer.save(3, state, {}, 0.7)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "3"]


def test_other_names_in_the_directory_are_no_checkpoints(tmp_path):
    save_steps(tmp_path, [1])
    for name in ("9.orbax-checkpoint-tmp", "8.damaged", "notes"):
        (tmp_path / name).mkdir()
    (tmp_path / "7.txt").write_text("")
    with Checkpointer(tmp_path) as checkpointer:
        assert checkpointer.steps() == [1]


def test_nothing_of_orbax_reaches_the_terminal(tmp_path, capfd, at_point):
    save_steps(tmp_path, [1, 2, 3], {1: 1.0, 2: 2.0, 3: 3.0})
    at_point("during-save", fill_disk)
    with pytest.raises(CheckpointError):
        save_steps(tmp_path, [4])
    assert capfd.readouterr() == ("", "")


def test_a_failed_save_is_told_even_if_orbax_is_late_to_write_of_it(tmp_path, monkeypatch, at_point):
    save_steps(tmp_path, [1])

    def close(manager):
        raise FileNotFoundError("4.orbax-checkpoint-tmp/_CHECKPOINT_METADATA")

    at_point("during-save", fill_disk)
    monkeypatch.setattr(orbax_managers.ocp.CheckpointManager, "close", close)
    with pytest.raises(CheckpointError, match="step 4: not saved"):
        save_steps(tmp_path, [4])


def read_with_orbax(directory):
    """Prints the shape of an array that orbax restores."""
    import orbax.checkpoint as ocp

    manager = ocp.CheckpointManager(directory)
    args = ocp.args.Composite(state=ocp.args.StandardRestore())
    print(manager.restore(1, args=args)["state"]["params"]["kernel"].shape)


def test_orbax_alone_reads_the_arrays(tmp_path):
    save_steps(tmp_path, [1])
    ((status, out, err),) = finish([Forked(read_with_orbax, str(tmp_path))])
    assert status == 0 and out.strip() == "(16, 64)", err


def test_a_checkpoint_under_the_name_of_another_step_is_named_and_passed_over(tmp_path, caplog):
    save_steps(tmp_path, [1, 2, 3], keep=3)
    (tmp_path / "3").rename(tmp_path / "9")
    (tmp_path / "2").rename(tmp_path / "7")
    with Checkpointer(tmp_path) as checkpointer:
        assert checkpointer.restore_latest(abstract(make_state())).step == 1
    for name, step in ((9, 3), (7, 2)):
        assert f"checkpoint of step {name}: it was saved as step {step}" in caplog.text
        assert (tmp_path / f"{name}.damaged").is_dir()
    (tmp_path / "9.damaged").rename(tmp_path / "3")  # nothing of it is lost
    with Checkpointer(tmp_path) as checkpointer:
        assert checkpointer.restore_latest(abstract(make_state())).step == 3


@pytest.mark.parametrize("body", [None, [], {"meta": {}}, {"leaves": {}, "digests": {}}])
def test_a_description_without_its_parts_is_none(body):
    record = {"body": body, "sha256": checkpoint_record.body_digest(body)}
    assert checkpoint_record.read_record(3, record) is None
    whole = {"meta": {}, "validation_loss": None, "leaves": {}, "digests": {}}
    from_before = {"body": whole, "sha256": checkpoint_record.body_digest(whole)}
    assert checkpoint_record.read_record(3, from_before) == {"step": 3, **whole}


@pytest.mark.parametrize(
    "number, words",
    [(errno.ENOSPC, "no space left on device."), (errno.EFBIG, "file too large (see ulimit -f).")],
)
def test_a_refusal_of_the_disk_is_named(number, words):
    error = ValueError(
        f"UNKNOWN: writing file: [OS error {number}: {os.strerror(number)}] [more of tensorstore]"
    )
    assert orbax_managers.brief(error) == words
