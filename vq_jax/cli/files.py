"""What the commands share: their arguments, and the files that they read and write."""

import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import tyro

from vq_jax.configs.fields import MODEL, PATH
from vq_jax.configs.serialize import check_header, header
from vq_jax.errors import UserError
from vq_jax.host.files import write_all
from vq_jax.ranges import COUNT

if TYPE_CHECKING:
    import numpy as np

    from vq_jax.pretrained.tokenizer import Tokenizer

Run = Annotated[str, MODEL, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
Pictures = Annotated[
    tuple[Annotated[Path, PATH], ...],
    tyro.conf.Positional,
    tyro.conf.arg(metavar="PICTURE|VIDEO|FOLDER [...]"),
]
Codes = Annotated[
    tuple[Annotated[Path, PATH], ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE.npz [...]")
]
ShardRows = Annotated[int | None, COUNT, tyro.conf.arg(metavar="N")]
OutputDir = Annotated[Path, PATH, tyro.conf.arg(name="output", aliases=["-o"], metavar="DIR")]
OutputFile = Annotated[Path, PATH, tyro.conf.arg(name="output", aliases=["-o"], metavar="FILE.npz")]
Force = Annotated[bool, tyro.conf.FlagCreatePairsOff]
_KIND = "codes"
_NAMED = 5  # missing arrays in a message
_FINGERPRINT, _MADE_BY = "tokenizer", "made_by"
Stages = Annotated[int | None, COUNT, tyro.conf.arg(metavar="N")]
Dir = Annotated[str | None, tyro.conf.arg(metavar="DIR")]


def read_picture(path: Path, tokenizer: "Tokenizer") -> "np.ndarray":
    """Reads a picture that the tokenizer takes, uint8 [H, W, C].

    Raises:
      UserError: it cannot be read, or the tokenizer does not take such pictures.
    """
    from vq_jax import data

    try:
        picture = data.read_picture(path, tokenizer.channels, data.Reading.of(tokenizer.config.data))
    except Exception as error:  # of many kinds, Pillow's
        raise UserError(f"{path} cannot be read as a picture: {error or type(error).__name__}") from error
    try:
        tokenizer.check(picture[None])
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return picture


def write_codes(
    target: Path,
    names: list[str],
    sizes: Sequence[tuple[int, ...]],
    codes: Sequence[Any],
    *,
    files: Sequence[str] = (),
    tokenizer: "Tokenizer | None" = None,
    rates: Sequence[float] = (),
) -> None:
    """Writes a file of codes.

    Args:
      target: the .npz file.
      names: of the pictures.
      sizes: their height and width in pixels; of videos frames, height and width.
      codes: of each picture, int32 [*s], or a tuple of such grids.
      files: paths of the pictures, for those who look for them.
      tokenizer: that made the codes: its fingerprint is kept with them.
      rates: of videos, their frames a second.
    """
    import numpy as np

    arrays: dict[str, Any] = {name: np.array(value) for name, value in header(_KIND).items()}
    arrays |= {"names": np.array(names), "sizes": np.array(sizes, np.int32), "files": np.array(files, str)}
    if rates:
        arrays["rates"] = np.array(rates, np.float64)
    if tokenizer is not None:
        arrays[_FINGERPRINT] = np.array(tokenizer.fingerprint)
        arrays[_MADE_BY] = np.array(f"{tokenizer.config.name}, step {tokenizer.step}")
    for index, grids in enumerate(codes):
        arrays |= {f"codes_{index}{end}": grid for end, grid in _ended(grids)}
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    write(target, file.getvalue())


def _ended(grids: Any) -> "list[tuple[str, np.ndarray]]":
    """The grids of a picture, each with the end of its name."""
    if isinstance(grids, tuple):
        return [(f".{number}", grid) for number, grid in enumerate(grids)]
    return [("", grids)]


class CodesFile(NamedTuple):
    """What a file of codes holds.

    Attributes:
      names: of the pictures.
      sizes: their height and width in pixels; of videos frames, height and width.
      codes: of each picture, an array or a tuple of arrays.
      fingerprint: of the tokenizer that made them; empty in files from before it was kept.
      made_by: that tokenizer in words.
      rates: of videos, their frames a second.
    """

    names: list[str]
    sizes: list[tuple[int, ...]]
    codes: list[Any]
    fingerprint: str = ""
    made_by: str = ""
    rates: tuple[float, ...] = ()

    @property
    def of_videos(self) -> bool:
        """Whether the codes are of videos."""
        return bool(self.rates)

    def check(self, tokenizer: "Tokenizer", run: str, path: Path) -> None:
        """Checks that the codes are those of a tokenizer: another one of the same size decodes them to noise.

        Raises:
          UserError: another tokenizer made them.
        """
        if self.fingerprint and not tokenizer.has_fingerprint(self.fingerprint):
            raise UserError(
                f"the codes in {path} were made by another tokenizer ({self.made_by}) than the one in {run} "
                f"({tokenizer.config.name}, step {tokenizer.step}): give the run that made them, or --force"
            )


def read_codes(path: Path) -> CodesFile:
    """Reads a file that `vq-jax encode` wrote.

    Raises:
      UserError: it is not such a file, or cannot be read.
    """

    from vq_jax.data.npz import read_npz

    arrays = read_npz(path, "a file that `vq-jax encode` wrote")
    if "version" in arrays or "kind" in arrays:  # files from before have neither
        try:
            check_header({name: arrays[name].item() for name in ("kind", "version")}, (_KIND,), str(path))
        except (ValueError, KeyError) as error:
            raise UserError(f"expected a file that `vq-jax encode` wrote: {error}") from error
    missing = [name for name in ("names", "sizes") if name not in arrays]
    if missing:
        raise UserError(
            f"{path} has no {', '.join(missing)}: expected a file that `vq-jax encode` wrote; it has "
            f"{', '.join(arrays) or 'nothing'}"
        )
    names, sizes = arrays["names"], arrays["sizes"]
    rates = arrays.get("rates")
    axes = 2 if rates is None else 3
    if names.ndim != 1 or sizes.shape != (len(names), axes) or sizes.dtype.kind not in "iu":
        raise UserError(
            f"{path}: expected names [N] and integer sizes [N, {axes}], got {list(names.shape)} and "
            f"{sizes.dtype} {list(sizes.shape)}"
        )
    if rates is not None and not (
        rates.shape == names.shape and rates.dtype.kind == "f" and (rates > 0).all()
    ):
        raise UserError(
            f"{path}: expected rates [N] above 0, frames a second, got {rates.dtype} {rates.shape}"
        )
    if (sizes < 1).any():
        raise UserError(f"{path}: expected sizes of at least 1 pixel, got {sizes.min()}")
    codes = [_grids_of(arrays, f"codes_{index}") for index in range(len(names))]
    missing = [f"codes_{index}" for index, grids in enumerate(codes or [None]) if grids is None]
    if missing:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise UserError(f"{path} names {len(names)} pictures and has no {', '.join(missing[:_NAMED])}{more}")
    files = [Path(str(name)).name for name in names]
    wrong = [str(name) for name, file in zip(names, files, strict=True) if not file or "\0" in file]
    if wrong:
        raise UserError(f"{path}: expected names that a file can have, got {wrong[0]!r}")
    return CodesFile(
        files,
        [tuple(size) for size in sizes.tolist()],
        codes,
        str(arrays.get(_FINGERPRINT, "")),
        str(arrays.get(_MADE_BY, "")),
        () if rates is None else tuple(rates.tolist()),
    )


def _grids_of(arrays: "dict[str, np.ndarray]", key: str) -> Any:
    """The codes of a picture: an array, a tuple of arrays, or None where there are none."""
    numbered = (arrays.get(f"{key}.{number}") for number in itertools.count())
    grids = tuple(itertools.takewhile(lambda grid: grid is not None, numbered))
    return arrays.get(key, grids or None)


def write(target: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    write_together({target: content})


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Writes files whole: none takes its place before all are on the disk."""
    try:
        for target in contents:
            target.parent.mkdir(parents=True, exist_ok=True)
        write_all({target: content for target, content in contents.items()})
    except OSError as error:
        names = " and ".join(map(str, contents))
        raise UserError(f"cannot write {names}: {error.strerror or error}") from error
