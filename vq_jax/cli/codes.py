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
from vq_jax.cli.given_videos import (
    Encoded,
    GivenVideos,
    are_videos,
    check_video_codes,
    decode_videos,
    encoded_videos,
    load_for_videos,
    reconstruct_videos,
)
from vq_jax.cli.targets import check_targets, numbered
from vq_jax.errors import UserError

_BATCH, _BATCH_PIXELS = 16, 2**22  # decoded at a time, at most; one picture may have more

if TYPE_CHECKING:
    from vq_jax.pretrained.tokenizer import Tokenizer


def reconstruct(run: Run, pictures: Pictures, output: OutputDir, stages: Stages = None) -> int:
    """Send pictures or videos through the codes and back; prints the PSNR.

    Args:
      run: run or model directory of a tokenizer.
      pictures: picture files, or folders of them; video files, or folders of them.
      output: where to write NAME.png, each picture above its reconstruction, or NAME.mp4.
      stages: of pictures, use the codes of so many stages or scales, the first ones; all when absent.
    """
    from vq_jax.evaluate import psnr
    from vq_jax.runs.grids import comparison_grid, encode_png

    if are_videos(pictures):
        return _reconstruct_videos(run, pictures, output, stages)
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


def _reconstruct_videos(run: str, places: tuple[Path, ...], output: Path, stages: int | None) -> int:
    if stages is not None:
        raise UserError("--stages is for pictures, got videos: omit it")
    videos = GivenVideos(places)
    targets = [output / f"{video.name}.mp4" for video in videos.given]
    check_targets(targets, [video.path for video in videos.given], run=run)
    figures = reconstruct_videos(load_for_videos(run), videos, output)
    if len(figures) > 1:
        mean = sum(figures) / len(figures)
        print(f"{_counted(len(figures), videos.left_out, 'video')}: mean PSNR {mean:.2f} dB, {output}/")
    return 0


def encode(run: Run, pictures: Pictures, output: OutputFile, shard_rows: ShardRows = None) -> int:
    """Turn pictures or videos into a file of codes, or several files.

    Args:
      run: run or model directory of a tokenizer.
      pictures: picture files, or folders of them; video files, or folders of them.
      output: file to write: names, files (their paths), sizes (height, width; of videos frames before them,
        and rates), and codes_0, codes_1, ..., or codes_0.0, codes_0.1, ... where a picture has several grids.
      shard_rows: pictures of one file, at most: FILE-00000.npz, FILE-00001.npz and so on are written. All in
        FILE.npz when absent.
    """
    if not output.name or output.is_dir():
        raise UserError(f"expected a file to write for -o, got the directory {output}")
    target = output if output.suffix == ".npz" else output.with_name(output.name + ".npz")
    videos = GivenVideos(pictures) if are_videos(pictures) else None
    given = find_pictures(pictures, output) if videos is None else videos.given
    targets = _shards(target, len(given), shard_rows)
    check_targets(targets, [picture.path for picture in given], run=run)
    count, written = 0, 0
    if videos is None:
        tokenizer = load_for(run, given)
        stream = PictureStream(given, tokenizer)
        found = _encoded(stream, tokenizer)
    else:
        tokenizer = load_for_videos(run)
        found = encoded_videos(tokenizer, videos)
    for part, free in zip(_parts(found, shard_rows), targets, strict=False):
        names, files = [picture.name for picture, _, _ in part], [str(picture.path) for picture, _, _ in part]
        codes, sizes = [grids for _, grids, _ in part], [size for _, _, size in part]
        rates = [] if videos is None else [videos.rates[name] for name in names]
        write_codes(free, names, sizes, codes, files=files, tokenizer=tokenizer, rates=rates)
        count, written = count + len(part), written + 1
    words = _counted(count, stream.left_out) if videos is None else _counted(count, videos.left_out, "video")
    places = f"{targets[0]}" if shard_rows is None else f"{targets[0]} to {targets[written - 1].name}"
    print(f"{words}, {places}")
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


def _encoded(stream: PictureStream, tokenizer: "Tokenizer") -> Iterator[Encoded]:
    """Yields pictures with their codes and sizes; prints the number of codes of those that were named."""
    import jax

    for batch, originals in stream:
        found = tokenizer.encode(originals)
        for row, picture in enumerate(batch):
            codes = jax.tree.map(operator.itemgetter(row), found)
            if not picture.listed:
                print(f"{picture.path}: {sum(grid.size for grid in jax.tree.leaves(codes))} codes")
            yield picture, codes, originals.shape[1:-1]


def _parts(found: Iterator[Encoded], rows: int | None) -> Iterator[list[Encoded]]:
    """Yields pictures with their codes and sizes, `rows` at a time; all together when absent."""
    while part := list(itertools.islice(found, rows)):
        yield part


def decode(run: Run, codes: Codes, output: OutputDir, force: Force = False, stages: Stages = None) -> int:
    """Turn files of codes into pictures or videos.

    Args:
      run: run or model directory of the tokenizer that made the codes.
      codes: files that `vq-jax encode` wrote.
      output: where to write NAME.png, one picture each, or NAME.mp4, one video each.
      force: decode codes that another tokenizer made.
      stages: of pictures, use the codes of so many stages or scales, the first ones; all when absent.
    """
    from vq_jax.pretrained.load_tokenizer import load_tokenizer
    from vq_jax.runs.grids import encode_png

    if not codes:
        raise UserError("expected at least one file that `vq-jax encode` wrote, got none")
    files = [read_codes(path) for path in codes]
    names = iter(numbered(name for found in files for name in found.names))
    targets = [
        [
            output / f"{name}.{'mp4' if f.of_videos else 'png'}"
            for name in itertools.islice(names, len(f.names))
        ]
        for f in files
    ]
    if stages is not None and any(found.of_videos for found in files):
        raise UserError("--stages is for codes of pictures, got those of videos: omit it")
    check_targets(itertools.chain(*targets), codes, run=run)
    any_video = any(found.of_videos for found in files)
    tokenizer = load_for_videos(run) if any_video else load_tokenizer(run)
    for path, found in zip(codes, files, strict=True):
        if not force:
            found.check(tokenizer, run, path)
        if found.of_videos:
            check_video_codes(tokenizer, found, path)
            continue
        # All are checked before any is written.
        for of_picture, size in zip(found.codes, found.sizes, strict=True):
            tokenizer.check_codes(_together([of_picture]), size, stages=stages)
    for found, places in zip(files, targets, strict=True):
        if found.of_videos:
            decode_videos(tokenizer, found, places)
            continue
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


def _counted(count: int, left_out: int, what: str = "picture") -> str:
    words = f"{count} {what}{'s' * (count != 1)}"
    return f"{words} ({left_out} left out)" if left_out else words
