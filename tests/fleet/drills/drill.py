"""A drill: one fault under load, and its bounds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from clients import Meter


@dataclass(frozen=True)
class Drill:
    """One fault under load, and its bounds.

    Gaps are the longest time without a success, in seconds; while commits wait, the meter's clients wait as well and
    send no reads. `failed_…` is the permitted number of failed requests; None leaves it to the gap. No acknowledged
    order may be lost or duplicated, and an order that is repeated afterward is the same order.
    """

    name: str
    breaks: str
    fault: Callable[[Meter], None]
    write_gap: float
    read_gap: float
    failed_writes: int | None
    failed_reads: int | None
    # Options of the meter that differ from its defaults.
    load: Mapping[str, Any] = field(default_factory=dict)
