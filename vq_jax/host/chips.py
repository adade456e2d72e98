"""TPU chips and slices, as their manufacturer publishes them. Imports no jax.

References:
  cloud.google.com/tpu/docs, pages v4, v5e, v5p and v6e: compute, memory and interconnect of a chip, shapes of
  slices. The interconnect is given there for a chip and both directions: the bandwidth of a link is half of
  that divided by the number of links, four in a plane of chips and six in space.
"""

import dataclasses
import math

from vq_jax.errors import UserError, nearest_names

_PLANE = ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_SPACE = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16")


@dataclasses.dataclass(frozen=True)
class Chip:
    """One chip."""

    name: str
    hbm: float  # bytes
    flops: float  # bfloat16 operations a second
    hbm_bandwidth: float  # bytes a second
    link_bandwidth: float  # bytes a second of one link of the interconnect, in one direction
    slices: tuple[str, ...]  # shapes
    accelerator: str  # what gcloud calls a slice, before the number
    cores: int  # of a chip, as the number counts them
    wrap: int  # an axis of this many chips, or of a multiple where chips are in space, is a ring
    compiler: tuple[tuple[str, str], ...] = ()  # options of libtpu beside the shape


_GIB = 2.0**30
# On v4 and v5p both cores of a chip are one device.
_ONE_DEVICE = (("chip_config_name", "megacore"),)
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", 32 * _GIB, 275e12, 1228e9, 50e9, _SPACE, "v4", 2, 4, _ONE_DEVICE),
        Chip("v5e", 16 * _GIB, 197e12, 819e9, 50e9, _PLANE, "v5litepod", 1, 16),
        Chip("v5p", 95 * _GIB, 459e12, 2765e9, 100e9, _SPACE, "v5p", 2, 4, _ONE_DEVICE),
        Chip("v6e", 32 * _GIB, 918e12, 1638e9, 100e9, _PLANE, "v6e", 1, 16),
    )
}


@dataclasses.dataclass(frozen=True)
class Slice:
    """A slice of a pod: chips in a box."""

    chip: Chip
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """Its name, such as v5e:4x4."""
        return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

    @property
    def chips(self) -> int:
        """Number of chips."""
        return math.prod(self.shape)

    @property
    def accelerator_type(self) -> str:
        """Its name in gcloud, such as v5litepod-16."""
        return f"{self.chip.accelerator}-{self.chips * self.chip.cores}"

    @property
    def links(self) -> int:
        """Links of the chip that has the fewest: one in a corner of the box.

        A chip has two links along an axis whose ends are joined, else one. They are joined along a whole
        pod's side of 16 chips on v5e and v6e, and on v4 and v5p where all axes are multiples of four.
        """
        if len(self.shape) == 2:
            joined = [size % self.chip.wrap == 0 for size in self.shape]
        else:
            joined = [all(size % self.chip.wrap == 0 for size in self.shape)] * 3
        return sum(2 if ring else 1 for size, ring in zip(self.shape, joined, strict=True) if size > 1)

    @property
    def egress(self) -> float:
        """Bytes a second that every chip can send at the same time as the others."""
        return self.links * self.chip.link_bandwidth


def known_slices() -> list[str]:
    """Names of all slices."""
    return [f"{chip.name}:{shape}" for chip in CHIPS.values() for shape in chip.slices]


def parse_slice(name: str) -> Slice:
    """Reads the name of a slice, such as v5e:4x4.

    Raises:
      UserError: no slice has that name; the message lists them all.
    """
    known = known_slices()
    if name not in known:
        lists = "; ".join(
            ", ".join(f"{chip.name}:{shape}" for shape in chip.slices) for chip in CHIPS.values()
        )
        raise UserError(f"unknown topology {name!r}{nearest_names(name, known)} (known: {lists})")
    kind, shape = name.split(":")
    return Slice(CHIPS[kind], tuple(map(int, shape.split("x"))))
