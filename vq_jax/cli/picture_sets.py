"""Sets of pictures that a command compares: a folder of files, or an array in an .npz file."""

import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vq_jax.errors import UserError

if TYPE_CHECKING:
    import numpy as np

_BATCH = 32
_BATCH_PIXELS = 2**22  # of all pictures of a batch together
_THREADS = 4
_ARRAYS = ("arr_0", "images", "image")  # of pictures in an .npz file, in the order of preference


@dataclasses.dataclass(frozen=True, eq=False)
class PictureSet:
    """Pictures in their order.

    Attributes:
      place: where they are.
      names: of the pictures; in an .npz file, their numbers.
      read: from the number of a picture to its pixels, uint8 [H, W, C] or [T, H, W, C].
    """

    place: Path
    names: Sequence[str]
    read: "Callable[[int], np.ndarray]"

    def __len__(self) -> int:
        return len(self.names)


def open_set(place: Path, size: int | None = None) -> PictureSet:
    """Opens a set of pictures.

    Args:
      place: a folder, searched with its subfolders, in the order of the paths; or an .npz file with an array
        uint8 [N, H, W, C], or of clips [N, T, H, W, C], as `arr_0`, `images`, or alone.
      size: of picture files, the largest square in the middle is scaled to so many pixels; as they are when
        absent.

    Raises:
      UserError: there is none, it is empty, or it cannot be read.
    """
    if place.is_dir():
        return _folder(place, size)
    if place.suffix.lower() != ".npz":
        what = "does not exist" if not place.exists() else "is neither"
        raise UserError(f"expected a folder of pictures or an .npz file of pictures, {place} {what}")
    from vq_jax.data.npz import read_npz

    return _array(place, read_npz(place, "an .npz file of pictures", _ARRAYS), size)


def _folder(place: Path, size: int | None) -> PictureSet:
    from vq_jax import data
    from vq_jax.data.crops import held_out_windows
    from vq_jax.data.folder_index import list_pictures
    from vq_jax.data.pictures import read_crop

    names = [file.name for file in list_pictures(place).files]

    def read(number: int) -> "np.ndarray":
        path = place / names[number]
        try:
            if size is None:
                return data.read_picture(path, 3)

            def middle(height: int, width: int) -> Any:
                return held_out_windows(height, width, (size, size), "short-side", 1)[0]

            return read_crop(path, 3, middle, (size, size), False)
        except Exception as error:  # of many kinds, Pillow's
            raise UserError(
                f"{path} cannot be read as a picture ({error or type(error).__name__}): take it out, or "
                "mend it; figures of a set need all of it"
            ) from error

    return PictureSet(place, names, read)


def _array(place: Path, arrays: "dict[str, np.ndarray]", size: int | None) -> PictureSet:
    names = [name for name in _ARRAYS if name in arrays] or list(arrays)[:1]
    pictures = arrays[names[0]] if names else None
    if pictures is None or pictures.ndim not in (4, 5) or pictures.dtype != "uint8" or 0 in pictures.shape:
        got = "nothing" if pictures is None else f"{names[0]}, {pictures.dtype} {list(pictures.shape)}"
        raise UserError(
            f"expected pictures uint8 [N, H, W, C], or clips [N, T, H, W, C], named {' or '.join(_ARRAYS)} "
            f"in {place}, got {got}"
        )
    if size is not None and set(pictures.shape[-3:-1]) != {size}:
        raise UserError(f"--size is for picture files; those in {place} are {pictures.shape[-3:-1]}")
    return PictureSet(place, [str(number) for number in range(len(pictures))], lambda n: pictures[n])


def check_pairs(made: PictureSet, target: PictureSet) -> None:
    """Checks that two sets can be compared picture by picture.

    Raises:
      UserError: they have different numbers of pictures.
    """
    if len(made) != len(target):
        raise UserError(
            f"{made.place} has {len(made)} pictures and {target.place} has {len(target)}: as many are needed "
            "to compare them one by one, in the order of their names; fd, kd and prdc compare whole sets"
        )


def batches(sets: Sequence[PictureSet]) -> "Iterator[tuple[list[np.ndarray], int]]":
    """Reads sets of one length side by side, in bounded memory, and shows a bar.

    Yields:
      The pictures of each set, uint8 [B, *S, C], all of one shape, and how many of them count: the others
      repeat the last one, so that few sizes of batches are compiled.

    Raises:
      UserError: a picture cannot be read, or those that belong together have different shapes.
    """
    from tqdm import tqdm

    waiting: list[list[np.ndarray]] = []
    whole: set[tuple[int, ...]] = set()
    with tqdm(total=len(sets[0]), unit="picture", disable=None) as bar:
        for number, row in enumerate(_rows(sets)):
            if len({picture.shape for picture in row}) > 1:
                shapes = " and ".join(
                    f"{s.place / s.names[number]} {list(p.shape)}" for s, p in zip(sets, row, strict=True)
                )
                raise UserError(f"expected pictures of the same shape to compare one by one, got {shapes}")
            if waiting and (row[0].shape != waiting[0][0].shape or len(waiting) == _most(row[0])):
                yield _stacked(waiting, whole)
                bar.update(len(waiting))
                waiting = []
            waiting.append(row)
        yield _stacked(waiting, whole)
        bar.update(len(waiting))


def _rows(sets: Sequence[PictureSet]) -> "Iterator[list[np.ndarray]]":
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(sets[0]), _BATCH):
            numbers = range(start, min(start + _BATCH, len(sets[0])))
            yield from pool.map(lambda number: [some.read(number) for some in sets], numbers)


def _most(picture: "np.ndarray") -> int:
    return max(1, min(_BATCH, _BATCH_PIXELS // (picture.size // picture.shape[-1])))


def _stacked(
    waiting: "list[list[np.ndarray]]", whole: set[tuple[int, ...]]
) -> "tuple[list[np.ndarray], int]":
    """Batches of what waits, filled up to a size that is compiled already or to a power of two."""
    import numpy as np

    count, shape = len(waiting), waiting[0][0].shape
    if count == _most(waiting[0][0]):
        whole.add(shape)
    rows = _most(waiting[0][0]) if shape in whole else 1 << (count - 1).bit_length()
    filled = waiting + waiting[-1:] * (rows - count)
    return [np.stack([row[side] for row in filled]) for side in range(len(waiting[0]))], count
