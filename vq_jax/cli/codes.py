"""The commands of a tokenizer: `vq-jax reconstruct`, `vq-jax encode` and `vq-jax decode`."""

import operator
from pathlib import Path

from vq_jax.cli.files import (
    Codes,
    Force,
    OutputDir,
    OutputFile,
    Pictures,
    Run,
    read_codes,
    write,
    write_codes,
)
from vq_jax.cli.given_pictures import GivenPicture, PictureStream, find_pictures, load_for
from vq_jax.cli.targets import check_targets, numbered
from vq_jax.errors import UserError


def reconstruct(run: Run, pictures: Pictures, output: OutputDir) -> int:
    """Send pictures through the codes and back; prints the PSNR.

    Args:
      run: run or model directory of a tokenizer.
      pictures: picture files, or folders of them.
      output: where to write NAME.png, each picture above its reconstruction.
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
            batch, originals, tokenizer.reconstruct(originals), strict=False
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


def encode(run: Run, pictures: Pictures, output: OutputFile) -> int:
    """Turn pictures into a file of codes.

    Args:
      run: run or model directory of a tokenizer.
      pictures: picture files, or folders of them.
      output: file to write: names, files (their paths), sizes (height, width), and codes_0, codes_1, ..., or
        codes_0.0, codes_0.1, ... where a picture has several grids.
    """
    import jax

    if not output.name or output.is_dir():
        raise UserError(f"expected a file to write for -o, got the directory {output}")
    target = output if output.suffix == ".npz" else output.with_name(output.name + ".npz")
    given = find_pictures(pictures, output)
    check_targets([target], [picture.path for picture in given], run=run)
    tokenizer = load_for(run, given)
    stream, encoded, codes, sizes = PictureStream(given, tokenizer), [], [], []
    for batch, originals in stream:
        found = tokenizer.encode(originals)
        for row, picture in enumerate(batch):
            encoded.append(picture)
            codes.append(jax.tree.map(operator.itemgetter(row), found))
            sizes.append(originals.shape[1:-1])
            if not picture.listed:
                print(f"{picture.path}: {sum(grid.size for grid in jax.tree.leaves(codes[-1]))} codes")
    names, files = [picture.name for picture in encoded], [str(picture.path) for picture in encoded]
    write_codes(target, names, sizes, codes, files=files, tokenizer=tokenizer)
    print(f"{_counted(len(encoded), stream.left_out)}, {target}")
    return 0


def decode(run: Run, codes: Codes, output: OutputDir, force: Force = False) -> int:
    """Turn a file of codes into pictures.

    Args:
      run: run or model directory of the tokenizer that made the codes.
      codes: file that `vq-jax encode` wrote.
      output: where to write NAME.png, one picture each.
      force: decode codes that another tokenizer made.
    """
    import jax

    from vq_jax.pretrained.load_tokenizer import load_tokenizer
    from vq_jax.runs.grids import encode_png

    found = read_codes(codes)
    names, sizes, grids = numbered(found.names), found.sizes, found.codes
    targets = [output / f"{name}.png" for name in names]
    check_targets(targets, [codes], run=run)
    tokenizer = load_tokenizer(run)
    if not force:
        found.check(tokenizer, run, codes)
    # All are decoded before any is written: a bad one loses nothing.
    decoded = [
        tokenizer.decode(jax.tree.map(lambda grid: grid[None], of_picture), size=size)[0]
        for of_picture, size in zip(grids, sizes, strict=True)
    ]
    for target, picture in zip(targets, decoded, strict=True):
        write(target, encode_png(picture))
        print(target)
    return 0


def _target(output: Path, picture: GivenPicture) -> Path:
    return output / f"{picture.name}.png"


def _counted(count: int, left_out: int) -> str:
    words = f"{count} {'picture' if count == 1 else 'pictures'}"
    return f"{words} ({left_out} left out)" if left_out else words
