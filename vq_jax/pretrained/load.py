"""Models by name, and trained models from their run directory."""

from typing import Any

from etils import epath

from vq_jax.configs.models import make_architecture
from vq_jax.configs.runs import PriorConfig
from vq_jax.nn import VQModel
from vq_jax.pretrained.load_prior import load_prior
from vq_jax.pretrained.prior import Prior
from vq_jax.pretrained.restore import load_tokenizer
from vq_jax.pretrained.tokenizer import Tokenizer
from vq_jax.runs.rundir import read_config


def create_model(architecture: str, *, head: str = "picture", dtype: Any = None, **fields: Any) -> VQModel:
    """Makes a model by name, with random weights to come from its `init`.

    Args:
      architecture: a name of `configs.models.ARCHITECTURES`, such as "vqvae-residual".
      head: what the decoder puts out, see `nn.VQModel`.
      dtype: compute dtype; float32 when absent.
      **fields: fields of the architecture to override, such as codebook_size=1024.

    Raises:
      ValueError: unknown architecture or field, with the nearest ones.
    """
    return make_architecture(architecture, **fields).build(head=head, dtype=dtype)


def load(run: epath.PathLike, *, best: bool = False) -> Tokenizer | Prior:
    """Loads a trained model: a tokenizer, or a prior with its tokenizer.

    Args:
      run: a run directory, local or gs://.
      best: take the checkpoint with the lowest validation loss rather than the newest.

    Raises:
      UserError: no run directory, or no whole checkpoint in it; or the tokenizer that a prior was trained on
        is missing or gives other codes.
    """
    config = read_config(run)
    if isinstance(config, PriorConfig):
        return load_prior(run, config, best=best)
    return load_tokenizer(run, best=best)
