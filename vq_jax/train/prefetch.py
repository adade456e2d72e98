"""Batches on their way to the devices while a step runs."""

import queue
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from jax.sharding import Mesh

from vq_jax.train import sharding

AHEAD = 2
"""Batches on the devices beside the one that a step works on."""
_ON_HOST = ("broken",)  # the loop's own business


class Batches(Protocol):
    """An iterator of one process's part of the batches, to be closed."""

    def __next__(self) -> Mapping[str, np.ndarray]: ...

    def close(self) -> None: ...


class DeviceBatches:
    """Puts batches on the devices before they are asked for; their pictures cross the bus as uint8.

    A thread takes a batch, has it copied to the devices, and takes the next, until `ahead` of them wait. None
    is lost or repeated, so the position of a stream is still the number of batches handed out. An error of
    the stream is raised where its batch would have come, after all the batches before it; so is its end.

    Args:
      batches: this process's part of the batches; closed with this one.
      mesh: the devices.
      ahead: batches that wait at most, 1 and up.

    Returns:
      An iterator of batches of global arrays, spread over the mesh; `broken` stays as it is. Close it, or use
      it as a context manager.
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
        """Ends the thread, after the batch that it is at, and the stream; harmless when repeated."""
        self._closed = True
        self._room.release()
        self._thread.join()
        while not self._ready.empty():  # what they hold, such as memory shared with workers, goes now
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
                self._room.acquire()  # before a batch is taken: none waits beside those that are ahead
                if self._closed:
                    return
                batch = dict(next(self._batches))
                kept = {name: batch.pop(name) for name in _ON_HOST if name in batch}
                self._ready.put({**sharding.put_batch(batch, self._mesh), **kept})
        except BaseException as error:  # whatever it is, it belongs to the step that needs this batch
            self._ready.put(error)
