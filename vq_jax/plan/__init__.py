"""A training step compiled for a TPU slice that is not here: does it fit, and how fast can it be."""
