"""The largest batch of a chip that fits: a search in few compilations."""

import dataclasses
import math
from collections.abc import Callable

from vq_jax.plan.plan import Plan


def largest_batch(plan: Callable[[int], Plan], start: int = 8) -> Plan | None:
    """Finds the largest batch of a chip that fits, in few compilations: memory grows almost linearly.

    The next batch to try is where the line of memory meets the chip's memory, as long as that narrows the
    search, and otherwise the middle. The search ends when a batch fits and the next larger one does not.

    Args:
      plan: makes the plan of a batch.
      start: the first batch to try.

    Returns:
      The plan of the largest batch, with `largest` set; None if not even one picture fits.
    """
    largest: Plan | None = None
    smallest: Plan | None = None  # that does not fit
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
            # Near the limit the compiler saves memory: more fits than the line says.
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
    """The largest batch by the line of memory through two plans; None where no line can be drawn.

    With one plan only, the line starts at the memory that does not depend on the batch.
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
