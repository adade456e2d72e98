"""Experiments, by name or by file: Python files that define `config`."""

import importlib.util
import os
import sys
from pathlib import Path

from vq_jax.configs.registry import RUN_KINDS
from vq_jax.configs.runs import RunConfig
from vq_jax.errors import UserError, nearest_names
from vq_jax.host.storage import checked_path

DEFAULT_PRESET = "vqgan-photos"


def presets() -> dict[str, Path]:
    """Returns the files of the experiments that come with the package, by name."""
    package = Path(__file__).parents[1]
    # They are inside the package in a wheel, and beside it in a checkout.
    carried = package / "_experiments"
    directory = carried if carried.is_dir() else package.parent / "experiments"
    return {
        path.stem.replace("_", "-"): path
        for path in sorted(directory.glob("*.py"))
        if not path.stem.startswith("_")
    }


def load_preset(name: str) -> RunConfig:
    """Loads the configuration of an experiment.

    Args:
      name: name of a preset, such as "vqvae-photos", or a path to a Python file.

    Raises:
      UserError: no such preset or file, or the file fails or does not define `config` as the
        configuration of a run.
    """
    known = presets()
    path = known.get(name.replace("_", "-")) or Path(checked_path(name, "an experiment"))
    if path.suffix != ".py" or not path.is_file():
        what = "no such file" if path.suffix == ".py" else "unknown preset"
        near = nearest_names(name, known)
        which = "vq-jax --help lists the presets" if near else f"presets: {', '.join(known)}"
        raise UserError(
            f"{what} {name!r}{near} ({which}; or give a path to a Python file that defines `config`)"
        )
    spec = importlib.util.spec_from_file_location(f"vq_jax_experiment_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} cannot be loaded as a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # the file's dataclasses look up their types here
    process = os.getpid()
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: the file describes a run, and does not end the program
        what = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise UserError(f"{path} fails when it is run: {what}") from error
    finally:
        if os.getpid() != process:  # the file forked: its copy of the program is no second run
            os._exit(1)
    config = getattr(module, "config", None)
    if not isinstance(config, RunConfig):
        kinds = [cls.__name__ for cls in RUN_KINDS.values()]
        raise UserError(
            f"{path} must define `config`, one of {', '.join(kinds)}; "
            f"it {'does not' if config is None else f'is a {type(config).__name__}'}"
        )
    return config
