"""The report of a run of the traffic meter as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tools.meter.database import Comparison
from tools.meter.report import Report


def lines(report: Report) -> Iterator[str]:
    """Yield the lines of the report."""
    settings = ", ".join(f"{name} {value}" for name, value in report.settings.items())
    yield f"meter {report.run_id}: {report.seconds:.1f} s from {report.started}{' (interrupted)' * report.interrupted}"
    yield f"  {settings}"
    yield f"  {report.answered_per_second:g} answers/s, {report.skipped} scheduled requests skipped"
    yield ""
    columns = ("sent", "answered", "ok", "failed", "p50 ms", "p95 ms", "p99 ms", "max ms", "gap s")
    yield f"{'':<15}" + "".join(f"{column:>9}" for column in columns) + "  longest gap from"
    for name, group in report.groups.items():
        counts = (group.sent, group.answered, group.ok, group.failed)
        latency = group.latency_ms
        times = (latency.p50, latency.p95, latency.p99, latency.max) if latency else ("-",) * 4
        cells = "".join(f"{cell:>9}" for cell in (*counts, *times, group.longest_gap.seconds))
        yield f"{name:<15}{cells}  {group.longest_gap.start}"
    yield ""
    everything = report.groups["all"]
    yield f"failed by kind: {_counts(everything.failed_by_kind)}"
    yield f"answers by status: {_counts(everything.statuses)}"
    yield f"reads answered by replicas: {report.replica_reads}"
    for title, values in (("color", report.colors), ("release", report.releases)):
        for name, seen in values.items():
            yield f"{title} {name}: {seen.answers} answers from {seen.first} to {seen.last}"
    for failure in report.failures:
        yield f"  {failure.time} {failure.kind} {failure.method} {failure.path} {failure.target}: {failure.detail}"
    if everything.failed > len(report.failures):
        yield f"  ... and {everything.failed - len(report.failures)} more"
    yield ""
    repeats = report.repeats
    yield (
        f"sent again: {repeats.sent} orders; {repeats.failed} failed, {repeats.other_id} became other orders, "
        f"{repeats.found} were stored although their request had failed"
    )
    yield from (f"  {problem}" for problem in repeats.problems)
    yield _database(report.comparison)
    for bound in report.bounds:
        value = "nothing to measure" if bound.value is None else f"{bound.value:g}"
        yield f"{bound.name} {bound.limit:g}: {value}, {'held' if bound.held else 'BROKEN'}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def _database(comparison: Comparison) -> str:
    if not comparison.compared:
        return f"database: not compared ({comparison.reason}); {comparison.acknowledged} orders acknowledged"
    keys = "".join(
        f"\n  {name}: {' '.join(found)}"
        for name, found in (("lost", comparison.lost_keys), ("duplicated", comparison.duplicated_keys))
        if found
    )
    return (
        f"database: {comparison.acknowledged} orders acknowledged, {comparison.stored} rows stored; "
        f"{comparison.lost} lost, {comparison.duplicated} duplicated{keys}"
    )
