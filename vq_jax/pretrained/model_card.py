"""Model cards: what stands on a model's page of the Hugging Face hub."""

import math
from collections.abc import Mapping
from typing import Any

import jax
from etils import epath

from vq_jax.configs.serialize import check_header
from vq_jax.data.source import printable
from vq_jax.errors import UserError
from vq_jax.host.files import read_json
from vq_jax.pretrained.build import image_shape
from vq_jax.pretrained.prior import Prior
from vq_jax.pretrained.restorer import Restorer
from vq_jax.pretrained.tokenizer import Tokenizer
from vq_jax.runs.rundir import read_metrics
from vq_jax.types import CodeSpec

Model = Tokenizer | Prior | Restorer
_FOLDERS = ("folder", "arrays", "frames", "video")  # sources that are places on one machine


def model_card(
    trained: Model, name: str, figures: list[str], *, license: str | None = None, converted: str | None = None
) -> str:
    """Returns the README.md of a model: the hub's header, what the model is, how to load it, its figures.

    Args:
      trained: the model.
      name: owner/name.
      figures: lines, of `measured_figures` or `own_figures`; none where it has none.
      license: identifier of the hub, such as `apache-2.0`; left out when absent.
      converted: the format of the file that it was converted from.
    """
    rows = {"step": str(trained.step)} if converted is None else {"converted from": f"a file of {converted}"}
    rows = _rows(trained, converted is not None) | rows
    called = trained.config.called
    begin = "An" if called[0] in "aeiou" else "A"
    lines = [
        "---",
        "library_name: vq_jax",
        *([] if license is None else [f"license: {license}"]),
        "tags:",
        *(f"- {tag}" for tag in ("vq_jax", "jax", *_tags(trained))),
        "---",
        "",
        f"# {printable(trained.config.name)}",
        "",
        f"{begin} {called} {_purpose(trained)}, for vq_jax (JAX and Flax).",
        "",
        "| | |",
        "|---|---|",
        *(f"| {left} | {printable(right)} |" for left, right in rows.items()),
        "",
        'Load it, with `pip install "vq-jax[hub]"`:',
        "",
        "```python",
        "import vq_jax",
        "",
        *_loading(trained, name),
        "```",
        "",
        "## Figures",
        "",
        *(figures or ["None were measured: `vq-jax evaluate` measures them."]),
    ]
    return "\n".join(lines) + "\n"


def own_figures(run: epath.PathLike, step: int) -> list[str]:
    """Returns the lines of the figures that a run measured of its held-out pictures at a step; none without.

    Args:
      run: its directory.
      step: of the checkpoint.
    """
    row = {name: value for row in read_metrics(run) if row["step"] == step for name, value in row.items()}
    kept = {
        name.removeprefix("validation/"): value
        for name, value in row.items()
        if name.startswith("validation/") and not isinstance(value, str)
    }
    if not kept:
        return []
    return [f"On its held-out pictures, measured by the run at step {step}:", "", *_table(kept)]


def measured_figures(path: epath.PathLike, trained: Model) -> list[str]:
    """Returns the lines of the figures that `vq-jax evaluate RUN -o FILE.json` wrote.

    Args:
      path: the file.
      trained: the model that they are to be of.

    Raises:
      UserError: it cannot be read, or has the figures of another model or step.
    """
    try:
        values: Any = read_json(path)
        check_header(values, ("evaluation",), str(path))
        measured, figures = (values.get("name"), values.get("step")), dict(values["figures"])
        numbers = {str(name): float(value) for name, value in figures.items()}
        computed = [str(line) for line in values.get("computed", [])]
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise UserError(f"expected figures that `vq-jax evaluate RUN -o FILE.json` wrote: {error}") from error
    if measured != (trained.config.name, trained.step):
        raise UserError(
            f"{path} has the figures of {measured[0]}, step {measured[1]}, and the model is "
            f"{trained.config.name}, step {trained.step}: evaluate that one"
        )
    about = f"By `vq-jax evaluate`, {values.get('pictures')} held-out pictures:"
    return [about, "", *_table(numbers), *([""] if computed else []), *(f"- {line}" for line in computed)]


