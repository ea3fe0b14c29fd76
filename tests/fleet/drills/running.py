"""Runs a drill: traffic, a fault, and the fleet becomes healthy again by itself."""

from dataclasses import asdict, dataclass
from pathlib import Path

from clients import meter
from drill import Drill
from health import HEALTH
from lab import figures, wait
from writers import two_at_once, writers


@dataclass(frozen=True)
class Result:
    """The outcome of a drill; `notes` are figures of this drill alone, and `broken` lists the bounds that did not hold.

    Gaps are seconds, and so is `healthy_after`, counted from the repair. `repeated` orders were sent
    again after that; some of them failed, or became another order than the acknowledged one.
    """

    name: str
    breaks: str
    write_gap: float
    read_gap: float
    failed_writes: int
    failed_reads: int
    replica_reads: int
    requests: int
    acknowledged: int
    lost: int
    duplicated: int
    repeated: int
    repeated_failed: int
    repeated_other_id: int
    healthy_after: float
    primaries: list[str]
    notes: list[str]
    broken: list[str]


def run(drill: Drill, folder: Path) -> Result:
    """Run a drill on a healthy fleet and return its result."""
    for what, healthy in HEALTH:
        wait(healthy, 120, f"before the drill: {what}")
    noted = len(figures())
    with writers() as written, meter(folder, **drill.load) as traffic:
        drill.fault(traffic)
        healthy_after = sum(wait(healthy, 180, f"after {drill.breaks}: {what}") for what, healthy in HEALTH)
    groups, comparison, repeats = (traffic.report[name] for name in ("groups", "comparison", "repeats"))
    assert comparison["compared"], comparison
    result = Result(
        name=drill.name,
        breaks=drill.breaks,
        write_gap=round(groups["writes"]["longest_gap"]["seconds"], 1),
        read_gap=round(groups["reads"]["longest_gap"]["seconds"], 1),
        failed_writes=groups["writes"]["failed"],
        failed_reads=groups["reads"]["failed"],
        replica_reads=traffic.report["replica_reads"],
        requests=groups["all"]["sent"],
        acknowledged=comparison["acknowledged"],
        lost=comparison["lost"],
        duplicated=comparison["duplicated"],
        repeated=repeats["sent"],
        repeated_failed=repeats["failed"],
        repeated_other_id=repeats["other_id"],
        healthy_after=round(healthy_after, 1),
        primaries=list(dict.fromkeys(write.host for write in written)),
        notes=figures()[noted:],
        broken=[],
    )
    result.broken.extend(judged(drill, result))
    result.broken.extend(filter(None, [two_at_once(written)]))
    return result


def judged(drill: Drill, result: Result) -> list[str]:
    """Return the bounds of a drill that its result breaks, as text."""
    limits = {
        "write_gap": drill.write_gap,
        "read_gap": drill.read_gap,
        "failed_writes": drill.failed_writes,
        "failed_reads": drill.failed_reads,
        "lost": 0,
        "duplicated": 0,
        "repeated_failed": 0,
        "repeated_other_id": 0,
    }
    measured = asdict(result)
    broken = [
        f"{name} is {measured[name]}, the bound {limit}"
        for name, limit in limits.items()
        if limit is not None and measured[name] > limit
    ]
    # Without replica reads the bounds on reads would measure only the primary.
    return broken if result.replica_reads else [*broken, "replica_reads is 0: no replica has answered"]
