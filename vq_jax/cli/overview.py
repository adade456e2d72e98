"""What `vq-jax --help` prints."""

from collections.abc import Mapping

from vq_jax.configs.presets import DEFAULT_PRESET, presets

_END = """
for a start:
  vq-jax train vqvae-fashion
  vq-jax inspect runs/vqvae-fashion

Compiled programs are kept for the next start in ~/.cache/vq_jax/xla, or in the directory
JAX_COMPILATION_CACHE_DIR; JAX_ENABLE_COMPILATION_CACHE=false keeps none.

vq-jax COMMAND --help says more; vq-jax --version."""


def overview(commands: Mapping[str, str | None]) -> str:
    """Lists commands and presets.

    Args:
      commands: docstrings of the commands by name, of which the first lines are shown; None under python -OO.
    """
    lines = ["usage: vq-jax COMMAND ...", "", "Discrete codes for pictures: VQ-VAE and VQ-GAN in JAX.", ""]
    lines += [f"  {name:12} {(text or '').partition(chr(10))[0]}" for name, text in commands.items()]
    default = {DEFAULT_PRESET: f"{DEFAULT_PRESET} (the default)"}
    lines += ["", "presets for train:", *(f"  {default.get(name, name)}" for name in presets()), _END]
    return "\n".join(lines)
