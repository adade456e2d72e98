"""Codes of the training pictures: extracted once into files, and batches of them.

The files are arrays that are mapped into memory: `codes-00000.npy` and so on, or `codes-00000.0.npy`,
`codes-00000.1.npy` where a picture has several grids of codes, and `labels-00000.npy`. `codes.json` holds
their digests and the fingerprint of tokenizer and pictures. It is written last and by a rename: a directory
without it is not a cache. Until then `making.json` says of what tokenizer and pictures the files are, and
`codes-00000.json` holds the digests of a shard.
"""

import concurrent.futures
import contextlib
import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from vq_jax.configs.data import DataConfig
from vq_jax.configs.serialize import check_header, header
from vq_jax.data import Batch, Order, Source
from vq_jax.errors import UserError
from vq_jax.host.files import is_temporary, read_json, replacing, require_regular, write_atomic
from vq_jax.host.streams import progress_stream
from vq_jax.runs import distributed
from vq_jax.runs.checkpoint_record import body_digest
from vq_jax.runs.lock import locked
from vq_jax.types import CodeSpec, CodeSpecs

_INDEX = "codes.json"
_MAKING = "making.json"
_KINDS = {_INDEX: "code-cache", _MAKING: "code-cache-in-progress"}
_DIGEST = "sha256"  # of the other values of a file of JSON
_NUMBER = "[0-9]" * 5  # of a shard, in patterns
_SHARD_ROWS = 65536
_THREADS = 8
_log = logging.getLogger("vq_jax")

Encode = Callable[[np.ndarray], Any]


class CodeCache:
    """Codes and labels of all records of a source, in memory-mapped files.

    Attributes:
      labels: int32 [N], None where the source has none.
    """

    def __init__(self, directory: Path, index: dict[str, Any], specs: CodeSpecs) -> None:
        self._rows = index["shard_rows"]
        names = [name.partition(".")[0] for name in sorted(index["files"]) if name.startswith("codes-")]
        self._grids = [
            [np.load(directory / f"{name}{end}", mmap_mode="r") for name in dict.fromkeys(names)]
            for end in jax.tree.leaves(_ends(specs))
        ]
        self._layout: Any = jax.tree.structure(specs)
        labels = [np.load(directory / name) for name in index["files"] if name.startswith("labels")]
        self.labels = np.concatenate(labels) if labels else None

    def __len__(self) -> int:
        return sum(len(shard) for shard in self._grids[0])

    def take(self, numbers: np.ndarray) -> Any:
        """Codes of some records in their order, int32 arrays laid out like the specs."""
        shards, rows = np.divmod(numbers, self._rows)
        out = [np.empty((len(numbers), *grid[0].shape[1:]), np.int32) for grid in self._grids]
        for shard in np.unique(shards):
            chosen = shards == shard
            for codes, grid in zip(out, self._grids, strict=True):
                codes[chosen] = grid[shard][rows[chosen]]
        return self._layout.unflatten(out)


def _ends(specs: CodeSpecs) -> Any:
    """How the names of the files of each grid end, laid out like the specs."""
    if isinstance(specs, CodeSpec):
        return ".npy"
    layout: Any = jax.tree.structure(specs)
    return layout.unflatten(f".{number}.npy" for number in range(layout.num_leaves))


def open_cache(
    directory: Path,
    source: Source,
    encode: Encode,
    *,
    tokenizer: str,
    specs: CodeSpecs,
    batch_size: int,
    shard_rows: int = _SHARD_ROWS,
) -> CodeCache:
    """Opens the cache in a directory; makes it where it is missing, damaged, or of something else.

    The processes of a run make its shards side by side. Shards that were finished before an interruption
    are kept.

    Args:
      directory: local; made if it does not exist.
      source: pictures of one size.
      encode: pictures uint8 [batch_size, *S, C] to codes, int32 arrays laid out like `specs`; by this process
        alone.
      tokenizer: its fingerprint.
      specs: of a picture's codes. A grid is kept in 16 bits a code where its codebook allows it.
      batch_size: pictures encoded together.
      shard_rows: records a file.

    Raises:
      UserError: the directory cannot be written, or is not one that all processes of the run share.
    """
    fingerprint = f"{tokenizer}-{source.fingerprint}"
    made_of = {"fingerprint": fingerprint, "shard_rows": shard_rows}
    make = _Maker(directory, source, encode, made_of, specs, batch_size)
    main = distributed.is_main()
    with contextlib.ExitStack() as lock:
        begun = distributed.together(lambda: main and make.begin(lock))
        if distributed.exchange(begun)[0]:
            distributed.together(make.check_shared)  # before the hours that the shards may take
            files = distributed.together(lambda: make.shards(jax.process_index(), jax.process_count()))
            all_files = {name: sha for part in distributed.exchange(files) for name, sha in part.items()}
            distributed.together(lambda: make.finish(all_files) if main else None)
    return distributed.together(lambda: _opened(directory, fingerprint, specs))


