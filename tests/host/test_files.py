"""Files are written whole or not at all, follow no link, and are read only where they are files."""

import errno
import os
import stat

import pytest

from vq_jax.errors import UserError
from vq_jax.host import files


def test_a_file_is_written_with_the_usual_rights_and_nothing_beside_it(tmp_path):
    path = tmp_path / "report.md"
    for content in ("ä\n", b"\0\1"):
        files.write_atomic(path, content)
        assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    assert os.listdir(tmp_path) == ["report.md"]


def test_a_name_as_long_as_names_can_be_is_written(tmp_path):
    files.write_atomic(tmp_path / ("n" * 255), b"1")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"1"


def test_no_link_is_followed(tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.write_text("mine")
    (tmp_path / "out").symlink_to(other)
    files.write_atomic(tmp_path / "out", "new")
    assert other.read_text() == "mine" and not (tmp_path / "out").is_symlink()
    # Even where somebody guesses the temporary name.
    monkeypatch.setattr(files.secrets, "token_hex", lambda count: "0")
    (tmp_path / ".vq-jax-0.part").symlink_to(other)
    with pytest.raises(FileExistsError):
        files.write_atomic(tmp_path / "out", "newer")
    assert (tmp_path / ".vq-jax-0.part").is_symlink()
    assert other.read_text() == "mine" and (tmp_path / "out").read_text() == "new"


def test_what_cannot_be_written_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a").write_text("old")
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_all({tmp_path / "a": b"new", tmp_path / "b": b"new"})
    assert os.listdir(tmp_path) == ["a"] and (tmp_path / "a").read_text() == "old"


@pytest.mark.parametrize(
    "make, words",
    [
        (os.mkdir, "a directory"),
        (os.mkfifo, "a pipe"),
        (lambda path: os.symlink("/dev/zero", path), "a device"),
    ],
)
def test_what_is_no_file_is_neither_read_nor_written_over(make, words, tmp_path):
    path = tmp_path / "config.json"
    make(path)
    for use in (files.require_regular, lambda path: files.write_atomic(path, b"")):
        with pytest.raises(UserError, match=f"expected a file, .*config.json is {words}"):
            use(path)
    assert os.listdir(tmp_path) == ["config.json"]


def test_what_is_missing_or_remote_is_left_to_its_reader(tmp_path):
    files.require_regular(tmp_path / "absent")
    files.require_regular("gs://bucket/run/config.json")
    assert files.is_temporary(".vq-jax-12.part") and not files.is_temporary("mine.part")
