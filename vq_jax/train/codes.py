"""Codes of the training pictures: extracted once into files, and batches of them.

The files are arrays that are mapped into memory, `codes-00000.npy` and so on, and `labels.npy`; `codes.json`
has their digests and the fingerprint of tokenizer and pictures. It is written last and by a rename: what has
no such file is no cache.
"""

import concurrent.futures
import hashlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vq_jax.config import DataConfig
from vq_jax.data import Batch, Order, Source
from vq_jax.errors import UserError
from vq_jax.train import distributed

_INDEX = "codes.json"
_LABELS = "labels.npy"
_SHARD_ROWS = 65536
_THREADS = 8
_log = logging.getLogger("vq_jax")

Encode = Callable[[np.ndarray], np.ndarray]


class CodeCache:
    """Codes and labels of all records of a source, in memory-mapped files.

    Attributes:
      codes: arrays [rows, *code_shape], one a shard; all but the last have `shard_rows`.
      labels: int32 [N], None where the source has none.
    """

    def __init__(self, directory: Path, index: dict[str, Any]) -> None:
        self._rows = index["shard_rows"]
        self.codes = [
            np.load(directory / name, mmap_mode="r") for name in index["files"] if name.startswith("codes-")
        ]
        self.labels = np.load(directory / _LABELS) if _LABELS in index["files"] else None

    def __len__(self) -> int:
        return sum(len(shard) for shard in self.codes)

    def take(self, numbers: np.ndarray) -> np.ndarray:
        """Codes int32 of some records, in their order."""
        shards, rows = np.divmod(numbers, self._rows)
        out = np.empty((len(numbers), *self.codes[0].shape[1:]), np.int32)
        for shard in np.unique(shards):
            chosen = shards == shard
            out[chosen] = self.codes[shard][rows[chosen]]
        return out


def open_cache(
    directory: Path,
    source: Source,
    encode: Encode,
    *,
    tokenizer: str,
    codebook_size: int,
    batch_size: int,
    shard_rows: int = _SHARD_ROWS,
) -> CodeCache:
    """Opens the cache in a directory; makes it where it is not there, is damaged, or is of something else.

    Args:
      directory: local; made if it is not there.
      source: pictures of one size.
      encode: pictures uint8 [batch_size, H, W, C] to codes.
      tokenizer: its fingerprint.
      codebook_size: decides on 16 or 32 bits a code.
      batch_size: pictures encoded together.
      shard_rows: records a file.

    Raises:
      UserError: the directory cannot be written, or is not one that all processes of the run share.
    """
    fingerprint = f"{tokenizer}-{source.fingerprint}"

    def make() -> None:
        if not distributed.is_main() or (reason := _invalid(directory, fingerprint)) is None:
            return
        if reason:
            _log.warning("The code cache in %s %s: it is made again.", directory, reason)
        try:
            _build(directory, source, encode, fingerprint, codebook_size, batch_size, shard_rows)
        except OSError as error:
            raise UserError(
                f"cannot write the code cache in {directory}: {error.strerror or error}; give another "
                "directory with --codes.directory, or --codes.mode fly"
            ) from error

    # One process makes it, all read it.
    distributed.together(make)
    return distributed.together(lambda: _opened(directory, fingerprint))


def _opened(directory: Path, fingerprint: str) -> CodeCache:
    try:
        index = json.loads((directory / _INDEX).read_text())
        if index["fingerprint"] == fingerprint:
            return CodeCache(directory, index)
    except (ValueError, KeyError, OSError):
        pass  # not the one that was just made, or found to be whole
    raise UserError(
        f"expected a directory of codes that all processes share, {directory} is not: give one with "
        "--codes.directory, or --codes.mode fly"
    )


