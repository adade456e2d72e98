"""Training: state, optimizers, steps, the run."""
