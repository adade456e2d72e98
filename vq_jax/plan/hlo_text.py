"""Reads the text of a compiled program into computations of instructions. Imports no jax."""

import dataclasses
import math
import re
from collections.abc import Iterator

_WIDTHS = {"pred": 8, "s4": 4, "u4": 4, "bf16": 16, "c64": 64, "c128": 128}
_BUFFER = re.compile(r"(pred|token|opaque|[a-z]+\d+[a-z0-9]*)\[([\d,]*)\](?:\{([^{}]*)\})?")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+)(?: \(.*)?\{\s*$")
_LINE = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_OPCODE = re.compile(r"\s*([a-z][\w\-]*)\(")


@dataclasses.dataclass(frozen=True)
class Buffer:
    """An array of an instruction's result."""

    dtype: str
    dims: tuple[int, ...]
    layout: str = ""

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.dims)

    @property
    def on_chip(self) -> bool:
        """Whether it is kept in on-chip memory rather than in HBM."""
        return re.search(r"S\([1-9]", self.layout) is not None

    @property
    def bytes(self) -> float:
        """Size without padding."""
        return self.elements * self._element

    @property
    def padded_bytes(self) -> float:
        """Size in memory, in whole tiles."""
        match = re.match(r"([\d,]*):T\(([\d,]+)\)", self.layout)
        if not match:
            return self.bytes
        sizes = list(self.dims) or [1]
        order = [int(axis) for axis in match[1].split(",") if axis] or [0]  # the fastest axis first
        for axis, tile in zip(order, reversed(match[2].split(",")), strict=False):
            sizes[axis] = -(-sizes[axis] // int(tile)) * int(tile)
        return math.prod(sizes) * self._element

    @property
    def _element(self) -> float:
        digits = re.search(r"\d+", self.dtype)
        return _WIDTHS.get(self.dtype, int(digits[0]) if digits else 0) / 8


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of a program."""

    name: str
    opcode: str
    result: tuple[Buffer, ...]
    operands: tuple[str, ...]
    inside: str  # the text between the brackets
    rest: str  # the attributes after them
    root: bool

    def called(self, *attributes: str) -> list[str]:
        """Names of the computations that some attributes name."""
        names: list[str] = []
        for attribute in attributes:
            for match in re.finditer(rf"\b{attribute}=(\{{[^}}]*\}}|%?[\w.\-]+)", self.rest):
                names += re.findall(r"[\w.\-]+", match[1])
        return names


Computation = dict[str, Instruction]


def parse(text: str) -> tuple[dict[str, Computation], str]:
    """Reads the text of a compiled program, `compiled.as_text()`.

    Returns:
      Its computations by name, and the name of its entry computation.

    Raises:
      ValueError: the text has no entry computation, or a line cannot be read.
    """
    computations: dict[str, Computation] = {}
    entry, current = "", None
    for line in text.splitlines():
        head = _HEAD.match(line)
        if head and not line.startswith("HloModule"):
            current = computations.setdefault(head[2], {})
            entry = head[2] if head[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (match := _LINE.match(line)):
            instruction = _instruction(match[2], match[3], root=bool(match[1]))
            current[instruction.name] = instruction
    if entry not in computations:
        raise ValueError("expected the text of a compiled program, found no ENTRY computation in it")
    return computations, entry


def _instruction(name: str, text: str, *, root: bool) -> Instruction:
    end = _closing(text) + 1 if text.startswith("(") else text.index(" ")
    opcode = _OPCODE.match(text, end)
    if opcode is None:
        raise ValueError(f"cannot read the instruction {name}: {text[:200]}")
    close = _closing(text, opcode.end() - 1)
    inside = text[opcode.end() : close]
    return Instruction(
        name,
        opcode[1],
        tuple(_buffers(text[:end])),
        tuple(re.findall(r"%([\w.\-]+)", inside)),
        inside,
        text[close + 1 :],
        root,
    )


def _closing(text: str, start: int = 0) -> int:
    """Index of the bracket that closes the one at `start`."""
    depth = 0
    for match in re.compile(r"[()]").finditer(text, start):
        depth += 1 if match[0] == "(" else -1
        if depth == 0:
            return match.start()
    raise ValueError(f"a bracket is not closed in {text[:200]}")


def _buffers(text: str) -> Iterator[Buffer]:
    text = re.sub(r"/\*.*?\*/", "", text)
    for dtype, dims, layout in _BUFFER.findall(text):
        yield Buffer(dtype, tuple(int(size) for size in dims.split(",") if size), layout)
