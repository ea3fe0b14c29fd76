"""Does the fleet come through each fault within its bounds, without losing an order, and by itself?"""

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
    """Break nothing that is not there."""
    if subprocess.run(["podman", "container", "exists", "tf-lb1"], check=False).returncode:
        pytest.exit("There is no lab to break. Type «make up» first.", returncode=2)


@pytest.mark.parametrize("drill", chosen(), ids=lambda drill: drill.name)
def test_drill(drill: Drill, tmp_path: Path) -> None:
    """Within its bounds, nothing lost or doubled, never two primaries, and healthy again.

    A drill that was asked for by name has its row in docs/reliability.md; one that fails on its way has none.
    """
    asked = bool(os.environ.get("DRILL"))
    if asked:
        reliability.keep(drill, None)
    result = run(drill, tmp_path)
    if asked:
        reliability.keep(drill, asdict(result))
    measured(
        f"{drill.breaks}: write gap {result.write_gap} s, read gap {result.read_gap} s, "
        f"{result.failed_writes} writes and {result.failed_reads} reads of {result.requests} requests failed, "
        f"{result.lost} of {result.acknowledged} acknowledged orders lost, "
        f"healthy {result.healthy_after} s after it was mended"
    )
    assert result.broken == []
    # «make test» asks that once, after all of its drills (test_5_afterwards).
    if asked:
        assert changes(play("site")) == []
