"""A run directory that somebody touched: what is not a run's is named and passed over, or one clear error."""

import json
import os

import pytest
from etils import epath

from vq_jax.errors import UserError
from vq_jax.runs import rundir

ROWS = [{"step": step, "loss": 1.0 / step} for step in (1, 2, 3)]
FOREIGN = {
    "bytes that are not UTF-8": b'\xff\xfe{"step": 2}',
    "a scalar": b"7",
    "a list": b"[1, 2]",
    "nothing": b"null",
    "no step": b'{"loss": 1.0}',
    "a step that is no number": b'{"step": "2"}',
    "deep nesting": b"[" * 10**5,
}


@pytest.mark.parametrize("line", FOREIGN.values(), ids=FOREIGN)
def test_lines_that_are_not_figures_are_named_and_passed_over(line, tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    whole = [json.dumps(row).encode() for row in ROWS]
    path.write_bytes(b"\n".join([whole[0], line, *whole[1:], b'{"step": 4, "lo']))
    assert rundir.read_metrics(tmp_path) == ROWS
    rundir.cut_metrics(epath.Path(tmp_path), 2)
    assert f"{path}: 1 lines are not figures of a run and are left out" in caplog.text
    assert [json.loads(row) for row in path.read_text().splitlines()] == ROWS[:2]


def test_values_that_are_not_figures_are_passed_over(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": [1], "phase": "gan", "x": {}, "y": null}\n')
    assert rundir.read_metrics(tmp_path) == [{"step": 1, "phase": "gan"}]


@pytest.mark.parametrize("name", ["metrics.jsonl", "config.json"])
@pytest.mark.parametrize("make, words", [(os.mkdir, "a directory"), (os.mkfifo, "a pipe")])
def test_a_record_that_is_no_file_is_one_clear_error(name, make, words, tmp_path):
    make(tmp_path / name)
    read = {"metrics.jsonl": rundir.read_metrics, "config.json": rundir.read_config}[name]
    with pytest.raises(UserError, match=f"expected a file, .*{name} is {words}"):
        read(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"7", b"[]", b"null", b"{", b"[" * 10**5, b'{"kind": ["tokenizer"]}', b'{"a": 1}'],
)
def test_a_configuration_that_is_none_is_one_clear_error(content, tmp_path):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match="config.json cannot be read as a configuration") as told:
        rundir.read_config(tmp_path)
    assert len(str(told.value).splitlines()) <= 3 and len(str(told.value)) < 1000


def test_a_report_is_of_its_step(tmp_path):
    (tmp_path / "report.md").write_text(f"{rundir.report_title('run 1', 12)}\n\n")
    workdir = epath.Path(tmp_path)
    assert rundir.is_reported(workdir, 12)
    assert not any(rundir.is_reported(workdir, step) for step in (2, 112, 120))
    (tmp_path / "report.md").write_bytes(b"")
    assert not rundir.is_reported(workdir, 12)
    (tmp_path / "report.md").unlink()
    os.mkfifo(tmp_path / "report.md")
    assert not rundir.is_reported(workdir, 12)


@pytest.mark.parametrize("name", ["metrics.jsonl", "images", "checkpoints", "report.md"])
def test_a_run_writes_through_no_link_that_leads_out_of_its_directory(name, tmp_path):
    run = tmp_path / "run"
    (tmp_path / "other").mkdir()
    run.mkdir()
    (run / "inside").mkdir()
    rundir.require_inside(epath.Path(run))
    (run / name).symlink_to(run / "inside")
    rundir.require_inside(epath.Path(run))
    (run / name).unlink()
    (run / name).symlink_to(tmp_path / "other")
    with pytest.raises(UserError, match=f"{name} is a link out of the run directory, to .*other"):
        rundir.require_inside(epath.Path(run))
