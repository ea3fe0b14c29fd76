"""The report of a run of the traffic meter.

The JSON document is a `Report` as written by `dataclasses.asdict`; its fields are the schema. Instants are UTC in ISO
8601 with milliseconds, durations are seconds unless the name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from tools.meter.database import Comparison
from tools.meter.repeats import Repeats


@dataclass(frozen=True)
class Span:
    """When traffic flowed, in seconds of `time.monotonic()`; `clock` is the UTC time at its start."""

    start: float
    stop: float
    clock: datetime

    @property
    def seconds(self) -> float:
        """How long requests were being sent."""
        return max(self.stop - self.start, 0.001)

    def utc(self, instant: float) -> str:
        """Return an instant of the monotonic clock as UTC."""
        moment = self.clock + timedelta(seconds=instant - self.start)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Gap:
    """The longest time without a success, the start and the end of the run counted as its borders."""

    seconds: float
    start: str


@dataclass(frozen=True)
class Latency:
    """From sending to the complete answer, over all answered requests, in milliseconds (nearest rank)."""

    p50: float
    p95: float
    p99: float
    max: float


@dataclass(frozen=True)
class Group:
    """Requests of one sort: `sent` is `ok` plus `failed`; `answered` had a complete answer of any status."""

    sent: int
    answered: int
    ok: int
    failed: int
    failed_by_kind: dict[str, int]
    statuses: dict[str, int]
    latency_ms: Latency | None
    longest_gap: Gap


@dataclass(frozen=True)
class Seen:
    """Answers that bore one value of X-Color or X-Release (`unknown`: none), with the first and the last of them."""

    answers: int
    first: str
    last: str


@dataclass(frozen=True)
class FailedRequest:
    """One of the first failures; `time` is when it was known to have failed."""

    time: str
    kind: str
    method: str
    path: str
    detail: str
    target: str
    new_connection: bool


@dataclass(frozen=True)
class Bound:
    """A limit on a `value`; None when there was nothing to measure, and then the bound is broken, not held."""

    name: str
    limit: float
    value: float | None
    held: bool


@dataclass(frozen=True)
class Report:
    """The whole run.

    `settings` are the traffic's options by name; `interrupted` says that a signal ended it early; `skipped` counts
    scheduled requests never sent because their client was still waiting; `groups` has all, reads, writes, keep_alive
    and new_connection; `replica_reads` counts reads that a replica answered; `passed` is true when every bound held.
    """

    run_id: str
    started: str
    seconds: float
    interrupted: bool
    settings: dict[str, object]
    skipped: int
    answered_per_second: float
    groups: dict[str, Group]
    colours: dict[str, Seen]
    releases: dict[str, Seen]
    replica_reads: int
    failures: list[FailedRequest]
    repeats: Repeats
    comparison: Comparison
    bounds: list[Bound]
    passed: bool
