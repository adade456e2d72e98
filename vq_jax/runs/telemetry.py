"""How fast a run is and what it uses: rates, utilisation of the chip, memory, compilation, traces."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
from etils import epath

from vq_jax.errors import UserError
from vq_jax.host.chips import CHIPS

FLOPS = "step_flops"
"""Name of a step's metric, where the chip's peak is known: operations of one device in one step."""

# Dense bfloat16 operations a second of one jax device, by the first words of its kind. TPU v2, v3 and 7x have
# two devices a chip. cloud.google.com/tpu/docs/system-architecture-tpu-vm, vq_jax.host.chips;
# nvidia.com data sheets.
_PEAKS = {
    "TPU v2": 22.5e12,
    "TPU v3": 61.5e12,
    "TPU v4": CHIPS["v4"].flops,
    "TPU v5 lite": CHIPS["v5e"].flops,
    "TPU v5e": CHIPS["v5e"].flops,
    "TPU v5": CHIPS["v5p"].flops,
    "TPU v6": CHIPS["v6e"].flops,
    "TPU7x": 1153.5e12,
    "Tesla T4": 65e12,
    "Tesla V100": 125e12,
    "NVIDIA A100": 312e12,
    "NVIDIA L4": 121e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA B200": 2250e12,
}
_COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"
_compiled = 0.0


def _add_compilation(event: str, duration_secs: float, **_: Any) -> None:
    global _compiled
    if event == _COMPILE_EVENT:
        _compiled += duration_secs


jax.monitoring.register_event_duration_secs_listener(_add_compilation)


def peak_flops(device_kind: str) -> float | None:
    """Dense bfloat16 operations a second of a device, by jax's name for its kind; None if unknown."""
    known = [name for name in _PEAKS if device_kind.startswith(name)]
    return _PEAKS[max(known, key=len)] if known else None


def count_flops(jitted: Any, rounds: int = 1) -> Callable[..., Any]:
    """Adds to a step's metrics the operations of its compiled program, where the chip's peak is known.

    Args:
      jitted: function to a state and metrics.
      rounds: of the loop that does nearly all of its work; the program counts one. Other loops, such as a
        prior's over its layers, still count as one round.

    Returns:
      The step with that metric; the function itself where no peak is known, as on CPU.
    """
    if peak_flops(jax.devices()[0].device_kind) is None:
        return jitted
    counted: list[float] = []

    def step(*inputs: Any) -> tuple[Any, dict[str, Any]]:
        if not counted:  # compiled once: the call finds the program in jax's cache
            analysis = jitted.lower(*inputs).compile().cost_analysis() or {}
            counted.append(rounds * float(analysis.get("flops", 0.0)))
        state, metrics = jitted(*inputs)
        return state, {**metrics, FLOPS: counted[0]}

    step.lower = jitted.lower  # type: ignore[attr-defined]
    step.eval_shape = jitted.eval_shape  # type: ignore[attr-defined]
    return step


class Clock:
    """Times intervals of steps, and the share of each spent waiting for data."""

    def __init__(self, batch_size: int, step: int) -> None:
        self._batch_size = batch_size
        self.start(step)

    def start(self, step: int) -> None:
        """Begins an interval after `step`."""
        self._step, self._began, self._waited = step, time.monotonic(), 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time inside as waiting."""
        began = time.monotonic()
        yield
        self._waited += time.monotonic() - began

    def lap(self, step: int, flops: float | None = None) -> dict[str, float]:
        """Figures of the interval that ends with `step`.

        Args:
          step: number of updates made.
          flops: operations of one device in one step.

        Returns:
          By name: `time/step_seconds`, `time/images_per_second` of all devices and
          `time/images_per_second_per_device`, `time/data_wait` (share of the time), `time/compile_seconds`
          (of this process so far); where the device reports its memory, `time/hbm_gib` in use and
          `time/hbm_peak_gib`, of this process's fullest device; `time/model_flops_utilisation`, where flops
          are given and the device's peak is known.
        """
        seconds, steps = time.monotonic() - self._began, step - self._step
        rate = self._batch_size * steps / seconds
        figures = {
            "time/step_seconds": seconds / steps,
            "time/images_per_second": rate,
            "time/images_per_second_per_device": rate / jax.device_count(),
            "time/data_wait": self._waited / seconds,
            "time/compile_seconds": _compiled,
            **_memory(),
        }
        peak = peak_flops(jax.devices()[0].device_kind)
        if peak is not None and flops:
            figures["time/model_flops_utilisation"] = flops * steps / seconds / peak
        return figures


def _memory() -> dict[str, float]:
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    names = {"time/hbm_gib": "bytes_in_use", "time/hbm_peak_gib": "peak_bytes_in_use"}
    return {
        name: max(one[key] for one in stats) / 2**30
        for name, key in names.items()
        if all(key in one for one in stats)
    }


def parse_profile(text: str) -> tuple[int, int]:
    """Reads START:STOP, the first and the last step of a trace.

    Raises:
      UserError: the text is not of that form, or the last step comes before the first.
    """
    start, _, stop = text.partition(":")
    if not (start.isdigit() and stop.isdigit() and 1 <= int(start) <= int(stop)):
        raise UserError(f"expected --profile START:STOP, two steps such as 10:15, got {text!r}")
    return int(start), int(stop)


class Trace(contextlib.AbstractContextManager["Trace"]):
    """Writes a trace of some steps for XProf or Perfetto.

    Args:
      directory: where to write it.
      steps: the first and the last; None for no trace.
    """

    def __init__(self, directory: epath.Path, steps: tuple[int, int] | None) -> None:
        self._directory, self._steps, self._on = directory, steps, False

    def before(self, step: int) -> None:
        """Begins the trace if the next step, `step`, is its first."""
        if self._steps is not None and step == self._steps[0]:
            jax.profiler.start_trace(str(self._directory))
            self._on = True

    def after(self, step: int, state: Any) -> None:
        """Ends the trace if `step`, which made `state`, is its last."""
        if self._on and self._steps is not None and step >= self._steps[1]:
            jax.block_until_ready(state)
            self._stop()

    def _stop(self) -> None:
        self._on = False
        jax.profiler.stop_trace()

    def __exit__(self, *error: object) -> None:
        if self._on:
            self._stop()
