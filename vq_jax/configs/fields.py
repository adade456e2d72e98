"""Metadata of configuration fields: which of them may differ, and between what.

A field without it defines the run: the run does not resume with another value. Given to a field as
`dataclasses.field(default=..., metadata=RESUME)`; of a field that is itself a configuration, it holds for all
fields inside.
"""

from typing import Literal

Across = Literal["resume", "processes"]
"""What a field may differ across: a run and its continuation, or the processes of one run."""

RESUME: dict[str, tuple[Across, ...]] = {"may_differ": ("resume",)}
"""May differ when a run resumes."""
LOCAL: dict[str, tuple[Across, ...]] = {"may_differ": ("resume", "processes")}
"""Where a host keeps its files and how it reads them: may also differ between processes."""
