"""Registry of the kinds of run."""

from vq_jax.configs.runs import (
    ExperimentConfig,
    NoiseConfig,
    PriorConfig,
    RegressorConfig,
    RestorerConfig,
    RunConfig,
)

RUN_KINDS: dict[str, type[RunConfig]] = {
    cls.kind: cls for cls in (ExperimentConfig, PriorConfig, NoiseConfig, RestorerConfig, RegressorConfig)
}
