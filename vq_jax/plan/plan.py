"""A run's training step on a TPU slice that is not there: whether it fits, and how fast it can be at most.

The step is the run's own, of `vq_jax.train.sharding`, compiled by libtpu for a described slice. What it does
is read from the compiled program (`vq_jax.plan.hlo`), what the chips can do from `vq_jax.host.chips`.
"""

import dataclasses
import importlib.util
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vq_jax.configs.presets import load_preset, presets
from vq_jax.configs.runs import ExperimentConfig, PriorConfig, RunConfig
from vq_jax.errors import UserError
from vq_jax.host.chips import Slice
from vq_jax.plan.hlo import Program, read_program

# Sources whose pictures have labels, with the number of classes.
_CLASSES = {"fashion": 10, "tfds:imagenet2012": 1000, "tfds:cifar10": 10, "tfds:mnist": 10}
_UNITS = {"": 1.0, "K": 2.0**10, "M": 2.0**20, "G": 2.0**30}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is known of a step on a slice; times in seconds, sizes in bytes, all for one chip.

    Attributes:
      preset: name of the experiment.
      topology: of the slice.
      chips: of the slice.
      per_device_batch: pictures a chip and step; grids of codes for a prior.
      fsdp: chips along the mesh's fsdp axis.
      remat: whether blocks are recomputed in the backward pass.
      fits: whether the compiler found room for it.
      hbm: of the chip; where it does not fit, what the compiler has of it, if it says so.
      peak: HBM in use at once; where it does not fit, what it would need, 0 if the compiler does not say.
      memory: by kind, in HBM: arguments, outputs that are not arguments' buffers, temporaries, program.
        They may add up to more than the peak: temporaries count what is given back within the step.
      program: multiplications, traffic and collectives; None where it does not fit.
      xla: the compiler's own count, `flops` and `bytes accessed`, with every loop taken as one round.
      compute_seconds: at the chip's peak in bfloat16.
      hbm_seconds: at its memory's bandwidth.
      collective_seconds: at the bandwidth of its links.
      largest: whether a search found that one more picture does not fit.
    """

    preset: str
    topology: str
    chips: int
    per_device_batch: int
    fsdp: int
    remat: bool
    fits: bool
    hbm: float
    peak: float = 0.0
    memory: Mapping[str, float] = dataclasses.field(default_factory=dict)
    program: Program | None = None
    xla: Mapping[str, float] = dataclasses.field(default_factory=dict)
    compute_seconds: float = 0.0
    hbm_seconds: float = 0.0
    collective_seconds: float = 0.0
    largest: bool = False

    @property
    def seconds(self) -> float:
        """Time of a step at least: the longest of the three, as if all else were hidden behind it."""
        return max(self.compute_seconds, self.hbm_seconds, self.collective_seconds)

    @property
    def bound(self) -> str:
        """What that time is spent on."""
        return max(("compute", "hbm", "collective"), key=lambda kind: getattr(self, f"{kind}_seconds"))

    @property
    def utilisation(self) -> float:
        """Share of the chip's peak that the step's multiplications can reach."""
        return self.compute_seconds / self.seconds

    @property
    def pictures_per_second(self) -> float:
        """Of one chip, at most."""
        return self.per_device_batch / self.seconds

    def as_json(self) -> dict[str, Any]:
        """All of it, ready to be written."""
        values = dataclasses.asdict(self)
        if self.program is not None:
            values |= {
                name: getattr(self, name)
                for name in ("seconds", "bound", "utilisation", "pictures_per_second")
            }
        return values


def prepare_environment(topology: Slice) -> None:
    """Sets what libtpu asks for where there is no TPU, unless it is set; call it before jax is imported."""
    for name, value in {
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_COMPILATION_CACHE": "false",  # programs for chips that are not there do not read back
        "TPU_SKIP_MDS_QUERY": "1",  # no metadata server to ask
        "TPU_ACCELERATOR_TYPE": topology.accelerator_type,
        "TPU_WORKER_HOSTNAMES": "localhost",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # none of the processes has a TPU to share
    }.items():
        os.environ.setdefault(name, value)


def require_libtpu() -> None:
    """Raises UserError where libtpu, the compiler, is not installed."""
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            'plan compiles with libtpu, which is not installed here: pip install "vq-jax[plan]" brings it '
            "(Linux on x86-64; no TPU is needed)"
        )


def make_plan(
    config: RunConfig,
    topology: Slice,
    *,
    per_device_batch: int | None = None,
    fsdp: int | None = None,
    remat: bool = False,
    tokenizer: str | None = None,
    classes: int | None = None,
) -> Plan:
    """Compiles a run's training step for a slice; call `prepare_environment` before.

    The step is the dearest of the run: of the last phase, with all losses on.

    Args:
      config: of a tokenizer or of a prior.
      topology: the slice.
      per_device_batch: pictures a chip and step; the run's batch over the chips when absent.
      fsdp: chips along the fsdp axis; the run's when absent.
      remat: recompute blocks in the backward pass, as the run does when it says so.
      tokenizer: of a prior: preset or file of the tokenizer that makes the codes; the preset after which
        the tokenizer's run is named when absent.
      classes: of a prior: labels of the pictures, 0 for none; those of a known source when absent.

    Raises:
      UserError: no libtpu, or the run cannot be planned with these values.
    """
    require_libtpu()
    config = _override(config, topology, per_device_batch, fsdp, remat)
    mesh = _mesh(config, topology)
    if isinstance(config, ExperimentConfig):
        fitting = _compile(_tokenizer_step(config, mesh))
    else:
        fitting = _compile(_prior_step(config, mesh, tokenizer, classes))
    plan = Plan(
        preset=config.name,
        topology=topology.name,
        chips=topology.chips,
        per_device_batch=config.data.batch_size // topology.chips,
        fsdp=mesh.shape["fsdp"],
        remat=bool(getattr(_network(config), "remat", False)),
        fits=not isinstance(fitting, dict),
        hbm=topology.chip.hbm,
    )
    if isinstance(fitting, dict):
        return dataclasses.replace(plan, **fitting)
    program = read_program(fitting.as_text())
    chip = topology.chip
    sizes = fitting.memory_analysis()
    return dataclasses.replace(
        plan,
        peak=sizes.peak_memory_in_bytes + sizes.generated_code_size_in_bytes,
        memory={
            "arguments": sizes.argument_size_in_bytes,
            "outputs": sizes.output_size_in_bytes - sizes.alias_size_in_bytes,
            "temporaries": sizes.temp_size_in_bytes,
            "program": sizes.generated_code_size_in_bytes,
        },
        program=program,
        xla={name: fitting.cost_analysis()[name] for name in ("flops", "bytes accessed")},
        compute_seconds=program.flops / chip.flops,
        hbm_seconds=program.hbm_bytes / chip.hbm_bandwidth,
        collective_seconds=sum(collective.sent for collective in program.collectives) / topology.egress,
    )


def largest_batch(plan: Callable[[int], Plan], start: int = 8) -> Plan | None:
    """Finds the largest batch of a chip that fits, in few compilations: memory grows nearly as a line.

    The next batch to be tried is where the line of memory meets the chip's, so long as that narrows the
    search; else the middle. It is over when a batch fits and the next one does not.

    Args:
      plan: makes the plan of a batch.
      start: the first to be tried.

    Returns:
      The plan of the largest, marked so; None where not even one picture fits.
    """
    largest: Plan | None = None
    smallest: Plan | None = None  # of those that do not fit
    low, high, batch, step, slow = 0, None, start, 0, 0
    while high is None or low + 1 < high:
        width = math.inf if high is None else high - low
        tried = plan(batch)
        if tried.fits:
            low, largest = batch, tried
        else:
            high, smallest = batch, tried
        guess = _batch_by_line(largest, smallest)
        if high is None:
            # Near the limit the compiler makes room, so that more fits than the line says.
            batch = 2 * low if guess is None else min(max(guess, low + max(step, 1)), 16 * low)
            step = max(1, low // 8, 2 * step)
        else:
            slow = slow + 1 if high - low > width / 2 else 0
            if guess is None or slow > 1:
                batch, slow = (low + high) // 2, 0
            else:
                batch = min(max(guess, low + 1), high - 1)
    return dataclasses.replace(largest, largest=True) if largest else None


def _batch_by_line(fits: Plan | None, exceeds: Plan | None) -> int | None:
    """The largest batch by the line of memory through two plans, None where there is none.

    Where there is one of them only, the line begins at what does not depend on the batch.
    """
    known = [plan for plan in (fits, exceeds) if plan is not None]
    if not all(plan.peak for plan in known):
        return None
    points = [(plan.per_device_batch, plan.peak) for plan in known]
    if len(known) == 1:
        memory = known[0].memory
        points.append((0, memory.get("arguments", 0.0) + memory.get("program", 0.0)))
    (batch, used), (other, other_used) = points
    slope = (used - other_used) / (batch - other)
    room = min(plan.hbm for plan in known)
    return math.floor(batch + (room - used) / slope) if slope > 0 else None


def _override(
    config: RunConfig, topology: Slice, per_device_batch: int | None, fsdp: int | None, remat: bool
) -> RunConfig:
    """The run with the values asked for, and the compute dtype of a TPU."""
    batch = config.data.batch_size
    if per_device_batch is not None:
        if per_device_batch < 1:
            raise UserError(f"expected --per-device-batch of at least 1, got {per_device_batch}")
        batch = per_device_batch * topology.chips
    elif batch % topology.chips:
        raise UserError(
            f"the batch of {config.name}, {batch}, does not divide over the {topology.chips} chips of "
            f"{topology.name}; give --per-device-batch"
        )
    network = _network(config)
    if remat and not hasattr(network, "remat"):
        raise UserError(f"{network.architecture}, the network of {config.name}, has no blocks to recompute")
    if remat:
        network = dataclasses.replace(network, remat=True)
    try:
        training = dataclasses.replace(
            config.training,
            dtype="bfloat16" if config.training.dtype == "auto" else config.training.dtype,
            mesh_data=-1,
            mesh_fsdp=config.training.mesh_fsdp if fsdp is None else fsdp,
        )
        data: Any = dataclasses.replace(config.data, batch_size=batch)
        part = "model" if isinstance(config, ExperimentConfig) else "prior"
        return dataclasses.replace(config, data=data, training=training, **{part: network})
    except ValueError as error:  # a batch that training.accumulate does not divide, a mesh of no size
        raise UserError(str(error)) from error


def _network(config: RunConfig) -> Any:
    return config.model if isinstance(config, ExperimentConfig) else config.prior


def _mesh(config: RunConfig, topology: Slice) -> Any:
    from jax.experimental import topologies

    from vq_jax.train import sharding

    described = topologies.get_topology_desc(
        platform="tpu",
        topology_name=f"{topology.chip.name}:{'x'.join(map(str, topology.shape))}",
        **dict(topology.chip.compiler),
    )
    return sharding.make_mesh(
        config.training.mesh_data, config.training.mesh_fsdp, described=described.devices
    )


def _placed(tree: Any, sharding: Any) -> Any:
    """Shapes and dtypes of arrays, with where they are."""
    import jax

    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)


def _key(mesh: Any) -> Any:
    import jax

    from vq_jax.train import sharding

    return _placed(jax.eval_shape(lambda: jax.random.key(0)), sharding.replicated(mesh))


def _tokenizer_step(config: ExperimentConfig, mesh: Any) -> Any:
    """The step of a tokenizer, lowered."""
    import jax
    import jax.numpy as jnp

    from vq_jax.nn.features.lpips import lpips_shapes
    from vq_jax.pretrained.build import build_model, image_shape
    from vq_jax.train import sharding
    from vq_jax.train.state import init_state
    from vq_jax.train.tasks.tokenizer import networks

    parts = networks(config, build_model(config))
    losses = config.losses
    step = sharding.jit_train_step(
        mesh,
        losses=losses,
        phase=config.phases[-1].kind,
        ema_decay=config.training.ema_decay,
        accumulate=config.training.accumulate,
        **parts,
    )
    shape, ema = image_shape(config), config.training.ema_decay > 0
    whole = sharding.replicated(mesh)
    state = jax.eval_shape(lambda: init_state(jax.random.key(0), shape, ema=ema, **parts))
    images = jax.ShapeDtypeStruct((config.data.batch_size, *shape), jnp.uint8)
    perceptual = lpips_shapes(losses.perceptual) if losses.perceptual_weight > 0 else None
    return step.lower(  # type: ignore[attr-defined]
        sharding.with_sharding(state, mesh),
        _placed({"image": images}, sharding.batch_sharding(mesh)),
        _key(mesh),
        _placed(perceptual, whole),
    )


def _prior_step(config: PriorConfig, mesh: Any, tokenizer: str | None, classes: int | None) -> Any:
    """The step of a prior over a tokenizer's codes, lowered."""
    import jax
    import jax.numpy as jnp

    from vq_jax.host.dtypes import compute_dtype
    from vq_jax.pretrained.build import build_model
    from vq_jax.train import sharding
    from vq_jax.train.optimizers import make_optimizer
    from vq_jax.train.steps.prior import init_prior

    codes = _tokenizer_config(config, tokenizer)
    data = config.data.resolve(codes.data)
    num_classes = _num_classes(config, data.source, classes)
    specs = build_model(dataclasses.replace(codes, training=config.training)).code_specs(
        (data.image_size, data.image_size, codes.model.image_channels)
    )
    try:
        prior = config.prior.build(specs, num_classes, compute_dtype(config.training.dtype))
    except ValueError as error:
        raise UserError(str(error)) from error
    parts: dict[str, Any] = {
        "prior_model": prior,
        "optimizer": make_optimizer(config.optimizer, config.training.steps),
    }
    step = sharding.jit_prior_step(
        mesh, ema_decay=config.training.ema_decay, accumulate=config.training.accumulate, **parts
    )
    ema = config.training.ema_decay > 0
    state = jax.eval_shape(lambda: init_prior(jax.random.key(0), ema=ema, **parts))
    size = config.data.batch_size
    batch = {"codes": jax.ShapeDtypeStruct((size, *specs.array_shape), jnp.int32)}
    if num_classes is not None:
        batch["label"] = jax.ShapeDtypeStruct((size,), jnp.int32)
    return step.lower(  # type: ignore[attr-defined]
        sharding.with_sharding(state, mesh),
        _placed(batch, sharding.batch_sharding(mesh)),
        _key(mesh),
    )


