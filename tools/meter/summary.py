"""Summarizes the outcomes of a run as a report and checks the bounds."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from tools.meter.client import Outcome
from tools.meter.database import Comparison
from tools.meter.repeats import Repeats
from tools.meter.report import Bound, FailedRequest, Gap, Group, Latency, Report, Seen, Span

SHOWN_FAILURES = 20


def summarize(
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
    """Summarize a run and check it against `limits`, named like the options (`max-failed`, ...)."""
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
        colors=_seen(outcomes, lambda outcome: outcome.color, span),
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
    # After sending has stopped, the next success ends the last gap. Without one, the gap lasts until the last request
    # has failed.
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
    # "None of 0 requests failed" is true and worthless: without requests of its kind a bound has no value.
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
