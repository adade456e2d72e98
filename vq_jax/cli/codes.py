"""The commands of a tokenizer: `vq-jax reconstruct`, `vq-jax encode` and `vq-jax decode`."""

import glob
import itertools
import math
import operator
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vq_jax.cli.files import (
    Codes,
    CodesFile,
    Force,
    OutputDir,
    OutputFile,
    Pictures,
    Run,
    ShardRows,
    Stages,
    read_codes,
    write,
    write_codes,
)
from vq_jax.cli.given_pictures import GivenPicture, PictureStream, find_pictures, load_for
from vq_jax.cli.targets import check_targets, numbered
from vq_jax.errors import UserError

_BATCH, _BATCH_PIXELS = 16, 2**22  # decoded at a time, at most; one picture may have more

if TYPE_CHECKING:
    from vq_jax.pretrained.tokenizer import Tokenizer


def reconstruct(run: Run, pictures: Pictures, output: OutputDir, stages: Stages = None) -> int:
    """Send pictures through the codes and back; prints the PSNR.

    Args:
      run: run or model directory of a tokenizer.
      pictures: picture files, or folders of them.
      output: where to write NAME.png, each picture above its reconstruction.
      stages: use the codes of so many stages or scales, the first ones; all when absent.
    """
    from vq_jax.evaluate import psnr
    from vq_jax.runs.grids import comparison_grid, encode_png

    given = find_pictures(pictures, output)
    check_targets(
        [_target(output, picture) for picture in given], [picture.path for picture in given], run=run
    )
    tokenizer = load_for(run, given)
    stream, figures = PictureStream(given, tokenizer), []
    for batch, originals in stream:
        for picture, original, decoded in zip(
            batch, originals, tokenizer.reconstruct(originals, stages=stages), strict=False
        ):
            target = _target(output, picture)
            write(target, encode_png(comparison_grid([original], [decoded])))
            figures.append(psnr(original, decoded))
            if not picture.listed:
                print(f"{picture.path}: PSNR {figures[-1]:.2f} dB, {target}")
    if any(picture.listed for picture in given):
        mean = sum(figures) / len(figures)
        print(f"{_counted(len(figures), stream.left_out)}: mean PSNR {mean:.2f} dB, {output}/")
    return 0


def encode(run: Run, pictures: Pictures, output: OutputFile, shard_rows: ShardRows = None) -> int:
    """Turn pictures into a file of codes, or several files.

    Args:
      run: run or model directory of a tokenizer.
      pictures: picture files, or folders of them.
      output: file to write: names, files (their paths), sizes (height, width), and codes_0, codes_1, ..., or
        codes_0.0, codes_0.1, ... where a picture has several grids.
      shard_rows: pictures of one file, at most: FILE-00000.npz, FILE-00001.npz and so on are written. All in
        FILE.npz when absent.
    """
    if not output.name or output.is_dir():
        raise UserError(f"expected a file to write for -o, got the directory {output}")
    target = output if output.suffix == ".npz" else output.with_name(output.name + ".npz")
    given = find_pictures(pictures, output)
    targets = _shards(target, len(given), shard_rows)
    check_targets(targets, [picture.path for picture in given], run=run)
    tokenizer = load_for(run, given)
    stream, count, written = PictureStream(given, tokenizer), 0, 0
    for part, free in zip(_parts(stream, tokenizer, shard_rows), targets, strict=False):
        names, files = [picture.name for picture, _, _ in part], [str(picture.path) for picture, _, _ in part]
        codes, sizes = [found for _, found, _ in part], [size for _, _, size in part]
        write_codes(free, names, sizes, codes, files=files, tokenizer=tokenizer)
        count, written = count + len(part), written + 1
    places = f"{targets[0]}" if shard_rows is None else f"{targets[0]} to {targets[written - 1].name}"
    print(f"{_counted(count, stream.left_out)}, {places}")
    return 0


