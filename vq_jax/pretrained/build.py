"""Networks out of a run's configuration. Builds no optimizer and no discriminator."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen

from vq_jax.configs.models import make_architecture
from vq_jax.configs.runs import ExperimentConfig, PriorConfig, RegressorConfig, RestorerConfig
from vq_jax.errors import UserError
from vq_jax.host.dtypes import compute_dtype
from vq_jax.nn import ClosedLoopVQModel, Condition, NoiseGenerator, RegressorModel, RestorerModel, VQModel
from vq_jax.types import CodeSpecs, Params


def create_model(architecture: str, *, head: str = "picture", dtype: Any = None, **fields: Any) -> VQModel:
    """Makes a model by name; its `init` draws random weights.

    Args:
      architecture: a name of `configs.models.ARCHITECTURES`, such as "vqvae-residual".
      head: what the decoder outputs, see `nn.VQModel`.
      dtype: compute dtype; float32 when absent.
      **fields: fields of the architecture to override, such as codebook_size=1024.

    Raises:
      ValueError: unknown architecture or field, with the nearest ones.
    """
    return make_architecture(architecture, **fields).build(head=head, dtype=dtype)


def build_model(config: ExperimentConfig) -> VQModel:
    """Makes the model of a tokenizer's configuration.

    Raises:
      UserError: fields of the model or of its quantizer do not fit together.
    """
    try:
        return config.model.build(head=config.losses.head, dtype=compute_dtype(config.training.dtype))
    except ValueError as error:
        raise UserError(str(error)) from error


def image_shape(config: ExperimentConfig) -> tuple[int, ...]:
    """Shape (*S, C) of a training picture."""
    return (*config.data.lengths, config.model.image_channels)


def abstract_variables(config: ExperimentConfig, model: VQModel) -> Params:
    """Shapes of the variables of a tokenizer's model: `params`, and `codebook`, which may be empty."""
    pictures = jax.ShapeDtypeStruct((1, *image_shape(config)), jnp.float32)
    variables: Any = jax.eval_shape(lambda images: model.init(jax.random.key(0), images), pictures)
    return {"params": variables["params"], "codebook": variables.get("codebook", {})}


def build_prior(
    config: PriorConfig, specs: CodeSpecs, num_classes: int | None, tokenizer: ExperimentConfig
) -> linen.Module:
    """Makes the prior, or the noise generator, of a configuration.

    Args:
      config: of the prior's run.
      specs: of the codes that it models.
      num_classes: classes of the pictures; None for an unconditional prior.
      tokenizer: the configuration of the tokenizer that gives the codes.

    Raises:
      UserError: the configuration does not fit the codes.
    """
    fields: dict[str, Any] = {}
    if config.prior.needs_code_dim:
        fields["code_dim"] = tokenizer.model.latent_channels
    if config.prior.sees_frames:
        fields |= _frame_fields(config, tokenizer)
    try:
        return config.prior.build(specs, num_classes, compute_dtype(config.training.dtype), **fields)
    except ValueError as error:
        raise UserError(str(error)) from error


def _frame_fields(config: PriorConfig, tokenizer: ExperimentConfig) -> dict[str, Any]:
    """Fields of a prior that sees the tokenizer's decoded frames."""
    model = build_model(tokenizer)
    if not isinstance(model, ClosedLoopVQModel):
        raise UserError(
            f"the prior {config.prior.architecture} goes on from the frame decoded before: expected a "
            f"tokenizer such as vqvae-motion, got one of {tokenizer.model.architecture}; for that one, take "
            "masked-cnn or maskgit"
        )
    decoder: Any = model.decoder
    frame, view = decoder.view_widths
    return {"frame_features": frame, "view_features": view}


def build_restorer(
    config: RestorerConfig, tokenizer: ExperimentConfig, specs: CodeSpecs, scale: int
) -> RestorerModel | RegressorModel:
    """Makes the network of a restorer's or a regressor's configuration.

    Args:
      config: of the restorer's run.
      tokenizer: the configuration of its tokenizer.
      specs: of the tokenizer's codes.
      scale: how many times larger the output is than the input.

    Raises:
      UserError: the configuration does not fit the tokenizer.
    """
    dtype = compute_dtype(config.training.dtype)
    try:
        twin = tokenizer.model.build(head=tokenizer.losses.head, dtype=dtype)
        if isinstance(config, RegressorConfig):
            return config.restorer.build_regressor(twin, specs, scale, dtype)
        return config.restorer.build(build_model(tokenizer), twin, specs, scale, dtype)
    except ValueError as error:
        raise UserError(str(error)) from error


def abstract_restorer(model: RestorerModel | RegressorModel, image_shape: tuple[int, ...]) -> Params:
    """Shapes of the variables of a restorer, `params` without the tokenizer's, for clean pictures (*S, C)."""
    *spatial, channels = image_shape
    degraded = jax.ShapeDtypeStruct(
        (1, *(length // model.scale for length in spatial), channels), jnp.float32
    )
    variables: Any = jax.eval_shape(lambda images: model.init(jax.random.key(0), images), degraded)
    return {"params": {name: tree for name, tree in variables["params"].items() if name != "tokenizer"}}


def abstract_prior(model: linen.Module) -> Params:
    """Shapes of the variables of a prior or a noise generator: `params`."""
    prior: Any = model
    labels = None if prior.num_classes is None else jnp.zeros((1,), jnp.int32)

    def init() -> Any:
        if isinstance(prior, NoiseGenerator):
            inputs: Any = jnp.zeros((1, prior.noise_dim), jnp.float32)
        else:
            inputs = jax.tree.map(lambda spec: jnp.zeros((1, *spec.array_shape), jnp.int32), prior.code_specs)
        return prior.init(jax.random.key(0), inputs, Condition(labels))

    return {"params": jax.eval_shape(init)["params"]}
