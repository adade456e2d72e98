"""Model directories: a trained model without its run, in `config.json` and `model.safetensors`.

`config.json` holds the configuration of the run, the step and the digest of the other file, which holds the
evaluation weights and the codebook by slash-joined paths such as `params/encoder/Conv_0/kernel`. The
directory of a prior holds its tokenizer's in `tokenizer/`. That of a converted model also holds what else its
file had, in `converted.safetensors`.
"""

import dataclasses
import hashlib
import json
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy
from etils import epath
from flax import traverse_util

from vq_jax.configs.runs import RunConfig
from vq_jax.configs.serialize import check_header, from_dict, header, to_dict
from vq_jax.errors import UserError
from vq_jax.host.files import is_temporary, require_regular, write_all
from vq_jax.host.storage import require_storage
from vq_jax.pretrained.hub import local_copy
from vq_jax.runs.rundir import CONFIG_FILE, read_config
from vq_jax.types import Params

WEIGHTS_FILE = "model.safetensors"
ORIGIN_FILE = "converted.safetensors"
TOKENIZER = "tokenizer"
_KIND = "model"


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a converted model comes from.

    Attributes:
      format: of the file that it was converted from, see `convert.formats`.
      dtypes: of the file's tensors that are not float32, by their names there.
      arrays: what the model has no use for and the way back needs, by slash-joined paths:
        `discriminator/params/...`, `discriminator/batch_stats/...` and `carried/NAME`.
      settings: plain values that files of the format have beside the tensors.
    """

    format: str
    dtypes: dict[str, str] = dataclasses.field(default_factory=dict)
    arrays: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)

    def tree(self, name: str) -> Params:
        """The arrays under a name, such as `discriminator`, as nested dictionaries; empty without any."""
        nested: Params = traverse_util.unflatten_dict(self.arrays, sep="/")
        return dict(nested.get(name, {}))


@dataclasses.dataclass(frozen=True)
class ModelDirectory:
    """What the `config.json` of a model directory says.

    Attributes:
      path: the directory.
      config: the configuration of the run.
      step: updates made.
      sha256: of the weights' file.
      codes: of a prior, what it needs to be built beside its configuration; empty for a tokenizer.
      converted: what `config.json` says of the file that the model was converted from; empty if it was not.
    """

    path: epath.Path
    config: RunConfig
    step: int
    sha256: str
    codes: dict[str, Any]
    converted: dict[str, Any] = dataclasses.field(default_factory=dict)

    def require_step(self, step: int | None) -> None:
        """Raises UserError where a step is asked for and the model is of another one."""
        if step not in (None, self.step):
            raise UserError(f"{self.path} holds the model of step {self.step} alone, not of step {step}")

    def weights(self, abstract: Params) -> Params:
        """Reads the weights.

        Args:
          abstract: their shapes and dtypes, nested dictionaries.

        Returns:
          The arrays, on the host.

        Raises:
          UserError: the file is missing, damaged, or of another model.
        """
        return _arranged(self._read(WEIGHTS_FILE, self.sha256), abstract, self.path / WEIGHTS_FILE)

    def origin(self) -> Origin | None:
        """Reads where a converted model comes from; None for one that was not converted.

        Raises:
          UserError: the file is missing or damaged.
        """
        if not self.converted:
            return None
        arrays = self._read(ORIGIN_FILE, self.converted["sha256"])
        settings = self.converted.get("settings", {})
        return Origin(self.converted["format"], self.converted["dtypes"], arrays, settings)

    def _read(self, name: str, sha256: str) -> dict[str, np.ndarray]:
        path = self.path / name
        require_regular(path)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
        if hashlib.sha256(content).hexdigest() != sha256:
            raise UserError(
                f"{path} is damaged or of another model: its digest is not the one in {CONFIG_FILE}; put "
                "back the file that was saved with it"
            )
        try:
            arrays: dict[str, np.ndarray] = safetensors.numpy.load(content)
        except (safetensors.SafetensorError, ValueError, KeyError) as error:
            raise UserError(f"{path} cannot be read as safetensors: {error}") from error
        return arrays


def _arranged(arrays: dict[str, np.ndarray], abstract: Params, path: epath.Path) -> Params:
    """The arrays as nested dictionaries like `abstract`; raises UserError where they are others."""
    wanted = traverse_util.flatten_dict(dict(abstract), keep_empty_nodes=True, sep="/")
    leaves = {name: leaf for name, leaf in wanted.items() if leaf is not traverse_util.empty_node}
    for name in [*leaves, *arrays]:
        shapes = [
            f"{tree[name].dtype} {list(tree[name].shape)}" if name in tree else "nothing"
            for tree in (leaves, arrays)
        ]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"{path} is of another model than {CONFIG_FILE} describes: expected {shapes[0]} for {name}, "
                f"got {shapes[1]}"
            )
    nested: Params = traverse_util.unflatten_dict({**wanted, **arrays}, sep="/")
    return nested


def open_model(place: epath.PathLike) -> ModelDirectory | None:
    """Opens a model directory; None where the place is not one.

    Raises:
      UserError: its `config.json` cannot be read.
    """
    directory = epath.Path(require_storage(place))
    path = directory / CONFIG_FILE
    if not _is_model(directory):
        return None
    try:
        values = json.loads(path.read_text())
        check_header(values, (_KIND,), str(path))
        return ModelDirectory(
            directory,
            from_dict(values["config"]),
            values["step"],
            values["weights"]["sha256"],
            values.get("codes", {}),
            values.get("converted", {}),
        )
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(f"{path} cannot be read as the configuration of a model: {error}") from error


def read_model_config(place: epath.PathLike) -> RunConfig:
    """Reads the configuration of a trained model.

    Args:
      place: a run or model directory, local or gs://, or hf://owner/name, a model of the hub.

    Raises:
      UserError: there is none, or it cannot be read.
    """
    directory = local_copy(place)
    saved = open_model(directory)
    return read_config(directory) if saved is None else saved.config


def _is_model(directory: epath.Path) -> bool:
    require_regular(directory / CONFIG_FILE)
    try:
        values = json.loads((directory / CONFIG_FILE).read_text())
    except (ValueError, OSError):
        return False
    return isinstance(values, dict) and values.get("kind") == _KIND


def model_files(
    config: RunConfig,
    step: int,
    variables: Params,
    codes: dict[str, Any] | None = None,
    origin: Origin | None = None,
) -> dict[str, bytes]:
    """The files of a model directory by their names.

    Args:
      config: the configuration of the run.
      step: updates made.
      variables: evaluation weights and codebook, nested dictionaries of arrays.
      codes: see `ModelDirectory`.
      origin: of a converted model.
    """
    flat = traverse_util.flatten_dict(dict(variables), sep="/")
    arrays = {name: np.asarray(leaf, order="C") for name, leaf in jax.device_get(flat).items()}
    content = safetensors.numpy.save(arrays)
    values = {
        **header(_KIND),
        "step": int(step),
        "config": to_dict(config),
        "weights": {"file": WEIGHTS_FILE, "sha256": hashlib.sha256(content).hexdigest()},
        **({"codes": codes} if codes else {}),
    }
    files = {WEIGHTS_FILE: content}
    if origin is not None:
        files[ORIGIN_FILE] = safetensors.numpy.save(origin.arrays)
        digest = hashlib.sha256(files[ORIGIN_FILE]).hexdigest()
        kept = {name: getattr(origin, name) for name in ("format", "dtypes", "settings")}
        values["converted"] = {**kept, "sha256": digest}
    return {**files, CONFIG_FILE: (json.dumps(values, indent=2) + "\n").encode()}


def write_model(place: epath.PathLike, files: dict[str, bytes]) -> None:
    """Writes a model directory whole or not at all.

    Args:
      place: local path or gs://; made if it does not exist. A model that is there is replaced.
      files: their contents by their names in the directory, those of `model_files` last to be renamed.

    Raises:
      UserError: the place holds something else, or cannot be written.
    """
    directory = epath.Path(require_storage(place))
    contents = {directory / name: content for name, content in files.items()}
    folders = {path.parent for path in contents}
    for folder in folders:
        _check_free(folder)
    try:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        write_all(contents)
    except OSError as error:
        raise UserError(
            f"cannot write the model directory {directory}: {error.strerror or error}; make room or choose "
            "another directory"
        ) from error


def _check_free(folder: epath.Path) -> None:
    """Raises UserError where a folder holds anything but a model, or what an interrupted save left."""
    if not folder.exists() or _is_model(folder):
        return
    if not folder.is_dir() or any(
        not (entry.name == TOKENIZER or is_temporary(entry.name)) for entry in folder.iterdir()
    ):
        raise UserError(f"{folder} exists and is not a model directory: choose an empty or new directory")