def _shards(target: Path, count: int, rows: int | None) -> list[Path]:
    """The files that codes of so many pictures are written to."""
    if rows is None:
        return [target]
    there = sorted(target.parent.glob(f"{glob.escape(target.stem)}-[0-9][0-9][0-9][0-9][0-9].npz"))
    if there:
        raise UserError(
            f"{there[0]} is there already, and would not be told from the files of this call: remove those "
            f"of {target.stem}-*.npz, or choose another -o"
        )
    return [target.with_name(f"{target.stem}-{number:05}.npz") for number in range(-(-count // rows))]


def _parts(
    stream: PictureStream, tokenizer: "Tokenizer", rows: int | None
) -> "Iterator[list[tuple[GivenPicture, Any, tuple[int, ...]]]]":
    """Yields pictures with their codes and sizes, `rows` at a time; all together when absent."""
    import jax

    part: list[tuple[GivenPicture, Any, tuple[int, ...]]] = []
    for batch, originals in stream:
        found = tokenizer.encode(originals)
        for row, picture in enumerate(batch):
            codes = jax.tree.map(operator.itemgetter(row), found)
            part.append((picture, codes, originals.shape[1:-1]))
            if not picture.listed:
                print(f"{picture.path}: {sum(grid.size for grid in jax.tree.leaves(codes))} codes")
            if len(part) == rows:
                yield part
                part = []
    if part:
        yield part


def decode(run: Run, codes: Codes, output: OutputDir, force: Force = False, stages: Stages = None) -> int:
    """Turn files of codes into pictures.

    Args:
      run: run or model directory of the tokenizer that made the codes.
      codes: files that `vq-jax encode` wrote.
      output: where to write NAME.png, one picture each.
      force: decode codes that another tokenizer made.
      stages: use the codes of so many stages or scales, the first ones; all when absent.
    """
    from vq_jax.pretrained.load_tokenizer import load_tokenizer
    from vq_jax.runs.grids import encode_png

    if not codes:
        raise UserError("expected at least one file that `vq-jax encode` wrote, got none")
    files = [read_codes(path) for path in codes]
    names = iter(numbered(name for found in files for name in found.names))
    targets = [[output / f"{name}.png" for name in itertools.islice(names, len(f.names))] for f in files]
    check_targets(itertools.chain(*targets), codes, run=run)
    tokenizer = load_tokenizer(run)
    for path, found in zip(codes, files, strict=True):
        if not force:
            found.check(tokenizer, run, path)
        # All are checked before any is written.
        for of_picture, size in zip(found.codes, found.sizes, strict=True):
            tokenizer.check_codes(_together([of_picture]), size, stages=stages)
    for found, places in zip(files, targets, strict=True):
        remaining = iter(places)
        for batch, size in _alike(found):
            for picture in tokenizer.decode(_together(batch), size, stages=stages):
                target = next(remaining)
                write(target, encode_png(picture))
                print(target)
    return 0


def _alike(found: CodesFile) -> Iterator[tuple[list[Any], tuple[int, ...]]]:
    """Yields the codes of pictures of one size, in their order: a whole batch, or one where fewer follow."""
    import jax

    def layout(numbered: tuple[Any, tuple[int, ...]]) -> Any:
        of_picture, size = numbered
        return size, [grid.shape for grid in jax.tree.leaves(of_picture)]

    for (size, _), pictures in itertools.groupby(zip(found.codes, found.sizes, strict=True), layout):
        codes = [of_picture for of_picture, _ in pictures]
        rows = max(1, min(_BATCH, _BATCH_PIXELS // math.prod(size)))
        whole = len(codes) - len(codes) % rows
        starts = [*range(0, whole, rows), *range(whole, len(codes))]
        for first, last in zip(starts, [*starts[1:], len(codes)], strict=True):
            yield codes[first:last], size


def _together(codes: list[Any]) -> Any:
    """The codes of several pictures, in arrays of a batch."""
    import jax
    import numpy as np

    return jax.tree.map(lambda *grids: np.stack(grids), *codes)


def _target(output: Path, picture: GivenPicture) -> Path:
    return output / f"{picture.name}.png"


def _counted(count: int, left_out: int) -> str:
    words = f"{count} {'picture' if count == 1 else 'pictures'}"
    return f"{words} ({left_out} left out)" if left_out else words
