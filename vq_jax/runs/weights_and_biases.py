"""Metrics of a run in Weights & Biases: a callback of `train`."""

from typing import Any

from vq_jax.errors import UserError


class WeightsAndBiases:
    """Logs each row of metrics; give it to `train(callbacks=[...])`.

    Args:
      project: name of the project.
      **settings: further arguments of `wandb.init`, such as `name`, `config` or `dir`.

    Raises:
      UserError: the package wandb is not installed.
    """

    def __init__(self, project: str, **settings: Any) -> None:
        try:
            import wandb
        except ImportError as error:
            raise UserError(
                'logging to Weights & Biases needs the package wandb: pip install "vq-jax[wandb]"'
            ) from error
        self._init = wandb.init
        self._settings = {"project": project, **settings}
        self._run: Any = None

    def __call__(self, step: int, row: dict[str, Any]) -> None:
        """Logs a row; the first one opens the run there."""
        if self._run is None:
            self._run = self._init(**self._settings)
        self._run.log(row, step=step)

    def close(self) -> None:
        """Sends what is left."""
        if self._run is not None:
            self._run.finish()
