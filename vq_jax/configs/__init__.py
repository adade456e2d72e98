"""Frozen dataclasses that describe a run and all its parts. None imports jax until something is built."""
