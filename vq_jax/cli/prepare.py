"""The command that downloads data: `vq-jax prepare`."""

from typing import Annotated

import tyro

from vq_jax.cli.files import Dir

Name = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]


def prepare(name: Name, data_dir: Dir = None) -> int:
    """Download a tensorflow-datasets set and prepare it, once.

    Args:
      name: of the set, such as cifar10.
      data_dir: where to put it; tensorflow-datasets' own default when absent.
    """
    from vq_jax.data import prepare as prepare_set

    prepare_set(name, data_dir)
    return 0