def _table(figures: Mapping[str, float]) -> list[str]:
    return [
        "| figure | value |",
        "|---|---|",
        *(f"| {name} | {value:.5g} |" for name, value in figures.items()),
    ]


def _tokenizer(trained: Model) -> Tokenizer:
    return trained if isinstance(trained, Tokenizer) else trained.tokenizer


def _grids(trained: Model) -> list[CodeSpec]:
    tokenizer = _tokenizer(trained)
    specs = trained.model.code_specs if isinstance(trained, Prior) else None
    found: list[CodeSpec] = jax.tree.leaves(specs or tokenizer.model.code_specs(_shape(trained)))
    return found


def _shape(trained: Model) -> tuple[int, ...]:
    """Of a picture that the model gives or takes, or clip."""
    tokenizer = _tokenizer(trained)
    return (
        (*trained.lengths, tokenizer.channels)
        if isinstance(trained, Prior)
        else image_shape(tokenizer.config)
    )


def _rows(trained: Model, converted: bool) -> dict[str, str]:
    tokenizer, shape, grids = _tokenizer(trained), _shape(trained), _grids(trained)
    bits = sum(math.prod(grid.array_shape) * math.log2(grid.codebook_size) for grid in grids)
    pixels = math.prod(shape[:-1])
    size = " x ".join(map(str, shape[:-1]))
    rows: dict[str, str] = {}
    if isinstance(trained, Prior):
        architecture = getattr(trained.config.prior, "architecture", type(trained.config.prior).__name__)
        classes = trained.class_names or ()
        rows["prior"] = architecture
        rows["classes"] = ", ".join(classes) or str(trained.num_classes or "none")
    if isinstance(trained, Restorer):
        rows["undoes"] = trained.config.data.degradation.name
    rows |= {
        "architecture" if trained is tokenizer else "tokenizer": tokenizer.config.model.architecture,
        "quantizer": tokenizer.config.model.quantizer.describe(),
        f"codes of {size} pixels": ", ".join(
            f"{' x '.join(map(str, grid.array_shape))} of {grid.codebook_size}" for grid in grids
        ),
        "bits a pixel": f"{bits / pixels:.4g}",
        "parameters": f"{sum(leaf.size for leaf in jax.tree.leaves(trained.variables['params'])):,}",
    }
    if not converted:
        rows["trained on"] = _data(
            getattr(trained.config.data, "source", None) or tokenizer.config.data.source
        )
    return rows


def _data(source: str) -> str:
    """A source in words, without the directories of the machine that it is on."""
    scheme, colon, place = source.partition(":")
    return f"{scheme}:{epath.Path(place).name}" if colon and scheme in _FOLDERS else source


def _tags(trained: Model) -> tuple[str, ...]:
    kind = "video" if len(_shape(trained)) == 4 else "image"
    if isinstance(trained, Prior):
        return (f"{kind}-generation",)
    if isinstance(trained, Restorer):
        return ("image-restoration",)
    network = "vq-gan" if trained.config.losses.adversarial_weight > 0 else "vq-vae"
    return (network, f"{kind}-tokenizer")


def _purpose(trained: Model) -> str:
    what = "clips" if len(_shape(trained)) == 4 else "pictures"
    if isinstance(trained, Prior):
        return f"that draws {what}, with its tokenizer"
    if isinstance(trained, Restorer):
        return f"of {what}, with its tokenizer"
    return f"that turns {what} into discrete codes and back"


def _loading(trained: Model, name: str) -> list[str]:
    shape = ", ".join(map(str, _shape(trained)))
    if isinstance(trained, Prior):
        return [
            f'prior = vq_jax.load_prior("hf://{name}")',
            f"made = prior.sample(16)  # uint8 [16, {shape}]",
        ]
    if isinstance(trained, Restorer):
        return [
            f'restorer = vq_jax.load_restorer("hf://{name}")',
            f"restored = restorer.restore(pictures)  # uint8 [B, H, W, {trained.channels}]",
        ]
    return [
        f'tokenizer = vq_jax.load_tokenizer("hf://{name}")',
        f"codes = tokenizer.encode(pictures)  # uint8 [B, {shape}]",
    ]
