"""The command that shares a model: `vq-jax push`."""

from pathlib import Path
from typing import Annotated

import tyro

from vq_jax.cli.files import Force, Run
from vq_jax.configs.fields import PATH
from vq_jax.ranges import COUNT

_Name = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OWNER/NAME")]
_Figures = Annotated[Path | None, PATH, tyro.conf.arg(metavar="FILE.json")]
_Step = Annotated[int | None, COUNT, tyro.conf.arg(metavar="N")]
_License = Annotated[str | None, tyro.conf.arg(metavar="ID")]


def push(
    run: Run,
    name: _Name,
    figures: _Figures = None,
    license: _License = None,
    step: _Step = None,
    private: Force = False,
) -> int:
    """Upload a model to the Hugging Face hub, with a model card; needs the extra hub and a token.

    Args:
      run: model directory, or run, of which the checkpoint with the lowest validation loss is uploaded. A
        README.md in a model directory is uploaded as the card.
      name: of the model on the hub, which is made if it is not there.
      figures: file that `vq-jax evaluate RUN -o FILE.json` wrote of this model, for the card.
      license: for the card, such as apache-2.0.
      step: of a run, upload the checkpoint of this step.
      private: make a repository that others do not see.
    """
    from vq_jax.pretrained.upload import push as upload

    print(upload(run, name, step=step, figures=figures, license=license, private=private))
    return 0
