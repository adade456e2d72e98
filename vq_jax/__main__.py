"""`python -m vq_jax` is the program `vq-jax`."""

import sys

from vq_jax.cli import program

if __name__ == "__main__":
    sys.exit(program())