def _opened(directory: Path, fingerprint: str, specs: CodeSpecs) -> CodeCache:
    def look() -> dict[str, Any] | None:
        index = _json(directory / _INDEX)
        return index if index is not None and index.get("fingerprint") == fingerprint else None

    index = distributed.seen(look)
    if index is None:
        raise _not_shared(directory)  # it was just made, or found to be whole
    try:
        return CodeCache(directory, index, specs)
    except (ValueError, KeyError, OSError) as error:
        raise _not_shared(directory) from error


def _not_shared(directory: Path) -> UserError:
    return UserError(
        f"expected a directory of codes that all processes share, {directory} is not: give one with "
        "--codes.directory, or --codes.mode fly"
    )


def _json(path: Path) -> dict[str, Any] | None:
    """What a file of the cache holds; None where it cannot be read, or is of a version to come."""
    try:
        found = read_json(path)
        if not isinstance(found, dict):
            return None
        digest = found.pop(_DIGEST, None)
        if digest is not None and digest != body_digest(found):  # files from before have none
            return None
        if "version" in found:  # files from before have none
            check_header(found, (_KINDS[path.name],), str(path))
        return {name: value for name, value in found.items() if name not in ("kind", "version")}
    except (ValueError, OSError):
        return None


def _invalid(directory: Path, fingerprint: str) -> str | None:
    """Why the cache cannot be used: empty where there is none, None where it can."""
    if not (directory / _INDEX).exists():
        return ""
    index = _json(directory / _INDEX)
    if index is None or not isinstance(index.get("files"), dict) or "fingerprint" not in index:
        return f"has a {_INDEX} that cannot be read"
    if index["fingerprint"] != fingerprint:
        return "is of another tokenizer or of other pictures"
    return _damaged(directory, index["files"])


def _damaged(directory: Path, files: dict[str, str]) -> str | None:
    """What is wrong with files of known digests; None where nothing is."""
    for name, digest in files.items():
        try:
            if _sha256(directory / name) != digest:
                return f"has damaged codes in {name}"
        except OSError:
            return f"has no readable {name}"
    return None


