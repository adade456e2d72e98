"""The command that measures a trained model: `vq-jax evaluate`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from vq_jax.cli.files import Run, write
from vq_jax.cli.targets import check_targets
from vq_jax.configs.fields import PATH
from vq_jax.configs.serialize import header
from vq_jax.errors import UserError

if TYPE_CHECKING:
    from vq_jax.configs.data import DataConfig
    from vq_jax.data.source import Batch
    from vq_jax.pretrained.prior import Prior
    from vq_jax.pretrained.restorer import Restorer
    from vq_jax.pretrained.tokenizer import Tokenizer

OutputJson = Annotated[Path | None, PATH, tyro.conf.arg(name="output", aliases=["-o"], metavar="FILE.json")]


def evaluate(run: Run, metrics: tuple[str, ...] = (), output: OutputJson = None) -> int:
    """Measure a trained model on its own held-out pictures; prints a table.

    Args:
      run: directory that `vq-jax train` wrote.
      metrics: of a tokenizer: reconstruction, codes and lpips; of a restorer: reconstruction, restoration and
        lpips; the first two when absent. A prior has only metrics of its own.
      output: JSON file to write the figures to.
    """
    from vq_jax.pretrained.load import load
    from vq_jax.pretrained.prior import Prior
    from vq_jax.pretrained.restorer import Restorer

    if output is not None and output.suffix.lower() != ".json":
        raise UserError(f"expected a .json file to write for -o, got {output}")
    if output is not None:
        check_targets([output], run=run)
    trained = load(run)
    if isinstance(trained, Prior):
        if metrics:
            raise UserError(f"{run} holds a prior, which has only metrics of its own: leave --metrics out")
        batches = _held_out(trained.config.data.resolve(trained.tokenizer.config.data), trained.tokenizer)
        figures = _prior_figures(trained, batches)
    elif isinstance(trained, Restorer):
        batches = _held_out(trained.config.data.resolve(trained.tokenizer.config.data), trained.tokenizer)
        figures = _restorer_figures(trained, batches, metrics)
    else:
        batches = _held_out(trained.config.data, trained)
        figures = _tokenizer_figures(trained, batches, metrics)
    pictures = sum(int(batch["valid"].sum()) for batch in batches)
    print(f"{trained.config.name}, step {trained.step}, {pictures} held-out pictures")
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"  {name:{width}}  {value:.5g}")
    if output is not None:
        report = {
            **header("evaluation"),
            "run": run,
            "name": trained.config.name,
            "step": trained.step,
            "pictures": pictures,
            "figures": figures,
        }
        write(output, (json.dumps(report, indent=2) + "\n").encode())
        print(output)
    return 0


def _held_out(config: "DataConfig", tokenizer: "Tokenizer") -> "list[Batch]":
    from vq_jax.data import all_test_batches, open_source

    source = open_source(config.source, "test", config, tokenizer.channels)
    return all_test_batches(source, config, batch_size=config.batch_size)


def _tokenizer_figures(
    tokenizer: "Tokenizer", batches: "list[Batch]", metrics: tuple[str, ...]
) -> dict[str, float]:
    import functools

    import jax

    from vq_jax.evaluate import DEFAULT_EVALUATORS, Setup, evaluate, evaluation_step, make_evaluators

    config, model, variables = tokenizer.config, tokenizer.model, tokenizer.variables
    setup = Setup(model.code_specs(batches[0]["image"].shape[1:]), config.losses.reconstruction)
    try:
        evaluators = make_evaluators(metrics or DEFAULT_EVALUATORS, setup)
    except ValueError as error:
        raise UserError(str(error)) from error
    starts = zip(config.phase_starts(), config.phases, strict=True)
    kind = [phase.kind for start, phase in starts if start < tokenizer.step][-1]
    step = jax.jit(
        functools.partial(evaluation_step, model=model, evaluators=evaluators, quantize=kind != "autoencoder")
    )
    params, codebook = variables["params"], variables.get("codebook", {})
    return evaluate(lambda batch: step(params, codebook, batch), batches, evaluators).figures


def _restorer_figures(
    restorer: "Restorer", batches: "list[Batch]", metrics: tuple[str, ...]
) -> dict[str, float]:
    import functools

    import jax

    from vq_jax.evaluate import evaluate, restoration_evaluators, restoration_step

    try:
        evaluators = restoration_evaluators(metrics, restorer.config.losses.reconstruction)
    except ValueError as error:
        raise UserError(str(error)) from error
    step = jax.jit(functools.partial(restoration_step, model=restorer.model, evaluators=evaluators))
    params, frozen = restorer.variables["params"], restorer.tokenizer.variables
    return evaluate(lambda batch: step(params, frozen, batch), batches, evaluators).figures


def _prior_figures(prior: "Prior", batches: "list[Batch]") -> dict[str, float]:
    """Figures as those that the run's own evaluation gives."""
    for batch in batches:
        batch["codes"] = prior.tokenizer.encode(batch.pop("image"))
    # A prior that a discriminator trains has no loss, and so no likelihood.
    return (_likelihood if hasattr(prior.model, "loss") else _code_distance)(prior, batches)


def _likelihood(prior: "Prior", batches: "list[Batch]") -> dict[str, float]:
    import functools

    import jax
    import jax.numpy as jnp

    from vq_jax.evaluate import Likelihood, evaluate
    from vq_jax.nn import Condition
    from vq_jax.train.steps.prior import prior_evaluation

    step = jax.jit(functools.partial(prior_evaluation, prior_model=prior.model))

    def sums(numbered: tuple[int, Any]) -> dict[str, Any]:
        number, batch = numbered
        labels = batch["label"] if prior.num_classes is not None else None
        codes, labels, valid = jax.tree.map(jnp.asarray, (batch["codes"], labels, batch["valid"]))
        rng = jax.random.fold_in(jax.random.key(0), number)
        state = step(prior.variables["params"], codes, Condition(labels), valid, rng)
        return {"codes": jax.tree.map(float, state)}  # added up in float64

    return evaluate(sums, enumerate(batches), {"codes": Likelihood()}).figures


def _code_distance(prior: "Prior", batches: "list[Batch]") -> dict[str, float]:
    from vq_jax import evaluate

    evaluators = {"codes": evaluate.CodeDistance(prior.model.code_specs)}

    def sums(numbered: tuple[int, Any]) -> dict[str, Any]:
        number, batch = numbered
        labels = batch["label"] if prior.num_classes is not None else None
        drawn = prior.sample_codes(len(batch["valid"]), labels=labels, seed=number)
        return evaluate.sums(evaluators, batch, drawn)

    return evaluate.evaluate(sums, enumerate(batches), evaluators).figures
