"""A run on gs://, of which everything but the checkpoints is kept in memory here in its stead."""

import importlib.util

import fsspec
from fsspec.implementations.memory import MemoryFileSystem
from runs import STEPS, rows_of, small_config

from vq_jax.train import loop, train


class Bucket(MemoryFileSystem):
    """Objects by their names; like them it opens none to append to it."""

    store: dict = {}
    pseudo_dirs: list = [""]

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + str(path).removeprefix("gs://").strip("/")

    def _open(self, path, mode="rb", **options):
        assert "a" not in mode and "+" not in mode
        return super()._open(path, mode, **options)


def test_a_run_on_gs_writes_and_goes_on(tmp_path, monkeypatch):
    class Local(loop.Checkpointer):
        """Orbax writes to gs:// by a library that takes no other file system."""

        def __init__(self, directory, **options):
            assert str(directory) == "gs://bucket/run/checkpoints"
            super().__init__(tmp_path / "checkpoints", **options)

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda *a: find(*a) or (a[0] == "gcsfs" or None))
    monkeypatch.setattr(fsspec, "filesystem", lambda name, **_: Bucket())
    monkeypatch.setattr(loop, "Checkpointer", Local)
    for steps in (STEPS - 4, STEPS):
        assert train(small_config(steps=steps, image_every=6), "gs://bucket/run").step == steps
    names = {name.removeprefix("/bucket/run/") for name in Bucket.store}
    assert {"config.json", "metrics.jsonl", "report.md", "images/6.png", "images/final.png"} <= names
    assert not any("events" in name for name in names)  # TensorBoard's writer appends
    (tmp_path / "metrics.jsonl").write_bytes(Bucket.store["/bucket/run/metrics.jsonl"].getvalue())
    assert [row["step"] for row in rows_of(tmp_path)] == list(range(1, STEPS + 1))
