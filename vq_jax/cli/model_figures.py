"""Figures of a trained model on its own held-out pictures: tokenizers, restorers and priors."""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from vq_jax.cli.comparison import Comparison, batch_spread
from vq_jax.errors import UserError

if TYPE_CHECKING:
    from vq_jax.configs.data import DataConfig
    from vq_jax.data.source import Batch
    from vq_jax.evaluate.class_accuracy import ClassAccuracy
    from vq_jax.pretrained.prior import Prior
    from vq_jax.pretrained.restorer import Restorer
    from vq_jax.pretrained.tokenizer import Tokenizer


class HeldOut:
    """The held-out pictures of a run, batch by batch, with a bar.

    Args:
      config: of the data.
      tokenizer: that takes the pictures.
      limit: most pictures; those of the run's own evaluation when absent.

    Attributes:
      pictures: seen so far.
      source: the name of the data.
      shape: of a picture, or clip.
    """

    def __init__(self, config: "DataConfig", tokenizer: "Tokenizer", limit: int | None = None) -> None:
        from vq_jax.data import open_source, test_batches

        opened = open_source(config.source, "test", config, tokenizer.channels)
        limit = config.test_limit if limit is None else limit
        batches = test_batches(opened, config, batch_size=config.batch_size, limit=limit)
        first = next(batches)
        self.source, self.pictures = config.source, 0
        self.shape: tuple[int, ...] = first["image"].shape[1:]
        self._batches = itertools.chain([first], batches)

    def __iter__(self) -> "Iterator[Batch]":
        from tqdm import tqdm

        with tqdm(unit="picture", disable=None) as bar:
            for batch in self._batches:
                valid = int(batch["valid"].sum())
                self.pictures += valid
                yield batch
                bar.update(valid)

    def target(self, batch: "Batch") -> Any:
        """The pictures that models are to give, undegraded."""
        return batch.get("target", batch["image"])


def tokenizer_figures(
    tokenizer: "Tokenizer", held_out: HeldOut, names: tuple[str, ...], comparison: Comparison
) -> dict[str, float]:
    """Figures of reconstructions, by the names of evaluators, and of their set."""
    import jax

    from vq_jax.evaluate import DEFAULT_EVALUATORS, Setup, evaluate, make_evaluators, reconstruction_step

    config, model, variables = tokenizer.config, tokenizer.model, tokenizer.variables
    setup = Setup(model.code_specs(held_out.shape), config.losses.reconstruction)
    chosen = names or (() if comparison.metrics else DEFAULT_EVALUATORS)
    try:
        evaluators = make_evaluators(chosen, setup)
    except ValueError as error:
        raise UserError(str(error)) from error
    starts = zip(config.phase_starts(), config.phases, strict=True)
    # a converted model has taken no step
    kind = [phase.kind for start, phase in starts if start < max(tokenizer.step, 1)][-1]
    compiled = jax.jit(
        functools.partial(
            reconstruction_step, model=model, evaluators=evaluators, quantize=kind != "autoencoder"
        )
    )
    params, codebook = variables["params"], variables.get("codebook", {})
    spread = batch_spread()
    perturb = None
    if comparison.wants_perturbed:
        perturb, comparison.perturbation = _perturbation(tokenizer, setup.specs, kind)

    def step(batch: "Batch") -> dict[str, Any]:
        valid = int(batch["valid"].sum())
        whole = spread is not None and len(batch["valid"]) % spread.num_devices == 0
        states, made = compiled(params, codebook, jax.device_put(batch, spread) if whole else batch)
        if comparison.metrics:
            comparison.add(jax.device_get(made), valid)
        if perturb is not None:
            comparison.add_perturbed(perturb(batch, held_out.pictures - valid), valid)
        if comparison.wants_reference:
            comparison.add_reference(held_out.target(batch), valid)
        return states

    try:
        return evaluate(step, held_out, evaluators).figures
    except UserError:
        raise
    except ValueError as error:  # an evaluator's, of pictures that it does not take
        raise UserError(str(error)) from error


def _perturbation(tokenizer: "Tokenizer", specs: Any, phase: str) -> tuple[Callable[..., Any], str]:
    """From a batch and the number of its first picture to pictures of perturbed codes; and how, in words."""
    import jax
    import numpy as np

    from vq_jax.evaluate import perturbed_codes

    if phase == "autoencoder":
        raise UserError("expected codes to perturb, the quantizer was bypassed until this step")
    try:
        spec = perturbed_codes.check_perturbable(specs)
    except ValueError as error:
        raise UserError(str(error)) from error
    model = tokenizer.model
    variables = tokenizer.variables["params"], tokenizer.variables.get("codebook", {})
    table = jax.jit(functools.partial(perturbed_codes.codes_table, model=model, spec=spec))(*variables)
    compiled = jax.jit(functools.partial(perturbed_codes.perturbation_step, model=model))

    def perturb(batch: "Batch", first: int) -> Any:
        images = {"image": batch["image"]}
        return jax.device_get(compiled(*variables, images, table, np.int32(first)))

    return perturb, perturbed_codes.perturbation(spec)


