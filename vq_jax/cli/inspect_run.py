"""The command that shows what a model is: `vq-jax inspect`."""

from typing import TYPE_CHECKING, Any

from vq_jax.cli.files import Run

if TYPE_CHECKING:
    from vq_jax.pretrained.prior import Prior
    from vq_jax.pretrained.restorer import Restorer
    from vq_jax.pretrained.tokenizer import Tokenizer
    from vq_jax.types import CodeSpec


def inspect(run: Run) -> int:
    """Show what a model is: parameters, codes, and the last figures of its run.

    Args:
      run: run or model directory.
    """
    import jax

    from vq_jax.pretrained.hub import is_hub_name
    from vq_jax.pretrained.load import load
    from vq_jax.runs.rundir import read_metrics

    trained = load(run)
    for line in _described(trained):
        print(line)
    params = trained.variables["params"]
    for name in sorted(params):
        print(f"  {name}: {sum(leaf.size for leaf in jax.tree.leaves(params[name])):,} parameters")
    print(f"  in all: {sum(leaf.size for leaf in jax.tree.leaves(params)):,} parameters")
    figures: dict[str, object] = {}
    for row in () if is_hub_name(run) else read_metrics(run):
        figures |= row
    for name, value in sorted(figures.items()):
        if name != "step":
            print(f"  {name}: {value:.5g}" if isinstance(value, float) else f"  {name}: {value}")
    return 0


def _described(trained: "Tokenizer | Prior | Restorer") -> list[str]:
    import jax

    from vq_jax.pretrained.prior import Prior
    from vq_jax.pretrained.restorer import Restorer

    config: Any = trained.config
    if isinstance(trained, Prior):
        classes = "no classes" if trained.num_classes is None else f"{trained.num_classes} classes"
        names = trained.class_names
        grids = ", ".join(map(_grid, jax.tree.leaves(trained.model.code_specs)))
        return [
            f"{config.name}: {config.prior.architecture}, step {trained.step}, over {config.tokenizer}",
            f"  codes: {grids}, {classes}",
            *([f"  classes: {', '.join(names)}"] if names else []),
        ]
    if isinstance(trained, Restorer):
        larger = f", {trained.scale} times larger" if trained.scale > 1 else ""
        return [
            f"{config.name}: {config.kind}, step {trained.step}, over {config.tokenizer}",
            f"  undoes: {config.data.degradation.name}{larger}",
        ]
    return [
        f"{config.name}: {config.model.architecture}, step {trained.step}, {config.data.source}",
        f"  quantizer: {config.model.quantizer.describe()}",
        *([f"  classes: {', '.join(config.data.class_names)}"] if config.data.class_names else []),
    ]


def _grid(spec: "CodeSpec") -> str:
    """A grid in words, such as `4 x 4 of 512`."""
    return f"{' x '.join(map(str, spec.array_shape))} of {spec.codebook_size}"
