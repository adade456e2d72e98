"""Metadata of configuration fields that may differ within a run.

A field without this metadata defines the run, which does not resume with another value. It is given as
`dataclasses.field(default=..., metadata=RESUME)`; on a field that is itself a configuration, it holds for all
fields inside.
"""

from typing import Literal

Across = Literal["resume", "processes"]
"""Where a field may differ: between a run and its continuation, or between the processes of a run."""

RESUME: dict[str, tuple[Across, ...]] = {"may_differ": ("resume",)}
"""For fields that may change when a run resumes."""
LOCAL: dict[str, tuple[Across, ...]] = {"may_differ": ("resume", "processes")}
"""For fields that may also differ between processes: where a host keeps its files, how it reads them."""
