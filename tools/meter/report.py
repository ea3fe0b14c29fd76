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
        """Return for how long requests were sent."""
        return max(self.stop - self.start, 0.001)

    def utc(self, instant: float) -> str:
        """Return an instant of the monotonic clock as UTC."""
        moment = self.clock + timedelta(seconds=instant - self.start)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Gap:
    """The longest time without a success; it may begin with the run or end with it."""

    seconds: float
    start: str


@dataclass(frozen=True)
class Latency:
    """Milliseconds from sending to the complete answer, over all answered requests (nearest rank)."""

    p50: float
    p95: float
    p99: float
    max: float


@dataclass(frozen=True)
class Group:
    """Requests of one kind: `sent` is `ok` plus `failed`; `answered` ones had a complete answer of any status."""

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
    """Answers with one value of X-Color or X-Release (`unknown` without it), and the times of the first and last."""

    answers: int
    first: str
    last: str


@dataclass(frozen=True)
class FailedRequest:
    """One of the first failures; `time` is when the failure was noticed."""

    time: str
    kind: str
    method: str
    path: str
    detail: str
    target: str
    new_connection: bool


@dataclass(frozen=True)
class Bound:
    """A limit on a `value`; if the value is None, nothing was measured and the bound is broken."""

    name: str
    limit: float
    value: float | None
    held: bool


@dataclass(frozen=True)
class Report:
    """The whole run.

    `settings` are the options of the traffic by name; `interrupted` is true if a signal ended it early; `skipped`
    counts scheduled requests that were not sent because their client was still waiting; `groups` contains all, reads,
    writes, keep_alive and new_connection; `replica_reads` counts reads from replicas; `passed` is true if every bound
    held.
    """

    run_id: str
    started: str
    seconds: float
    interrupted: bool
    settings: dict[str, object]
    skipped: int
    answered_per_second: float
    groups: dict[str, Group]
    colors: dict[str, Seen]
    releases: dict[str, Seen]
    replica_reads: int
    failures: list[FailedRequest]
    repeats: Repeats
    comparison: Comparison
    bounds: list[Bound]
    passed: bool
