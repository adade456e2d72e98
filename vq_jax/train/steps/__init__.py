"""Training steps: pure functions from states and batch to states and metrics."""
