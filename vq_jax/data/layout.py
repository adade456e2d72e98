"""What the folders in a folder of pictures mean: splits, classes, and what belongs to neither.

`understand` works on paths alone. Folders named after a split, in any case and with the usual additions
(`Training`, `test_set`, `val2017`), are that split, also inside each class folder or below folders that hold
everything. Where several are to be held out, the first whose pictures have the classes of the training
pictures is.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

Parts = tuple[str, ...]
"""A path's folders and its file name."""

_TRAIN = "train"
_ROLES = {
    **dict.fromkeys(("train", "training", "trn", "trainval"), _TRAIN),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("dev", "eval", "evaluation", "heldout", "holdout"), "held-out"),
}
_HELD_OUT = ("test", "validation", "held-out")  # the first is preferred
# Words in a folder's name that say nothing about the pictures in it.
_WORDLESS = frozenset(
    "set sets data dataset datasets split splits image images img imgs picture pictures photo photos pics "
    "jpg jpeg jpegs jpegimages png seg folder dir all".split()
)
_MAX_LOOSE = 0.1  # share of pictures beside the class folders that does not cost the others their labels


class Part(NamedTuple):
    """The pictures of a split: their numbers and, where they have classes, the names of those."""

    files: list[int]
    classes: list[str] | None


class Layout(NamedTuple):
    """What the pictures of a folder are.

    Attributes:
      train: the pictures to train on, or all of them where `test` is None.
      test: the folder's own held-out pictures.
      class_names: names of the classes of both, in the order of their numbers; None without classes.
      left_out: the pictures that belong to neither, in words.
    """

    train: Part
    test: Part | None
    class_names: tuple[str, ...] | None
    left_out: tuple[str, ...]


def understand(names: Sequence[str], what: str = "picture") -> Layout:
    """Finds the splits and classes of pictures by their paths.

    Args:
      names: paths of all pictures, relative to the folder, with forward slashes.
      what: what they are, in a word.
    """
    paths = {number: tuple(name.split("/")) for number, name in enumerate(names)}
    for _ in range(_common_depth(list(paths.values()))):
        paths = {number: path[1:] for number, path in paths.items()}
    roles, others = _by_role(paths)
    if _TRAIN not in roles or len(roles) == 1:
        return _layout(_classified(roles.get(_TRAIN) or paths), None, others if roles else {}, what)
    train = _classified(roles.pop(_TRAIN))
    known = set(train.part.classes or [])
    held_out = {role: _classified(roles[role], known) for role in _HELD_OUT if role in roles}
    fitting = (role for role, found in held_out.items() if not known or _has_classes(found.part, known))
    chosen = next(fitting, None)
    for role in held_out.keys() - {chosen}:
        others |= {number: paths[number] for number in roles[role]}
    return _layout(train, held_out[chosen] if chosen else None, others, what)


class _Classified(NamedTuple):
    part: Part
    loose: list[int]  # pictures beside the class folders


def _layout(train: _Classified, test: _Classified | None, others: dict[int, Parts], what: str) -> Layout:
    loose = len(train.loose) + (len(test.loose) if test is not None and train.part.classes else 0)
    held_out = None
    if test is not None:  # without classes to learn, the folders of the held-out pictures mean nothing
        held_out = test.part if train.part.classes else Part(sorted([*test.part.files, *test.loose]), None)
    classes = [*(train.part.classes or []), *((held_out and held_out.classes) or [])]
    folders = Counter(path[0] if len(path) > 1 else "" for path in others.values())
    loose += folders.pop("", 0)
    left_out = [f"{counted(count, what)} in {name}/" for name, count in sorted(folders.items())]
    if loose:
        left_out.append(f"{counted(loose, what)} beside the folders")
    return Layout(train.part, held_out, in_order(classes) if classes else None, tuple(left_out))


def in_order(classes: Sequence[str]) -> tuple[str, ...]:
    """Returns the different names of classes in their order, where all are numbers: 2 before 10."""
    different = sorted(set(classes))
    if all(name.isdecimal() for name in different):
        different.sort(key=int)
    return tuple(different)


def counted(count: int, what: str) -> str:
    """Says how many of what, in words."""
    return f"{count} {what}{'s' if count != 1 else ''}"