def restorer_figures(
    restorer: "Restorer", held_out: HeldOut, names: tuple[str, ...], comparison: Comparison
) -> dict[str, float]:
    """Figures of restored pictures, by the names of evaluators."""
    import jax

    from vq_jax.evaluate import evaluate, restoration_evaluators, restoration_step

    if comparison.metrics:
        raise UserError(
            f"expected metrics of restored pictures for a restorer, got {comparison.metrics[0].name}: write "
            "them with vq-jax restore, and compare the folders"
        )
    try:
        evaluators = restoration_evaluators(names, restorer.config.losses.reconstruction)
    except ValueError as error:
        raise UserError(str(error)) from error
    step = jax.jit(functools.partial(restoration_step, model=restorer.model, evaluators=evaluators))
    params, frozen = restorer.variables["params"], restorer.tokenizer.variables
    return evaluate(lambda batch: step(params, frozen, batch), held_out, evaluators).figures


def prior_figures(prior: "Prior", held_out: HeldOut) -> dict[str, float]:
    """Figures as those that the run's own evaluation gives."""

    def coded() -> "Iterator[tuple[int, Batch]]":
        for number, batch in enumerate(held_out):
            batch["codes"] = prior.tokenizer.encode(batch.pop("image"))
            yield number, batch

    # A prior that a discriminator trains has no loss, and so no likelihood.
    return (_likelihood if hasattr(prior.model, "loss") else _code_distance)(prior, coded())


def draw(
    prior: "Prior",
    held_out: HeldOut,
    comparison: Comparison,
    counted: "ClassAccuracy | None",
    num: int | None,
) -> None:
    """Draws `num` pictures, or as many as are held out, every class in turn; compares them with those, and
    counts what a classifier takes them for."""
    import numpy as np
    from tqdm import tqdm

    for batch in held_out if comparison.wants_reference or num is None else ():
        if comparison.wants_reference:
            comparison.add_reference(held_out.target(batch), int(batch["valid"].sum()))
    num = held_out.pictures if num is None else num
    with tqdm(total=num, unit="picture", disable=None) as bar:
        for pictures in prior.sample_batches(num):
            if comparison.metrics:
                comparison.add(pictures, len(pictures))
            if counted is not None:
                counted.add(pictures, np.arange(counted.total, counted.total + len(pictures)))
            bar.update(len(pictures))


def _likelihood(prior: "Prior", batches: "Iterator[tuple[int, Batch]]") -> dict[str, float]:
    import jax
    import jax.numpy as jnp

    from vq_jax.evaluate import Likelihood, evaluate
    from vq_jax.nn import Condition
    from vq_jax.train.steps.prior import prior_evaluation

    step = jax.jit(functools.partial(prior_evaluation, prior_model=prior.model))
    views = jax.jit(functools.partial(prior.tokenizer.model.apply, method="views"))

    def sums(numbered: "tuple[int, Batch]") -> dict[str, Any]:
        number, batch = numbered
        labels = batch["label"] if prior.num_classes is not None else None
        codes, labels, valid = jax.tree.map(jnp.asarray, (batch["codes"], labels, batch["valid"]))
        rng = jax.random.fold_in(jax.random.key(0), number)
        seen = views(prior.tokenizer.variables, codes) if prior.config.prior.sees_frames else None
        state = step(prior.variables["params"], codes, Condition(labels, features=seen), valid, rng)
        return {"codes": jax.tree.map(float, state)}  # added up in float64

    return evaluate(sums, batches, {"codes": Likelihood()}).figures


def _code_distance(prior: "Prior", batches: "Iterator[tuple[int, Batch]]") -> dict[str, float]:
    from vq_jax import evaluate

    evaluators: Any = {"codes": evaluate.CodeDistance(prior.model.code_specs)}

    def sums(numbered: tuple[int, Any]) -> dict[str, Any]:
        number, batch = numbered
        labels = batch["label"] if prior.num_classes is not None else None
        drawn = prior.sample_codes(len(batch["valid"]), labels=labels, seed=number)
        return evaluate.sums(evaluators, batch, drawn)

    return evaluate.evaluate(sums, batches, evaluators).figures
