"""Does the fleet survive each fault within its bounds, without a lost order, and by itself?"""

import os
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest
import reliability
from catalog import chosen
from drill import Drill
from lab import changes, measured, play
from running import run


@pytest.fixture(scope="module", autouse=True)
def lab() -> None:
    """Refuse to run without a lab."""
    if subprocess.run(["podman", "container", "exists", "tf-lb1"], check=False).returncode:
        pytest.exit("There is no lab to break. Type `make up` first.", returncode=2)


@pytest.mark.parametrize("drill", chosen(), ids=lambda drill: drill.name)
def test_fleet_survives_the_fault(drill: Drill, tmp_path: Path) -> None:
    """Every bound holds, no order is lost or duplicated, there are never two primaries, and the fleet is healthy again.

    A drill that DRILL names gets a row in docs/reliability.md; one that does not complete has none.
    """
    named = bool(os.environ.get("DRILL"))
    if named:
        reliability.keep(drill, None)
    result = run(drill, tmp_path)
    if named:
        reliability.keep(drill, asdict(result))
    measured(
        f"{drill.breaks}: write gap {result.write_gap} s, read gap {result.read_gap} s, "
        f"{result.failed_writes} writes and {result.failed_reads} reads of {result.requests} requests failed, "
        f"{result.lost} of {result.acknowledged} acknowledged orders lost, "
        f"healthy {result.healthy_after} s after the repair"
    )
    assert result.broken == []
    # `make test` checks that once, after all of its drills (test_5_afterwards).
    if named:
        assert changes(play("site")) == []
