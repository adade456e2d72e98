"""Copies batches to the devices while a step runs."""

import queue
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from jax.sharding import Mesh

from vq_jax.train import sharding

AHEAD = 2
"""Batches on the devices beside the one that the step uses."""
_ON_HOST = ("broken",)  # for the loop, not for the step


class Batches(Protocol):
    """An iterator over one process's share of the batches, to be closed after use."""

    def __next__(self) -> Mapping[str, np.ndarray]: ...

    def close(self) -> None: ...


class DeviceBatches:
    """Copies batches to the devices before they are needed; pictures are transferred as uint8.

    A thread takes a batch, starts its copy to the devices, and takes the next, until `ahead` of them wait.
    None is lost or repeated, so the position of a stream is still the number of batches handed out. An error
    of the stream is raised in place of its batch, after all the batches before it; so is its end.

    Args:
      batches: this process's share of the batches; closed together with this iterator.
      mesh: the devices.
      ahead: largest number of batches that wait, at least 1.

    Returns:
      An iterator over batches of global arrays, spread over the mesh; `broken` stays on the host. Close it,
      or use it as a context manager.
    """

    def __init__(self, batches: Batches, mesh: Mesh, ahead: int = AHEAD) -> None:
        if ahead < 1:
            raise ValueError(f"expected at least 1 batch ahead, got {ahead}")
        self._batches, self._mesh = batches, mesh
        self._room = threading.Semaphore(ahead)
        self._ready: queue.SimpleQueue[dict[str, Any] | BaseException] = queue.SimpleQueue()
        self._end: BaseException | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._fetch, name="prefetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> "DeviceBatches":
        return self

    def __next__(self) -> dict[str, Any]:
        if self._closed:
            raise ValueError("the stream of batches is closed")
        if self._end is not None:
            raise self._end
        batch = self._ready.get()
        if isinstance(batch, BaseException):
            self._end = batch
            raise batch
        self._room.release()
        return batch

    def close(self) -> None:
        """Ends the thread, once it has its current batch, and the stream; may be called again."""
        self._closed = True
        self._room.release()
        self._thread.join()
        while not self._ready.empty():  # frees what batches hold, such as memory shared with workers
            self._ready.get()
        self._batches.close()

    def __enter__(self) -> "DeviceBatches":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _fetch(self) -> None:
        try:
            while True:
                self._room.acquire()  # before taking a batch: no more than `ahead` exist
                if self._closed:
                    return
                batch = dict(next(self._batches))
                kept = {name: batch.pop(name) for name in _ON_HOST if name in batch}
                self._ready.put({**sharding.shard_local_batch(batch, self._mesh), **kept})
        except BaseException as error:  # of any kind: the step that needs this batch raises it
            self._ready.put(error)