class _Maker:
    """Makes a cache: process 0 begins and finishes, all make shards in between."""

    def __init__(
        self,
        directory: Path,
        source: Source,
        encode: Encode,
        made_of: dict[str, Any],
        specs: CodeSpecs,
        batch_size: int,
    ) -> None:
        self._directory, self._source, self._encode = directory, source, encode
        self._made_of, self._batch_size = made_of, batch_size
        self._specs = jax.tree.leaves(specs)
        self._layout: Any = jax.tree.structure(specs)
        self._ends = jax.tree.leaves(_ends(specs))

    def begin(self, lock: contextlib.ExitStack) -> bool:
        """Removes files that are not of this cache and notes what it will be of; False where it is whole.

        The directory is locked until `lock` is closed.
        """
        reason = _invalid(self._directory, self._made_of["fingerprint"])
        if reason is None:
            return False
        if reason:
            _log.warning("The code cache in %s %s: it is made again.", self._directory, reason)
        with self._writing():
            self._directory.mkdir(parents=True, exist_ok=True)
            lock.enter_context(locked(self._directory))
            (self._directory / _INDEX).unlink(missing_ok=True)
            resumed = not reason and _json(self._directory / _MAKING) == self._made_of
            ours = re.compile(rf"(codes|labels)-{_NUMBER}\..*")
            for entry in self._directory.iterdir():
                if is_temporary(entry.name) or (not resumed and ours.fullmatch(entry.name)):
                    entry.unlink()
            _write_json(self._directory / _MAKING, {**header(_KINDS[_MAKING]), **self._made_of})
        _log.info(
            "Extracting the codes of %d pictures, once, into %s%s",
            len(self._source),
            self._directory,
            ", where some shards are already" if list(self._directory.glob(f"codes-{_NUMBER}.json")) else "",
        )
        return True

    def check_shared(self) -> None:
        """Raises UserError where this process does not see what process 0 began."""
        if distributed.seen(lambda: _json(self._directory / _MAKING) == self._made_of) is None:
            raise _not_shared(self._directory)

    def shards(self, process_index: int, process_count: int) -> dict[str, str]:
        """Makes the shards of one process; returns the digests of their files."""
        count, rows = len(self._source), self._made_of["shard_rows"]
        starts = range(process_index * rows, count, process_count * rows)
        spans = [range(start, min(start + rows, count)) for start in starts]
        files: dict[str, str] = {}
        out, total = progress_stream(), sum(map(len, spans))
        with tqdm(total=total, unit="picture", desc="codes", file=out, disable=not out.isatty()) as bar:
            for span in spans:
                number = f"{span.start // rows:05}"
                if finished := self._finished(number):
                    bar.update(len(span))
                files |= finished or self._shard(number, span, bar)
        return files

    def _finished(self, number: str) -> dict[str, str] | None:
        """The digests of a shard that was made before an interruption, if it is still whole."""
        files = _json(self._directory / f"codes-{number}.json")
        if files is None or _damaged(self._directory, files):
            return None
        return files

    def _shard(self, number: str, span: range, bar: Any) -> dict[str, str]:
        names = [f"codes-{number}{end}" for end in self._ends]
        parts: dict[str, list[np.ndarray]] = {name: [] for name in (*names, f"labels-{number}.npy")}
        for images, labels in _read(self._source, span, self._batch_size):
            count = len(images)
            # One shape, one compilation: the last batch is filled up.
            filled = np.concatenate([images, np.repeat(images[-1:], self._batch_size - count, axis=0)])
            grids = self._layout.flatten_up_to(self._encode(filled))
            for name, grid, spec in zip(names, grids, self._specs, strict=True):
                dtype = np.uint16 if spec.codebook_size <= 2**16 else np.int32
                parts[name].append(np.asarray(grid)[:count].astype(dtype))
            parts[f"labels-{number}.npy"].append(labels)
            bar.update(count)
        if self._source.num_classes is None:
            del parts[f"labels-{number}.npy"]
        with self._writing():
            files = {
                name: _save(self._directory / name, np.concatenate(arrays)) for name, arrays in parts.items()
            }
            _write_json(self._directory / f"codes-{number}.json", files)  # last: with it the shard is whole
        return files

    def finish(self, files: dict[str, str]) -> None:
        """Makes it a cache."""
        with self._writing():
            index = {**header(_KINDS[_INDEX]), **self._made_of, "files": dict(sorted(files.items()))}
            _write_json(self._directory / _INDEX, index)
            (self._directory / _MAKING).unlink(missing_ok=True)
            for digests in self._directory.glob(f"codes-{_NUMBER}.json"):
                digests.unlink()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"cannot write the code cache in {self._directory}: {error.strerror or error}; give another "
                "directory with --codes.directory, or --codes.mode fly"
            ) from error


def _read(source: Source, span: range, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pictures and labels (zero where there are none) in order, read ahead by threads."""
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:

        def start(first: int) -> list[concurrent.futures.Future[Any]]:
            return [
                pool.submit(source.__getitem__, number) for number in span[first - span.start :][:batch_size]
            ]

        coming = start(span.start)
        for first in span[::batch_size]:
            records = [future.result() for future in coming]
            coming = start(first + batch_size)
            labels = np.array([record.get("label", 0) for record in records], np.int32)
            yield np.stack([record["image"] for record in records]), labels


def _write_json(path: Path, value: dict[str, Any]) -> None:
    write_atomic(path, json.dumps({**value, _DIGEST: body_digest(value)}, indent=2) + "\n")


def _save(path: Path, array: np.ndarray) -> str:
    with replacing(path) as file:
        np.save(file, array)
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256(path: Path) -> str:
    require_regular(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class CodeBatches:
    """Endless batches of cached codes, in the order in which `train_batches` gives the pictures.

    Args:
      cache: the codes.
      config: its batch_size.
      seed: of the order.
      position: of the next batch.
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
        """Does nothing: a cache holds no file open but by its maps."""
