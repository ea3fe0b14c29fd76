"""What a run of the traffic meter showed: the JSON document, and the bounds it is held to.

The JSON document is a `Report` as written by `dataclasses.asdict`; its fields are the schema. Instants are UTC in ISO
8601 with milliseconds, durations are seconds unless the name says otherwise.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from meter_client import Outcome
from meter_database import Comparison
from meter_repeats import Repeats

SHOWN_FAILURES = 20


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


def build(
    *,
    run_id: str,
    span: Span,
    interrupted: bool,
    settings: Mapping[str, object],
    skipped: int,
    outcomes: Sequence[Outcome],
    repeats: Repeats,
    comparison: Comparison,
    limits: Mapping[str, float],
) -> Report:
    """Summarise a run and hold it to `limits`, which are named as the options are (`max-failed`, ...)."""
    outcomes = sorted(outcomes, key=lambda outcome: outcome.finished)
    groups = {
        "all": _group(outcomes, span),
        "reads": _group([o for o in outcomes if o.request.method == "GET"], span),
        "writes": _group([o for o in outcomes if o.request.method == "POST"], span),
        "keep_alive": _group([o for o in outcomes if not o.new_connection], span),
        "new_connection": _group([o for o in outcomes if o.new_connection], span),
    }
    rate = groups["all"].answered / span.seconds
    bounds = _bounds(groups, rate, comparison, limits)
    return Report(
        run_id=run_id,
        started=span.utc(span.start),
        seconds=round(span.seconds, 3),
        interrupted=interrupted,
        settings=dict(settings),
        skipped=skipped,
        answered_per_second=round(rate, 2),
        groups=groups,
        colours=_seen(outcomes, lambda outcome: outcome.colour, span),
        releases=_seen(outcomes, lambda outcome: outcome.release, span),
        replica_reads=sum(o.by_replica and not o.failure for o in outcomes),
        failures=[
            FailedRequest(
                time=span.utc(o.finished),
                kind=o.failure,
                method=o.request.method,
                path=o.request.path,
                detail=o.detail,
                target=o.target,
                new_connection=o.new_connection,
            )
            for o in outcomes
            if o.failure
        ][:SHOWN_FAILURES],
        repeats=repeats,
        comparison=comparison,
        bounds=bounds,
        passed=all(bound.held for bound in bounds),
    )


def _group(outcomes: Sequence[Outcome], span: Span) -> Group:
    kinds = Counter(o.failure for o in outcomes if o.failure)
    statuses = Counter(str(o.status) for o in outcomes if o.status)
    failed = kinds.total()
    return Group(
        sent=len(outcomes),
        answered=statuses.total(),
        ok=len(outcomes) - failed,
        failed=failed,
        failed_by_kind=dict(sorted(kinds.items())),
        statuses=dict(sorted(statuses.items())),
        latency_ms=_latency([(o.finished - o.started) * 1000 for o in outcomes if o.status]),
        longest_gap=_longest_gap(outcomes, span),
    )


def _latency(milliseconds: Iterable[float]) -> Latency | None:
    ordered = sorted(milliseconds)
    if not ordered:
        return None
    p50, p95, p99, most = (round(ordered[math.ceil(len(ordered) * q) - 1], 1) for q in (0.5, 0.95, 0.99, 1.0))
    return Latency(p50, p95, p99, most)


def _longest_gap(outcomes: Sequence[Outcome], span: Span) -> Gap:
    successes = [o.finished for o in outcomes if not o.failure]
    # Once sending has stopped, the time to the next success says nothing; but a run that ends in silence is silent
    # until its last request has failed.
    marks = [span.start, *(instant for instant in successes if instant < span.stop)]
    last = max((o.finished for o in outcomes), default=span.stop)
    marks.append(next((instant for instant in successes if instant >= span.stop), max(span.stop, last)))
    start, end = max(itertools.pairwise(marks), key=lambda pair: pair[1] - pair[0])
    return Gap(round(end - start, 3), span.utc(start))


def _seen(outcomes: Iterable[Outcome], value: Callable[[Outcome], str], span: Span) -> dict[str, Seen]:
    instants: dict[str, list[float]] = {}
    for outcome in outcomes:
        if outcome.status:
            instants.setdefault(value(outcome), []).append(outcome.finished)
    return {name: Seen(len(found), span.utc(found[0]), span.utc(found[-1])) for name, found in instants.items()}


def _bounds(
    groups: Mapping[str, Group], rate: float, comparison: Comparison, limits: Mapping[str, float]
) -> list[Bound]:
    everything, reads, writes = groups["all"], groups["reads"], groups["writes"]
    compared = comparison.compared and comparison.acknowledged > 0
    # "None of no requests failed" is true and worthless: without requests of its sort a bound has no value.
    values: dict[str, float | None] = {
        "max-failed": everything.failed if everything.sent else None,
        "max-failed-reads": reads.failed if reads.sent else None,
        "max-failed-writes": writes.failed if writes.sent else None,
        "max-gap": everything.longest_gap.seconds if everything.sent else None,
        "max-lost": comparison.lost if compared else None,
        "max-duplicated": comparison.duplicated if compared else None,
        "min-rate": round(rate, 2),
    }
    return [Bound(name, limit, values[name], _holds(name, values[name], limit)) for name, limit in limits.items()]


def _holds(name: str, value: float | None, limit: float) -> bool:
    if value is None:
        return False
    return value >= limit if name.startswith("min-") else value <= limit
