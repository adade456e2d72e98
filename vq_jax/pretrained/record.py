"""What ties the run of a prior or a restorer to its tokenizer: a record of which it was, and where."""

import dataclasses
import json
import logging
import os

from etils import epath

from vq_jax.configs.data import DataConfig, ImageSize, height_and_width, image_size_of
from vq_jax.configs.presets import presets
from vq_jax.configs.runs import PriorConfig, RestorerConfig
from vq_jax.configs.serialize import check_header, header, specs_from_json, specs_to_json
from vq_jax.errors import UserError
from vq_jax.host.files import require_regular, write_atomic
from vq_jax.host.storage import require_storage
from vq_jax.pretrained.hub import is_hub_name
from vq_jax.pretrained.load_tokenizer import load_tokenizer
from vq_jax.pretrained.model_directory import TOKENIZER, open_model
from vq_jax.pretrained.tokenizer import Tokenizer
from vq_jax.runs.rundir import CONFIG_FILE
from vq_jax.types import CodeSpecs

_RECORD = "tokenizer.json"
_KIND = "tokenizer-record"
_log = logging.getLogger("vq_jax")


@dataclasses.dataclass(frozen=True)
class TokenizerRecord:
    """What a run keeps of its tokenizer: where it was, which it was, and what its codes are like."""

    path: str
    relative: str | None  # to the prior's run
    fingerprint: str
    step: int
    specs: CodeSpecs
    num_classes: int | None
    image_size: ImageSize
    frames: int | None = None  # of a clip; None: pictures

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths *S of what is encoded: pictures (H, W), or clips (T, H, W)."""
        size = height_and_width(self.image_size)
        return size if self.frames is None else (self.frames, *size)

    def write(self, workdir: epath.Path) -> None:
        """Writes it into the run, whole or not at all."""
        values = {**header(_KIND), **dataclasses.asdict(self), "specs": specs_to_json(self.specs)}
        write_atomic(workdir / _RECORD, json.dumps(values, indent=2) + "\n")


def read_record(workdir: epath.PathLike) -> TokenizerRecord | None:
    """Reads what a run keeps of its tokenizer; None where there is nothing yet.

    Raises:
      UserError: it cannot be read.
    """
    require_storage(workdir)
    path = epath.Path(workdir) / _RECORD
    if not path.exists():
        return None
    require_regular(path)
    try:
        values = json.loads(path.read_text())
        if "version" in values:
            check_header(values, (_KIND,), str(path))
        values = {name: value for name, value in values.items() if name not in ("kind", "version")}
        if "code_shape" in values:  # as it was with one grid, one code a position
            grid = {"shape": values.pop("code_shape"), "codebook_size": values.pop("codebook_size")}
            values["specs"] = grid
        values["image_size"] = image_size_of(values["image_size"])
        return TokenizerRecord(**{**values, "specs": specs_from_json(values["specs"])})
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def require_record(workdir: epath.PathLike) -> TokenizerRecord:
    """Reads what a run keeps of its tokenizer.

    Raises:
      UserError: there is nothing yet, or it cannot be read.
    """
    record = read_record(workdir)
    if record is None:
        raise UserError(f"{workdir} holds no checkpoint yet: let `vq-jax train` reach its first save")
    return record


def make_record(
    workdir: epath.Path,
    place: str,
    tokenizer: Tokenizer,
    num_classes: int | None,
    pictures: DataConfig,
    *,
    before: TokenizerRecord | None = None,
) -> TokenizerRecord:
    """Describes a tokenizer for a run over it.

    Args:
      workdir: the run over the tokenizer.
      place: where the tokenizer was found.
      tokenizer: it.
      num_classes: classes of the pictures; None for none.
      pictures: settings of the pictures, or clips, that are encoded.
      before: the record that the run has already. Its fingerprint, which may be by an earlier formula,
        stays: the run's data and code cache are known by it.
    """
    remote = "://" in place or "://" in os.fspath(workdir) or is_hub_name(place)
    return TokenizerRecord(
        path=place if remote else os.path.abspath(os.path.expanduser(place)),
        relative=None if remote else os.path.relpath(os.path.expanduser(place), workdir),
        fingerprint=tokenizer.fingerprint if before is None else before.fingerprint,
        step=tokenizer.step,
        specs=tokenizer.code_specs(pictures.lengths),
        num_classes=num_classes,
        image_size=pictures.image_size,
        frames=pictures.frames,
    )


def given_tokenizer(
    workdir: epath.Path, config: PriorConfig | RestorerConfig, before: TokenizerRecord | None
) -> Tokenizer:
    """Loads the tokenizer of a run that begins, or the one that it began with.

    Args:
      workdir: the run.
      config: its configuration.
      before: the record that the run has already; None for one that begins.

    Raises:
      UserError: none is given, or it is missing, or another one, or one of clips where only pictures will do.
    """
    if before is not None:
        return find_tokenizer(workdir, config, before)
    if not config.tokenizer:
        raise UserError(
            f"expected a tokenizer whose codes the {config.called} learns: give --tokenizer RUN, a directory "
            "that `vq-jax train` wrote, or a model directory"
        )
    name = os.path.basename(config.tokenizer.rstrip("/"))
    missing = "://" not in config.tokenizer and not os.path.exists(os.path.expanduser(config.tokenizer))
    if missing and name in presets():
        raise UserError(
            f"the tokenizer {config.tokenizer} is not there yet: train it first with `vq-jax train {name}`, "
            "or give the run of another with --tokenizer RUN"
        )
    tokenizer = load_tokenizer(config.tokenizer)
    frames = tokenizer.config.data.frames
    if frames is not None and not config.of_clips:
        raise UserError(
            f"expected a tokenizer of pictures for a {config.called}, the one in {config.tokenizer} was "
            f"trained on clips (data.frames = {frames}): give another --tokenizer"
        )
    return tokenizer


def find_tokenizer(
    workdir: epath.PathLike,
    config: PriorConfig | RestorerConfig,
    record: TokenizerRecord,
    *,
    given: epath.PathLike | None = None,
) -> Tokenizer:
    """Finds the tokenizer that a model was trained on: the copy in its run or, in runs from before
    there were copies, where the configuration says, where it was then, or where it would be if both runs were
    moved together.

    Args:
      workdir: the run over the tokenizer.
      config: its configuration.
      record: of the tokenizer.
      given: the only place to look at, if the user names one.

    Raises:
      UserError: it is not there, or what is there gives other codes.
    """
    if given is not None:
        return load_same_tokenizer(given, record.fingerprint, workdir, prefer_step=record.step)
    places = [os.fspath(epath.Path(workdir) / TOKENIZER), config.tokenizer, record.path]
    if record.relative is not None:
        places.append(os.path.normpath(os.path.join(workdir, record.relative)))
    found: list[UserError] = []
    missing = f"there is no run in {' or '.join(dict.fromkeys(places[1:]))}"
    for place in dict.fromkeys(places):
        of_hub = is_hub_name(place)
        if not of_hub:
            require_storage(place)
        there = bool(place) and not of_hub and (epath.Path(place) / CONFIG_FILE).exists()
        if not there and not of_hub:
            continue
        try:
            return load_same_tokenizer(place, record.fingerprint, workdir, prefer_step=record.step)
        except UserError as error:
            if there:
                found.append(error)
            else:  # a name of the hub, or a path like one
                missing = str(error)
    if found:
        raise found[0]
    raise UserError(
        f"the tokenizer of the {config.called} in {workdir} is missing: {missing}; say where it is with "
        "--tokenizer"
    )


def load_same_tokenizer(
    place: epath.PathLike, fingerprint: str, model: epath.PathLike, *, prefer_step: int | None = None
) -> Tokenizer:
    """Loads the tokenizer of a prior or a restorer.

    Args:
      place: where it is.
      fingerprint: of the one that the model was trained on.
      model: where the model is, for the message.
      prefer_step: of a run, the checkpoint of this step if there is one.

    Raises:
      UserError: there is none, or it gives other codes.
    """
    tokenizer = load_tokenizer(place, prefer_step=prefer_step)
    if not tokenizer.has_fingerprint(fingerprint):
        raise UserError(
            f"the tokenizer in {place} is not the one that the model in {model} was trained on and gives "
            "other codes: say with --tokenizer where that one is, or train another in a new --workdir"
        )
    return tokenizer


def keep_copy(workdir: epath.Path, tokenizer: Tokenizer) -> None:
    """Saves the tokenizer in a run over it, as a model directory, unless it is there."""
    place = workdir / TOKENIZER
    try:
        kept = open_model(place)
        same = kept is not None and load_tokenizer(place).has_fingerprint(tokenizer.fingerprint)
    except UserError as error:
        _log.warning("The copy of the tokenizer in %s cannot be used and is left alone: %s", place, error)
        return
    if not same:
        tokenizer.save(place)
