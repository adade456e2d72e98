"""The commands of a tokenizer: `vq-jax reconstruct`, `vq-jax encode` and `vq-jax decode`."""

from pathlib import Path
from typing import TYPE_CHECKING

from vq_jax.cli.files import (
    Codes,
    OutputDir,
    OutputFile,
    Pictures,
    Run,
    output_names,
    read_codes,
    read_picture,
    write,
    write_codes,
)
from vq_jax.errors import UserError

if TYPE_CHECKING:
    from vq_jax.pretrained.tokenizer import Tokenizer


def reconstruct(run: Run, pictures: Pictures, output: OutputDir) -> int:
    """Send pictures through the codes and back; prints the PSNR.

    Args:
      run: run or model directory of a tokenizer.
      pictures: files of any format that Pillow reads.
      output: where to write NAME.png, each picture above its reconstruction.
    """
    from vq_jax.evaluate import psnr
    from vq_jax.runs.grids import comparison_grid, encode_png

    targets = [output / f"{name}.png" for name in output_names(pictures)]
    for target in targets:
        if any(target.resolve() == path.resolve() for path in pictures):
            raise UserError(f"{target} would overwrite a picture given; choose another -o DIR")
    tokenizer = _load_for(run, pictures)
    for path, target in zip(pictures, targets, strict=True):
        picture = read_picture(path, tokenizer)
        decoded = tokenizer.reconstruct(picture[None])[0]
        write(target, encode_png(comparison_grid([picture], [decoded])))
        print(f"{path}: PSNR {psnr(picture, decoded):.2f} dB, {target}")
    return 0


def encode(run: Run, pictures: Pictures, output: OutputFile) -> int:
    """Turn pictures into a file of codes.

    Args:
      run: run or model directory of a tokenizer.
      pictures: files of any format that Pillow reads.
      output: file to write: names, sizes (height, width), and codes_0, codes_1, ..., or codes_0.0, codes_0.1,
        ... where a picture has several grids.
    """
    import jax

    if not output.name or output.is_dir():
        raise UserError(f"expected a file to write for -o, got the directory {output}")
    tokenizer = _load_for(run, pictures)
    codes, sizes = [], []
    for path in pictures:
        picture = read_picture(path, tokenizer)
        codes.append(jax.tree.map(lambda grid: grid[0], tokenizer.encode(picture[None])))
        sizes.append(picture.shape[:-1])
        print(f"{path}: {sum(grid.size for grid in jax.tree.leaves(codes[-1]))} codes")
    target = output if output.suffix == ".npz" else output.with_name(output.name + ".npz")
    write_codes(target, output_names(pictures), sizes, codes)
    print(f"{len(pictures)} {'picture' if len(pictures) == 1 else 'pictures'}, {target}")
    return 0


def decode(run: Run, codes: Codes, output: OutputDir) -> int:
    """Turn a file of codes into pictures.

    Args:
      run: run or model directory of the tokenizer that made the codes.
      codes: file that `vq-jax encode` wrote.
      output: where to write NAME.png, one picture each.
    """
    import jax

    from vq_jax.pretrained.load_tokenizer import load_tokenizer
    from vq_jax.runs.grids import encode_png

    names, sizes, grids = read_codes(codes)
    tokenizer = load_tokenizer(run)
    # All are decoded before any is written: a bad one loses nothing.
    decoded = [
        tokenizer.decode(jax.tree.map(lambda grid: grid[None], of_picture), size=size)[0]
        for of_picture, size in zip(grids, sizes, strict=True)
    ]
    for name, picture in zip(names, decoded, strict=True):
        target = output / f"{name}.png"
        write(target, encode_png(picture))
        print(target)
    return 0


def _load_for(run: str, pictures: tuple[Path, ...]) -> "Tokenizer":
    """Loads a tokenizer and checks, before anything is written, that it takes all pictures."""
    from vq_jax.pretrained.load_tokenizer import load_tokenizer

    if not pictures:
        raise UserError("expected at least one picture file, got none")
    for path in pictures:
        if not path.is_file():
            raise UserError(f"no such picture: {path}")
    tokenizer = load_tokenizer(run)
    for path in pictures:
        read_picture(path, tokenizer)
    return tokenizer