def _invalid(directory: Path, fingerprint: str) -> str | None:
    """Why the cache cannot be used: empty where there is none, None where it can."""
    try:
        index = json.loads((directory / _INDEX).read_text())
        files, found = dict(index["files"]), index["fingerprint"]
    except FileNotFoundError:
        return ""
    except (ValueError, KeyError, TypeError, OSError):
        return f"has an {_INDEX} that cannot be read"
    if found != fingerprint:
        return "is of another tokenizer or of other pictures"
    for name, digest in files.items():
        try:
            if _sha256(directory / name) != digest:
                return f"has damaged codes in {name}"
        except OSError:
            return f"has no readable {name}"
    return None


def _build(
    directory: Path,
    source: Source,
    encode: Encode,
    fingerprint: str,
    codebook_size: int,
    batch_size: int,
    shard_rows: int,
) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / _INDEX).unlink(missing_ok=True)
    for stale in (*directory.glob("codes-*.npy*"), *directory.glob(f"{_LABELS}*")):
        stale.unlink()
    total = len(source)
    _log.info("Extracting the codes of %d pictures, once, into %s", total, directory)
    dtype = np.uint16 if codebook_size <= 2**16 else np.int32
    files: dict[str, str] = {}
    labels: list[np.ndarray] = []
    rows: list[np.ndarray] = []
    waiting = 0

    def flush(count: int) -> None:
        nonlocal rows, waiting
        joined = np.concatenate(rows)
        name = f"codes-{len(files):05}.npy"
        files[name] = _save(directory / name, joined[:count])
        rows, waiting = [joined[count:]], waiting - count

    with tqdm(total=total, unit="picture", desc="codes", disable=not sys.stderr.isatty()) as bar:
        for images, given in _read(source, batch_size):
            count = len(images)
            # One shape, one compilation: the last batch is filled up.
            filled = np.concatenate([images, np.repeat(images[-1:], batch_size - count, axis=0)])
            rows.append(np.asarray(encode(filled))[:count].astype(dtype))
            waiting += count
            labels.append(given)
            bar.update(count)
            while waiting >= shard_rows:
                flush(shard_rows)
    if waiting:
        flush(waiting)
    if source.num_classes is not None:
        files[_LABELS] = _save(directory / _LABELS, np.concatenate(labels))
    index = {"fingerprint": fingerprint, "records": total, "shard_rows": shard_rows, "files": files}
    part = directory / f"{_INDEX}.part"
    part.write_text(json.dumps(index, indent=2) + "\n")
    part.replace(directory / _INDEX)


def _read(source: Source, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pictures and labels (zero where there are none) in order, read ahead by threads."""
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:

        def start(first: int) -> list[concurrent.futures.Future[Any]]:
            last = min(first + batch_size, len(source))
            return [pool.submit(source.__getitem__, number) for number in range(first, last)]

        coming = start(0)
        for first in range(0, len(source), batch_size):
            records = [future.result() for future in coming]
            coming = start(first + batch_size)
            labels = np.array([record.get("label", 0) for record in records], np.int32)
            yield np.stack([record["image"] for record in records]), labels


def _save(path: Path, array: np.ndarray) -> str:
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        np.save(file, array)
        file.flush()
        os.fsync(file.fileno())
    digest = _sha256(part)
    part.replace(path)
    return digest


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class CodeBatches:
    """Batches of cached codes without end, in the order in which `train_batches` would give the pictures.

    Args:
      cache: the codes.
      config: its batch_size.
      seed: of the order.
      position: of the batch that comes next.
      process_index: of this process.
      process_count: processes that share each batch.
    """

    def __init__(
        self,
        cache: CodeCache,
        config: DataConfig,
        *,
        seed: int,
        position: int,
        process_index: int = 0,
        process_count: int = 1,
    ) -> None:
        self.position = position
        self._cache = cache
        self._order = Order(len(cache), config, seed)
        share = config.batch_size // process_count
        self._rows = slice(process_index * share, (process_index + 1) * share)

    def __iter__(self) -> "CodeBatches":
        return self

    def __next__(self) -> Batch:
        numbers = self._order[self.position][self._rows]
        self.position += 1
        batch = {"codes": self._cache.take(numbers)}
        if self._cache.labels is not None:
            batch["label"] = self._cache.labels[numbers]
        return batch

    def close(self) -> None:
        """Nothing is open."""
