"""What a drill is: one fault under load, and its bounds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from clients import Meter


@dataclass(frozen=True)
class Drill:
    """One fault under load, and its bounds.

    Gaps are the longest time without a success, in seconds; while commits wait, so do the meter's clients, and send no
    reads. `failed_…` is how many requests may fail; None leaves the number to the gap. Nothing acknowledged may ever be
    lost, nothing duplicated, and an order that is sent again afterwards is the same order.
    """

    name: str
    breaks: str
    fault: Callable[[Meter], None]
    write_gap: float
    read_gap: float
    failed_writes: int | None
    failed_reads: int | None
    # What the meter does otherwise than by default.
    load: Mapping[str, Any] = field(default_factory=dict)
