"""The commands that draw: `vq-jax sample` and `vq-jax inpaint`."""

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from vq_jax.cli.files import Dir, Run, read_picture, write
from vq_jax.cli.options import given_options, option_flags
from vq_jax.cli.targets import check_targets
from vq_jax.configs.fields import PATH
from vq_jax.errors import UserError
from vq_jax.host.files import require_regular

if TYPE_CHECKING:
    import numpy as np

    from vq_jax.pretrained.prior import Prior

Picture = Annotated[Path, PATH, tyro.conf.Positional, tyro.conf.arg(metavar="PICTURE")]
OutputPicture = Annotated[Path, PATH, tyro.conf.arg(name="output", aliases=["-o"], metavar="FILE.png")]
OutputDrawn = Annotated[Path, PATH, tyro.conf.arg(name="output", aliases=["-o"], metavar="FILE")]
Mask = Annotated[Path | None, PATH, tyro.conf.arg(metavar="MASK.png")]
Four = Annotated[str | None, tyro.conf.arg(metavar="X0,Y0,X1,Y1")]
_MOST = 10**7  # files in one folder
_FASTEST = 1000  # frames a second
_GRID, _GRID_BYTES = 1000, 2**28  # pictures in a grid
_NUM, _NUM_CLIPS = 16, 4  # drawn when no number is given
_FLAGS: Any = option_flags()
NO_FLAGS: Any = _FLAGS()
Flags = Annotated[_FLAGS, tyro.conf.arg(name="")]
Name = Annotated[str | None, tyro.conf.arg(metavar="CLASS")]
Names = Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="CLASS [CLASS ...]")]
Sides = Annotated[str | None, tyro.conf.arg(metavar="LEFT,TOP,RIGHT,BOTTOM")]


def sample(
    run: Run,
    output: OutputDrawn,
    num: int | None = None,
    label: Names = None,
    frames: int | None = None,
    fps: float = 8.0,
    seed: int = 0,
    tokenizer: Dir = None,
    options: Flags = NO_FLAGS,
) -> int:
    """Draw new pictures or clips from a trained prior: a grid, and each of them in a file.

    Args:
      run: directory that `vq-jax train` wrote for a prior.
      output: the grid to write: .png or, of clips, .mp4, .gif, or .png with strips of frames. The single
        pictures or clips go beside it, into a folder of the same name, in place of those that were drawn into
        it before.
      num: how many; 16 when absent, 4 clips.
      label: class to draw by name or number, or several in turn; every class in turn when absent.
      frames: of each clip; as in training when absent.
      fps: frames a second of .mp4 and .gif.
      seed: the same seed gives the same pictures.
      tokenizer: run or model directory of the prior's tokenizer; the prior's own copy of it when absent.
      options: how codes are drawn.
    """
    import itertools

    from vq_jax.pretrained.labels import by_name_or_number

    suffix = _check_drawn(output, fps)
    if num is not None and not 1 <= num <= _MOST:
        raise UserError(f"expected --num from 1 to {_MOST}, got {num}")
    folder = output.with_suffix("")
    most = _NUM if num is None else num
    before = [path for index, path in _drawn_before(folder, suffix).items() if 0 < index < most]
    check_targets([output, folder / _numbered(0, suffix), *before], run=run)
    prior = load_prior(run, tokenizer)
    if prior.frames is None:
        _check_output(output)
    count = num if num is not None else _NUM if prior.frames is None else _NUM_CLIPS
    classes = None if label is None else by_name_or_number(label, prior.class_names)
    batches = prior.sample_batches(
        max(count, len(classes or ())),
        labels=classes,
        frames=frames,
        seed=check_seed(seed),
        progress=True,
        **given_options(options),
    )
    shown: list[np.ndarray] = []  # millions do not fit into a grid
    drawn = (picture for batch in batches for picture in batch)
    for index, picture in enumerate(itertools.islice(drawn, count)):
        _write(folder / _numbered(index, suffix), picture, fps)
        if len(shown) < _GRID and picture.nbytes * len(shown) < _GRID_BYTES:
            shown.append(picture)
    _remove_from(folder, suffix, count)
    columns = prior.num_classes if prior.num_classes and label is None else math.isqrt(len(shown) - 1) + 1
    _write_grid(output, shown, min(columns, 20), fps)
    first = "" if len(shown) == count else f" (the first {len(shown)})"
    what = "picture" if prior.frames is None else "clip"
    print(f"{count} {what if count == 1 else f'{what}s'}, {output}{first} and {folder}/")
    return 0


