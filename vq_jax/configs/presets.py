"""Experiments by name or by file: each is a Python file that exposes `config`."""

import importlib.util
import sys
from pathlib import Path

from vq_jax.configs.runs import ExperimentConfig, PriorConfig, RunConfig
from vq_jax.errors import UserError, nearest_names

DEFAULT_PRESET = "vqgan-photos"


def presets() -> dict[str, Path]:
    """The experiments that come with the package, by name."""
    package = Path(__file__).parents[1]
    # A wheel carries them inside the package; a checkout has them beside it.
    carried = package / "_experiments"
    directory = carried if carried.is_dir() else package.parent / "experiments"
    return {
        path.stem.replace("_", "-"): path
        for path in sorted(directory.glob("*.py"))
        if not path.stem.startswith("_")
    }


def load_experiment(name: str) -> RunConfig:
    """Reads an experiment.

    Args:
      name: of a preset, such as "vqvae-photos", or a path to a Python file.

    Raises:
      UserError: no such preset or file, or the file does not expose an `ExperimentConfig` or a `PriorConfig`.
    """
    known = presets()
    path = known.get(name.replace("_", "-"), Path(name))
    if path.suffix != ".py" or not path.is_file():
        what = "no such file" if path.suffix == ".py" else "unknown preset"
        raise UserError(
            f"{what} {name!r}{nearest_names(name, known)} (presets: {', '.join(known)}; "
            "or give a path to a Python file that exposes `config`)"
        )
    spec = importlib.util.spec_from_file_location(f"vq_jax_experiment_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} cannot be read as a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where the dataclasses of an experiment look up their types
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"{path} fails when it is run: {type(error).__name__}: {error}") from error
    config = getattr(module, "config", None)
    if not isinstance(config, ExperimentConfig | PriorConfig):
        raise UserError(
            f"{path} must expose `config`, an ExperimentConfig or PriorConfig; "
            f"it {'has none' if config is None else f'is a {type(config).__name__}'}"
        )
    return config