def _has_classes(part: Part, known: set[str]) -> bool:
    return part.classes is not None and 2 * sum(name in known for name in part.classes) >= len(part.files)


def _classified(paths: dict[int, Parts], known: set[str] | None = None) -> _Classified:
    """Finds the classes of one split: the first folders of its pictures, if nearly all lie in folders.

    Folders around everything do not count, unless the first folders are classes that are known already.
    """
    depths = range(_common_depth(list(paths.values())) + 1)
    found = [_classified_at(depth, paths) for depth in (depths if known else depths[-1:])]
    return next((split for split in found if known and _has_classes(split.part, known)), found[-1])


def _classified_at(depth: int, paths: dict[int, Parts]) -> _Classified:
    first = {number: path[depth] if len(path) > depth + 1 else None for number, path in paths.items()}
    loose = [number for number, folder in first.items() if folder is None]
    classes = {number: folder for number, folder in first.items() if folder is not None}
    tolerated = max(1.0, _MAX_LOOSE * len(paths)) if len(set(classes.values())) > 1 else 0
    if len(loose) > tolerated or not classes:
        return _Classified(Part(list(paths), None), [])
    return _Classified(Part(list(classes), list(classes.values())), loose)


def _common_depth(paths: list[Parts]) -> int:
    """Counts the folders around everything that are neither a class nor one of several splits."""
    depth = 0
    while True:
        below = {path[depth:] for path in paths}
        first = {path[0] for path in below}
        if len(first) != 1 or any(len(path) < 2 for path in below):
            return depth
        (name,), inside = first, {path[1] if len(path) > 2 else None for path in below}
        several = None not in inside and len(inside) > 1
        is_split = role_of(name) is not None or any(role_of(folder or "") == _TRAIN for folder in inside)
        is_wordless = bool(_words(name)) and set(_words(name)) <= _WORDLESS
        if not (several or is_split or is_wordless):
            return depth
        depth += 1


def _by_role(paths: dict[int, Parts]) -> tuple[dict[str, dict[int, Parts]], dict[int, Parts]]:
    """Groups pictures by the split that a folder's name says, and returns those that lie in no split.

    The names are those of the first folders or, where each of these holds its own splits, of the second.
    """
    folders = {path[0] for path in paths.values() if len(path) > 1}
    found = {name: role_of(name) for name in folders}
    if not _are_splits(found) and set(found.values()) != {_TRAIN}:
        # A name such as `DIV2K_train_HR` counts only where all have one: a class may be `train station`.
        found = {name: _role_of_a_word(name) for name in folders}
        found = {} if None in found.values() or not _are_splits(found) else found
    if found:
        return _grouped(paths, lambda path: found.get(path[0]) if len(path) > 1 else None, 0)
    inner = {
        name: {path[1]: role_of(path[1]) for path in paths.values() if path[0] == name and len(path) > 2}
        for name in folders
    }
    if len(folders) > 1 and all(map(_are_splits, inner.values())):
        return _grouped(paths, lambda path: role_of(path[1]) if len(path) > 2 else None, 1)
    return {}, {}


def _are_splits(roles: dict[str, str | None]) -> bool:
    meant = set(roles.values()) - {None}
    return _TRAIN in meant and len(meant) > 1


def _grouped(
    paths: dict[int, Parts], role: Callable[[Parts], str | None], place: int
) -> tuple[dict[str, dict[int, Parts]], dict[int, Parts]]:
    roles: dict[str, dict[int, Parts]] = {}
    others: dict[int, Parts] = {}
    for number, path in paths.items():
        meant = role(path)
        if meant is None:
            others[number] = path
        else:
            roles.setdefault(meant, {})[number] = (*path[:place], *path[place + 1 :])
    return roles, others


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", name.lower())


def role_of(name: str) -> str | None:
    """Returns the split that a folder's name says as a whole, such as `Training` or `test_set`."""
    words = [word for word in _words(name) if word not in _WORDLESS]
    whole = "".join(words)
    return _ROLES.get(whole, _ROLES.get(whole.removesuffix("set")))


def _role_of_a_word(name: str) -> str | None:
    found = {_ROLES[word] for word in _words(name) if word in _ROLES}
    return found.pop() if len(found) == 1 else None
