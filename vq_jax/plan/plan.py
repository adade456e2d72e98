"""A run's training step on a TPU slice that is not available here: does it fit, and how fast can it be.

The task lowers the step that the run would take, and libtpu compiles it for a described slice. What the step
does is read from the compiled program (`vq_jax.plan.hlo`), what the chips can do from `vq_jax.host.chips`.
"""

import dataclasses
import importlib.util
import os
import re
from collections.abc import Mapping
from typing import Any

from vq_jax.configs.runs import RunConfig
from vq_jax.errors import UserError
from vq_jax.host.chips import Slice
from vq_jax.plan.hlo import Program, read_program

_UNITS = {"": 1.0, "K": 2.0**10, "M": 2.0**20, "G": 2.0**30}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is known about a step on a slice; times in seconds, sizes in bytes, all for one chip.

    Attributes:
      preset: name of the experiment.
      topology: name of the slice.
      chips: chips of the slice.
      per_device_batch: pictures a chip and step, or codes of as many pictures.
      fsdp: chips along the mesh's fsdp axis.
      remat: whether blocks are recomputed in the backward pass.
      fits: whether the compiler found room for the step.
      hbm: the chip's memory; where the step does not fit, the part that the compiler can use, if it says so.
      peak: HBM in use at once; where the step does not fit, what it would need, 0 if the compiler does not
        say.
      memory: by kind, in HBM: arguments, outputs that are not arguments' buffers, temporaries, program.
        They may add up to more than the peak: temporaries include memory that is freed within the step.
      program: multiplications, traffic and collectives; None where the step does not fit.
      xla: the compiler's own count, `flops` and `bytes accessed`, with one round of every loop.
      compute_seconds: time of the multiplications at the chip's peak in bfloat16.
      hbm_seconds: time of the memory traffic at the memory's bandwidth.
      collective_seconds: time of the collectives at the bandwidth of the chip's links.
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
        """Least time of a step: the longest of the three, as if the others were hidden behind it."""
        return max(self.compute_seconds, self.hbm_seconds, self.collective_seconds)

    @property
    def bound(self) -> str:
        """What limits the step: compute, hbm or collective."""
        return max(("compute", "hbm", "collective"), key=lambda kind: getattr(self, f"{kind}_seconds"))

    @property
    def utilisation(self) -> float:
        """Share of the chip's peak that the step's multiplications can reach."""
        return self.compute_seconds / self.seconds

    @property
    def pictures_per_second(self) -> float:
        """Highest rate of one chip."""
        return self.per_device_batch / self.seconds

    def as_json(self) -> dict[str, Any]:
        """The attributes and figures as plain values, for JSON."""
        values = dataclasses.asdict(self)
        if self.program is not None:
            values |= {
                name: getattr(self, name)
                for name in ("seconds", "bound", "utilisation", "pictures_per_second")
            }
        return values


def prepare_environment(topology: Slice) -> None:
    """Sets the variables that libtpu needs where there is no TPU, unless they are set; call it before jax is
    imported."""
    for name, value in {
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_COMPILATION_CACHE": "false",  # programs for chips that are absent do not read back
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
            'plan compiles with libtpu, which is not installed here: pip install "vq-jax[plan]" '
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

    It is the most expensive step of the run: that of the last phase, with all losses on.

    Args:
      config: the run's.
      topology: the slice.
      per_device_batch: pictures a chip and step; the run's batch divided by the chips when absent.
      fsdp: chips along the fsdp axis; the run's when absent.
      remat: recompute blocks in the backward pass, even if the run does not.
      tokenizer: of a run over codes: preset or file of the tokenizer that makes them; when absent, the preset
        that the tokenizer's run is named after.
      classes: of a run over codes: number of the pictures' classes, 0 for none; known for some sources when
        absent.

    Raises:
      UserError: no libtpu, or the run cannot be planned with these values.
    """
    from vq_jax.train.tasks.base import task_class

    require_libtpu()
    config = _override(config.in_steps(), topology, per_device_batch, fsdp, remat)
    mesh = _mesh(config, topology)
    task = task_class(config.kind)
    fitting = _compile(task.lower(config, mesh, tokenizer=tokenizer, classes=classes))
    plan = Plan(
        preset=config.name,
        topology=topology.name,
        chips=topology.chips,
        per_device_batch=config.data.batch_size // topology.chips,
        fsdp=mesh.shape["fsdp"],
        remat=bool(getattr(getattr(config, task.network), "remat", False)),
        fits=not isinstance(fitting, dict),
        hbm=topology.chip.hbm,
    )
    figures = fitting if isinstance(fitting, dict) else _figures(fitting, topology)
    return dataclasses.replace(plan, **figures)


def _figures(compiled: Any, topology: Slice) -> dict[str, Any]:
    """Fields of the plan of a step that fits."""
    program, chip = read_program(compiled.as_text()), topology.chip
    sizes, xla = compiled.memory_analysis(), compiled.cost_analysis()
    return {
        "peak": sizes.peak_memory_in_bytes + sizes.generated_code_size_in_bytes,
        "memory": {
            "arguments": sizes.argument_size_in_bytes,
            "outputs": sizes.output_size_in_bytes - sizes.alias_size_in_bytes,
            "temporaries": sizes.temp_size_in_bytes,
            "program": sizes.generated_code_size_in_bytes,
        },
        "program": program,
        "xla": {name: xla[name] for name in ("flops", "bytes accessed")},
        "compute_seconds": program.flops / chip.flops,
        "hbm_seconds": program.hbm_bytes / chip.hbm_bandwidth,
        "collective_seconds": sum(found.sent for found in program.collectives) / topology.egress,
    }


def _override(
    config: RunConfig, topology: Slice, per_device_batch: int | None, fsdp: int | None, remat: bool
) -> RunConfig:
    """The run with these values, and the compute dtype of a TPU."""
    from vq_jax.train.tasks.base import task_class

    batch = config.data.batch_size
    if per_device_batch is not None:
        if per_device_batch < 1:
            raise UserError(f"expected --per-device-batch of at least 1, got {per_device_batch}")
        batch = per_device_batch * topology.chips
    elif batch % topology.chips:
        raise UserError(
            f"the batch of {config.name}, {batch}, does not divide among the {topology.chips} chips of "
            f"{topology.name}; give --per-device-batch"
        )
    part = task_class(config.kind).network
    network = getattr(config, part)
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
        return dataclasses.replace(config, data=data, training=training, **{part: network})
    except ValueError as error:  # a batch that training.accumulate does not divide, a mesh of no size
        raise UserError(str(error)) from error


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


def _compile(lowered: Any) -> Any:
    """The compiled step; where it does not fit, the fields of its plan that the compiler's message has."""
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
