"""A run on disk and its processes: checkpoints, kept codes, metrics, the report, signals."""