def inpaint(
    run: Run,
    picture: Picture,
    output: OutputPicture,
    mask: Mask = None,
    box: Four = None,
    outpaint: Sides = None,
    label: Name = None,
    seed: int = 0,
    tokenizer: Dir = None,
    options: Flags = NO_FLAGS,
) -> int:
    """Fill a hole in a picture, or continue it beyond its edges, with a trained prior.

    Args:
      run: directory that `vq-jax train` wrote for a prior.
      picture: picture file, at least as large as the prior's pictures.
      output: picture to write.
      mask: picture of the same size: white where it is to be filled or, with transparency, strokes of any
        colour there, or a copy of the picture erased there.
      box: instead of a mask, the hole as x0,y0,x1,y1: pixels from the upper left, x1 and y1 excluded.
      outpaint: instead of a hole, pixels to add: left,top,right,bottom.
      label: class of the picture by name or number; none when absent.
      seed: the same seed gives the same picture.
      tokenizer: run or model directory of the prior's tokenizer; the prior's own copy of it when absent.
      options: how codes are drawn.
    """
    from vq_jax.pretrained.labels import by_name_or_number
    from vq_jax.runs.grids import encode_png

    _check_output(output)
    given = [
        name for name, value in (("mask", mask), ("box", box), ("outpaint", outpaint)) if value is not None
    ]
    if len(given) != 1:
        raise UserError(
            "expected one of --mask MASK.png, --box X0,Y0,X1,Y1 and --outpaint LEFT,TOP,RIGHT,BOTTOM, got "
            f"{' and '.join(f'--{name}' for name in given) or 'none'}"
        )
    if not picture.is_file():
        require_regular(picture)
        raise UserError(f"no such picture: {picture}")
    check_targets([output], [picture, *([] if mask is None else [mask])], run=run)
    prior = load_prior(run, tokenizer)
    whole = read_picture(picture, prior.tokenizer)
    classes = None if label is None else by_name_or_number([label], prior.class_names)
    arguments: dict[str, Any] = {"labels": classes, "seed": check_seed(seed), **given_options(options)}
    if outpaint is not None:
        left, top, right, bottom = _four(outpaint, "--outpaint LEFT,TOP,RIGHT,BOTTOM")
        filled = prior.outpaint(whole[None], left=left, top=top, right=right, bottom=bottom, **arguments)[0]
    else:
        hole = _read_mask(mask, whole) if mask is not None else _box(box or "", whole.shape[:2])
        filled = prior.inpaint(whole[None], hole[None], **arguments)[0]
    write(output, encode_png(filled))
    print(output)
    return 0


def load_prior(run: str, tokenizer: str | None) -> "Prior":
    from vq_jax.pretrained.load import load
    from vq_jax.pretrained.prior import Prior

    trained = load(run, tokenizer=tokenizer)
    if not isinstance(trained, Prior):
        raise UserError(
            f"{run} holds a {trained.config.called}, which cannot draw pictures: train a prior over a "
            "tokenizer's codes with vq-jax train prior-fashion --tokenizer RUN, and give the prior's run"
        )
    return trained


def _numbered(index: int, suffix: str) -> str:
    return f"{index:05}{suffix}"


def _drawn_before(folder: Path, suffix: str) -> dict[int, Path]:
    """What has the name of a drawn picture in a folder, by its number."""
    entries = folder.iterdir() if folder.is_dir() else ()
    numbered = (entry for entry in entries if re.fullmatch(rf"\d{{5,}}{re.escape(suffix)}", entry.name))
    return {int(entry.stem): entry for entry in numbered if entry.name == _numbered(int(entry.stem), suffix)}


def _remove_from(folder: Path, suffix: str, count: int) -> None:
    """Removes the pictures of a longer drawing, which would look like ones of this."""
    for index, path in _drawn_before(folder, suffix).items():
        if index >= count and path.is_file():
            path.unlink()


def _write(path: Path, drawn: "np.ndarray", fps: float) -> None:
    """Writes a picture, or a clip as its suffix says."""
    from vq_jax.runs.animations import write_video
    from vq_jax.runs.grids import encode_png

    if drawn.ndim == 4:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, drawn, fps)
    else:
        write(path, encode_png(drawn))


def _write_grid(path: Path, drawn: "list[np.ndarray]", columns: int, fps: float) -> None:
    """Writes pictures or clips beside and above each other; of clips, a .png has a strip of each."""
    import numpy as np

    from vq_jax.runs.grids import comparison_grid, picture_grid

    if drawn[0].ndim == 3:
        grid = picture_grid(drawn, columns)
    elif path.suffix.lower() == ".png":
        grid = comparison_grid(drawn)
    else:
        grid = np.stack([picture_grid(list(frames), columns) for frames in zip(*drawn, strict=True)])
    _write(path, grid, fps)


def _check_drawn(output: Path, fps: float) -> str:
    """Checks that what is drawn can be written; returns the suffix of the files."""
    from vq_jax.runs.animations import FORMATS

    suffix = output.suffix.lower()
    if suffix not in FORMATS:
        _check_output(output)
    if suffix == ".mp4":
        from vq_jax.data.video_file import require_av

        require_av()
    if not 0 < fps <= _FASTEST:
        raise UserError(f"expected --fps above 0, up to {_FASTEST}, got {fps}")
    return suffix


def _check_output(output: Path) -> None:
    if output.suffix.lower() != ".png":
        raise UserError(f"expected a .png file to write for -o, got {output}")


def check_seed(seed: int) -> int:
    if not 0 <= seed < 2**32:
        raise UserError(f"expected --seed from 0 to {2**32 - 1}, got {seed}")
    return seed


def _four(text: str, option: str) -> tuple[int, int, int, int]:
    try:
        first, second, third, fourth = (int(part) for part in text.split(","))
    except ValueError as error:
        raise UserError(f"expected four whole numbers for {option}, got {text!r}") from error
    return first, second, third, fourth


def _box(text: str, size: tuple[int, ...]) -> "np.ndarray":
    import numpy as np

    left, top, right, bottom = _four(text, "--box X0,Y0,X1,Y1")
    height, width = size
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise UserError(
            f"expected --box X0,Y0,X1,Y1 with X0 < X1 up to {width} and Y0 < Y1 up to {height}, the size of "
            f"the picture, got {text}"
        )
    hole = np.zeros((height, width), bool)
    hole[top:bottom, left:right] = True
    return hole


def _read_mask(path: Path, picture: "np.ndarray") -> "np.ndarray":
    from vq_jax.data import read_mask

    if not path.is_file():
        raise UserError(f"no such mask: {path}")
    try:
        return read_mask(path, picture)
    except Exception as error:  # of many kinds, Pillow's
        raise UserError(f"{path} cannot be read as a picture: {error or type(error).__name__}") from error