def _tokenizer_config(config: PriorConfig, tokenizer: str | None) -> ExperimentConfig:
    name = tokenizer or Path(config.tokenizer).name
    if tokenizer is None and name not in presets():
        raise UserError(
            f"{config.name} learns the codes of {config.tokenizer or 'a run yet to be named'}: "
            "give --tokenizer PRESET, the preset or file of that tokenizer"
        )
    found = load_preset(name)
    if not isinstance(found, ExperimentConfig):
        raise UserError(f"expected the preset of a tokenizer for --tokenizer, {name} is that of a prior")
    return found


def _num_classes(config: PriorConfig, source: str, classes: int | None) -> int | None:
    if not config.conditional:
        return None
    if classes is None and source != "photos" and source not in _CLASSES:
        raise UserError(f"the number of classes of {source} is not known here: give --classes N, 0 for none")
    return (classes if classes is not None else _CLASSES.get(source)) or None


def _compile(lowered: Any) -> Any:
    """The compiled step; where it does not fit, what its plan tells of memory."""
    import jax

    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        found = re.search(r"Used ([\d.]+)([KMG]?) of ([\d.]+)([KMG]?) hbm", str(error))
        if found is None:
            return {}
        needed, room = (float(found[i]) * _UNITS[found[i + 1]] for i in (1, 3))
        return {"peak": needed, "hbm": room}
