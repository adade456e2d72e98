"""What a compiled program does, read from its text: multiplications, memory traffic, collectives.

XLA's own cost analysis counts the body of a loop once, whatever the number of its rounds, and so a scan over
layers as one layer; and it counts what stays in on-chip memory like what goes to HBM. Here a loop counts as
often as it runs, and only HBM counts. A conditional counts as its most expensive branch. Imports no jax.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator

from vq_jax.plan.hlo_text import Buffer, Computation, Instruction, parse

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
# They name what exists already, or wait for what has begun.
_FREE = {
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "after-all",
    "iota",
    "partition-id",
    "replica-id",
    "opt-barrier",
    "optimization-barrier",
}
_PARTS = ("dynamic-slice", "slice", "gather")  # these read a part of their first operand


@dataclasses.dataclass(frozen=True)
class Collective:
    """The collectives of one kind among groups of one size.

    Attributes:
      kind: one of COLLECTIVES.
      group: chips that take part in each.
      count: how many each chip takes part in.
      bytes: size of their whole arrays: the results of an all-gather, the operands of the others.
    """

    kind: str
    group: int
    count: float
    bytes: float

    @property
    def sent(self) -> float:
        """Bytes that a chip has to send, at least."""
        share = (self.group - 1) / self.group
        factor = {"all-reduce": 2 * share, "collective-permute": 1.0}.get(self.kind, share)
        return factor * self.bytes if self.group > 1 else 0.0


@dataclasses.dataclass(frozen=True)
class Program:
    """Totals for one chip.

    Attributes:
      flops: operations of matrix products and convolutions, including recomputed ones; two for a
        multiplication and its addition, none where it meets padding.
      hbm_bytes: bytes read and written, in whole tiles.
      collectives: by kind and number of chips.
      loops_of_unknown_length: loops whose rounds the text does not state, each counted as one round.
    """

    flops: float
    hbm_bytes: float
    collectives: tuple[Collective, ...]
    loops_of_unknown_length: int


def read_program(text: str) -> Program:
    """Reads the text of a compiled program, `compiled.as_text()`.

    Raises:
      ValueError: the text has no entry computation, or a line cannot be read.
    """
    computations, entry = parse(text)
    chips = re.search(r"num_partitions=(\d+)", text)
    totals = _Totals(computations, int(chips[1]) if chips else 1)
    flops, hbm, moved = totals.of(entry)
    collectives = tuple(
        Collective(kind, group, count, size) for (kind, group), (count, size) in sorted(moved.items())
    )
    return Program(flops, hbm, collectives, totals.unknown)


Moved = dict[tuple[str, int], tuple[float, float]]


class _Totals:
    """Sums over computations, each as often as it runs."""

    def __init__(self, computations: dict[str, Computation], chips: int) -> None:
        self._computations, self._chips = computations, chips
        self._known: dict[str, tuple[float, float, Moved]] = {}
        self.unknown = 0

    def of(self, name: str) -> tuple[float, float, Moved]:
        """Multiplications, bytes and collectives of one run of a computation."""
        if name not in self._known:
            self._known[name] = self._sum(self._computations[name])
        return self._known[name]

    def _sum(self, computation: Computation) -> tuple[float, float, Moved]:
        flops, hbm = 0.0, 0.0
        moved: Moved = {}
        for instruction in computation.values():
            parts = self._calls(computation, instruction)
            if instruction.opcode not in ("while", "conditional", "call", "async-start"):
                flops += _flops(computation, instruction)
                hbm += self._traffic(computation, instruction)
            kind = instruction.opcode.removesuffix("-start")
            if kind in COLLECTIVES:
                key = (kind, self._group(instruction))
                _add(moved, {key: (1.0, _collective_bytes(computation, instruction, kind))}, 1.0)
            for times, (inner_flops, inner_hbm, inner_moved) in parts:
                flops += times * inner_flops
                hbm += times * inner_hbm
                _add(moved, inner_moved, times)
        return flops, hbm, moved

    def _calls(
        self, computation: Computation, instruction: Instruction
    ) -> list[tuple[float, tuple[float, float, Moved]]]:
        """The computations that an instruction runs, each with how often, and its totals."""
        if instruction.opcode == "while":
            (body,) = instruction.called("body")
            return [(self._rounds(computation, instruction), self.of(body))]
        if instruction.opcode == "conditional":
            branches = instruction.called("branch_computations", "true_computation", "false_computation")
            return [(1.0, max(map(self.of, branches), key=lambda totals: totals[:2]))]
        if instruction.opcode in ("call", "async-start"):
            return [(1.0, self.of(name)) for name in instruction.called("calls", "to_apply")]
        if instruction.opcode == "fusion":  # its traffic is that of the whole, not of the lines inside
            inner = [self.of(name) for name in instruction.called("calls")]
            return [(1.0, (flops, 0.0, moved)) for flops, _, moved in inner]
        return []

    def _rounds(self, computation: Computation, loop: Instruction) -> float:
        known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.rest)
        if known:
            return float(known[1])
        # A scan counts up from zero to a constant that its condition compares with.
        (name,) = loop.called("condition")
        condition = self._computations[name]
        root = next(line for line in condition.values() if line.root)
        for inner in root.called("calls"):  # the comparison may be fused
            inner_root = next(line for line in self._computations[inner].values() if line.root)
            if inner_root.opcode == "compare":
                constants = [condition[operand] for operand in root.operands]
                constants += self._computations[inner].values()
                return self._limit(inner_root, constants)
        operands = [condition[operand] for operand in root.operands if operand in condition]
        return self._limit(root, operands)

    def _limit(self, compare: Instruction, lines: list[Instruction]) -> float:
        limits = [int(line.inside) for line in lines if line.opcode == "constant" and line.inside.isdigit()]
        if compare.opcode == "compare" and "direction=LT" in compare.rest and len(limits) == 1:
            return float(limits[0])
        self.unknown += 1
        return 1.0

    def _group(self, instruction: Instruction) -> int:
        """Chips that take part in one collective."""
        rest = instruction.rest
        if match := re.search(r"replica_groups=\[(\d+),(\d+)\]", rest):
            return int(match[2])
        if match := re.search(r"replica_groups=\{\{([\d,]*)\}", rest):
            return len(match[1].split(","))
        if match := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", rest):
            sizes = dict(re.findall(r"'([^']+)'=(\d+)", match[1]))
            return math.prod(int(sizes[axis]) for axis in re.findall(r"'([^']+)'", match[2]))
        return self._chips

    def _traffic(self, computation: Computation, instruction: Instruction) -> float:
        """Bytes that an instruction reads from and writes to HBM."""
        opcode = instruction.opcode
        if opcode in _FREE or opcode.endswith("-done") or "AllocateBuffer" in instruction.rest:
            return 0.0
        read = [computation[name].result for name in instruction.operands if name in computation]
        written = list(instruction.result)
        if opcode == "copy-start":  # target, source and a marker
            written = written[:1]
        elif opcode.endswith("-start"):  # the operands again, the result, markers
            written = written[len(read) : len(read) + 1]
        if opcode.removesuffix("-start") in _PARTS:
            part = sum(buffer.padded_bytes for buffer in written)
            return (part if _hbm(read[0]) else 0.0) + _hbm(written)
        if opcode == "dynamic-update-slice":
            return 2 * _hbm(read[1])
        if opcode == "fusion":
            (name,) = instruction.called("calls")
            return self._fusion_traffic(self._computations[name], read, written)
        return sum(map(_hbm, read)) + _hbm(written)

    def _fusion_traffic(
        self, fused: Computation, read: list[tuple[Buffer, ...]], written: list[Buffer]
    ) -> float:
        updates = list(self._updates(fused))
        targets = {target for target, _, _ in updates}
        total = 0.0
        for line in fused.values():
            if line.opcode == "parameter" and line.name not in targets:
                buffers = read[int(line.inside)]
                parts = self._parts_read(fused, line.name)
                total += _hbm(buffers) if parts is None else (parts if _hbm(buffers) else 0.0)
        # An array that is updated in place is written only where it changes.
        whole = list(written)
        for _, made, part in updates:
            for buffer in whole:
                if (buffer.dtype, buffer.dims) == (made.dtype, made.dims):
                    whole.remove(buffer)
                    total += 0.0 if buffer.on_chip else part
                    break
        return total + _hbm(whole)

    def _parts_read(self, fused: Computation, name: str) -> float | None:
        """Bytes of the parts of a value that are read; None where all of it is read, or nothing."""
        total, used = 0.0, False
        for user, position in _users(fused, name):
            used = True
            if user.opcode in _PARTS and position == 0:
                total += sum(buffer.padded_bytes for buffer in user.result)
            elif user.opcode == "fusion":
                inner, parameter = self._parameter(user, position)
                parts = self._parts_read(inner, parameter)
                if parts is None:
                    return None
                total += parts
            else:
                return None
        return total if used else None

    def _updates(self, fused: Computation) -> Iterator[tuple[str, Buffer, float]]:
        """Arrays updated in place: the line that they come from, the result, the bytes that change."""
        for line in fused.values():
            if line.opcode == "dynamic-update-slice":
                part = sum(buffer.padded_bytes for buffer in fused[line.operands[1]].result)
                yield _source(fused, line.operands[0]), line.result[0], part
            elif line.opcode == "fusion":
                (name,) = line.called("calls")
                inner = self._computations[name]
                for target, made, part in self._updates(inner):
                    if inner[target].opcode == "parameter":
                        target = _source(fused, line.operands[int(inner[target].inside)])
                        yield target, made, part

    def _parameter(self, fusion: Instruction, position: int) -> tuple[Computation, str]:
        (name,) = fusion.called("calls")
        inner = self._computations[name]
        for line in inner.values():
            if line.opcode == "parameter" and int(line.inside) == position:
                return inner, line.name
        raise ValueError(f"{name} has no parameter {position}")


def _users(fused: Computation, name: str) -> Iterator[tuple[Instruction, int]]:
    """Lines that use a value, with its place among their operands; seen through bitcasts."""
    for line in fused.values():
        for position, operand in enumerate(line.operands):
            if operand == name:
                if line.opcode == "bitcast":
                    yield from _users(fused, line.name)
                else:
                    yield line, position


def _source(fused: Computation, name: str) -> str:
    while fused[name].opcode in ("bitcast", "copy"):
        name = fused[name].operands[0]
    return name


def _hbm(buffers: "tuple[Buffer, ...] | list[Buffer]") -> float:
    return sum(buffer.padded_bytes for buffer in buffers if not buffer.on_chip)


def _add(moved: Moved, more: Moved, times: float) -> None:
    for key, (count, size) in more.items():
        had = moved.get(key, (0.0, 0.0))
        moved[key] = (had[0] + times * count, had[1] + times * size)


def _collective_bytes(computation: Computation, instruction: Instruction, kind: str) -> float:
    given = [computation[name].result for name in instruction.operands if name in computation]
    if kind == "all-gather":
        made = instruction.result
        if instruction.opcode.endswith("-start"):  # the operands again, then the results
            made = made[len(given) : 2 * len(given)]
        return sum(buffer.bytes for buffer in made)
    return sum(buffer.bytes for buffers in given for buffer in buffers)


def _flops(computation: Computation, instruction: Instruction) -> float:
    if instruction.opcode not in ("convolution", "dot"):
        return 0.0
    left, right = (computation[name].result[0].dims for name in instruction.operands[:2])
    made = instruction.result[0].elements
    if instruction.opcode == "dot":
        match = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.rest)
        axes = [int(axis) for axis in match[1].split(",") if axis] if match else []
        return 2.0 * made * math.prod(left[axis] for axis in axes)
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.rest)
    if labels is None:
        raise ValueError(f"cannot read the convolution {instruction.name}: {instruction.rest[:200]}")
    window = re.search(r"window=\{([^}]*)\}", instruction.rest)
    fields = dict(field.split("=") for field in window[1].split()) if window else {}

    def along(name: str, axis: int, default: str) -> str:
        return fields[name].split("x")[axis] if name in fields else default

    spatial, products = 1, 1
    for axis in range(sum(label.isdigit() for label in labels[1])):
        size = instruction.result[0].dims[labels[3].index(str(axis))]
        spatial *= size
        products *= _pairs(
            left[labels[1].index(str(axis))],
            size,
            int(along("size", axis, "1")),
            int(along("stride", axis, "1")),
            int(along("pad", axis, "0_0").split("_")[0]),
            int(along("lhs_dilate", axis, "1")),
            int(along("rhs_dilate", axis, "1")),
        )
    return 2.0 * made / spatial * right[labels[2].index("i")] * products


@functools.cache
def _pairs(given: int, made: int, taps: int, stride: int, pad: int, spread: int, spread_taps: int) -> int:
    """Pairs of an output and a tap along an axis that meet an input rather than padding or an inserted zero.

    The compiler writes a product over a batch as a convolution most of whose taps meet padding.
    """
    count = 0
    for tap in range(taps):
        # Outputs o whose place o * stride + first is a multiple of spread, from 0 to (given - 1) * spread.
        first = tap * spread_taps - pad
        low = max(0, -(first // stride)) if first < 0 else 0
        high = min(made - 1, ((given - 1) * spread - first) // stride)
        if spread == 1:
            count += max(0, high - low + 1)
        else:
            count += sum((output * stride + first) % spread == 0 for output in range(low, high + 1))
    return count
