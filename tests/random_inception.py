"""Random weights of feature networks: the published ones are not there to test with."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vq_jax.nn.features.inception import inception_shapes


def random_inception() -> dict[str, np.ndarray]:
    """The tensors of Inception of 2015."""
    return random_tensors(inception_shapes())


def random_tensors(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Tensors by their names in PyTorch, under which activations neither vanish nor grow."""
    rng = np.random.default_rng(0)
    found = {}
    for name, shape in shapes.items():
        std = np.sqrt(2.0 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
        mean = 1.0 if name.endswith(("bn.weight", "running_var")) else 0.0
        found[name] = (mean + std * rng.standard_normal(shape)).astype(np.float32)
        if name.endswith("running_var"):
            found[name] = np.abs(found[name]) + np.float32(0.1)
    return found


def save_for_torch(tensors: dict[str, np.ndarray], path: Path) -> Path:
    """Writes a state dict as the published file is, with the counts of batches."""
    import torch

    state = {name: torch.from_numpy(array) for name, array in tensors.items()}
    for name in [name for name in state if name.endswith("running_var")]:
        state[name.replace("running_var", "num_batches_tracked")] = torch.tensor(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)
    return path
