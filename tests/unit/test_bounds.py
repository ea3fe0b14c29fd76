"""The drills judge the fleet: a defect that they overlook would become a false claim in docs/reliability.md."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import reliability
from catalog import DRILLS, SITES, TELLING, chosen
from drill import Drill
from running import Result, judged
from writers import Write, two_at_once

GOOD = Result(
    name="primary-off",
    breaks="",
    write_gap=1,
    read_gap=1,
    failed_writes=0,
    failed_reads=0,
    replica_reads=10,
    requests=100,
    acknowledged=30,
    lost=0,
    duplicated=0,
    repeated=20,
    repeated_failed=0,
    repeated_other_id=0,
    healthy_after=1,
    primaries=[],
    notes=[],
    broken=[],
)
BOUNDED = Drill("primary-off", "", lambda run: None, 5, 2, 3, None)


def writes(*found: tuple[str, str]) -> list[Write]:
    """Return acknowledged writes, one per second, with host and timeline."""
    return [Write(host, timeline, at) for at, (host, timeline) in enumerate(found)]


def test_failover_and_return_are_no_split_brain() -> None:
    """Each promotion begins a timeline, and the former one gets no more writes."""
    assert two_at_once(writes(("data1", "01"), ("data2", "02"), ("data2", "02"), ("data1", "03"))) == ""
    assert two_at_once([]) == ""


def test_write_on_a_former_primary_is_detected() -> None:
    """It is detected however late it comes after the promotion."""
    defect = two_at_once(writes(("data1", "01"), ("data2", "02"), ("data1", "01")))
    assert defect == "data1 took a write on timeline 01 after data2 had begun 02"


def test_two_hosts_on_one_timeline_are_detected() -> None:
    """Another host was promoted from the same point."""
    assert "timeline 02 was written on data2 and on data3" in two_at_once(writes(("data2", "02"), ("data3", "02")))


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("write_gap", replace(GOOD, write_gap=5.1)),
        ("read_gap", replace(GOOD, read_gap=2.1)),
        ("replica_reads", replace(GOOD, replica_reads=0)),
        ("failed_writes", replace(GOOD, failed_writes=4)),
        ("lost", replace(GOOD, lost=1)),
        ("duplicated", replace(GOOD, duplicated=1)),
        ("repeated_failed", replace(GOOD, repeated_failed=1)),
        ("repeated_other_id", replace(GOOD, repeated_other_id=1)),
    ],
)
def test_each_broken_bound_is_reported(name: str, result: Result) -> None:
    """Each bound is broken alone; a value without a bound breaks none."""
    assert judged(BOUNDED, replace(GOOD, failed_reads=1000)) == []
    assert [broken.split()[0] for broken in judged(BOUNDED, result)] == [name]


def test_drills_have_unique_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make drill DRILL=…` finds each, and lists the existing ones if it does not."""
    names = [drill.name for drill in DRILLS]
    assert len(set(names)) == len(names)
    for wanted, expected in (("", list(TELLING)), ("all", names), ("redis-gone", ["redis-gone"])):
        monkeypatch.setenv("DRILL", wanted)
        assert [drill.name for drill in chosen()] == expected
    monkeypatch.setenv("DRILL", "nonsense")
    with pytest.raises(KeyError, match="nonsense is none of: all, postgres-killed"):
        chosen()


def test_page_matches_the_kept_results() -> None:
    """docs/reliability.md is generated from the results, line by line."""
    kept = json.loads(reliability.KEPT.read_text())
    assert kept.keys() <= {*(drill.name for drill in DRILLS), *SITES}
    written = reliability.page(kept).splitlines()
    # The first lines name the processors of the machine that wrote the page.
    assert written[5:] == reliability.PAGE.read_text().splitlines()[5:]


def test_new_result_replaces_the_former_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results of other drills stay; a drill that does not complete has none."""
    monkeypatch.setattr(reliability, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(reliability, "KEPT", tmp_path / "kept.json")
    reliability.KEPT.write_text("{}")
    drills = {drill.name: drill for drill in DRILLS}
    for name in ("redis-off", "primary-off", "primary-off"):
        reliability.keep(drills[name], asdict(GOOD))
    assert json.loads(reliability.KEPT.read_text()).keys() == {"primary-off", "redis-off"}
    assert "(`redis-off`) | 1 (9)" in reliability.PAGE.read_text()
    reliability.keep(drills["primary-off"], None)
    assert json.loads(reliability.KEPT.read_text()).keys() == {"redis-off"}
    assert "- `primary-off`\n" in reliability.PAGE.read_text()
