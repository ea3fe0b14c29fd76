"""The drills judge the fleet: what they would overlook would be claimed in docs/reliability.md."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import reliability
from catalog import DRILLS, TELLING, chosen
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
    """Return acknowledged writes, one a second: host and timeline of each."""
    return [Write(host, timeline, at) for at, (host, timeline) in enumerate(found)]


def test_a_failover_and_the_way_back_are_no_split() -> None:
    """Each promotion begins a timeline, and the former one gets no more writes."""
    assert two_at_once(writes(("data1", "01"), ("data2", "02"), ("data2", "02"), ("data1", "03"))) == ""
    assert two_at_once([]) == ""


def test_a_former_primary_that_still_takes_writes_is_found() -> None:
    """After the new one has begun, however late."""
    said = two_at_once(writes(("data1", "01"), ("data2", "02"), ("data1", "01")))
    assert said == "data1 took a write on timeline 01 after data2 had begun 02"


def test_two_hosts_on_one_timeline_are_found() -> None:
    """A host that was promoted beside another, from the same point."""
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
def test_each_broken_bound_is_named(name: str, result: Result) -> None:
    """One after the other; what has no bound of its own breaks none."""
    assert judged(BOUNDED, replace(GOOD, failed_reads=1000)) == []
    assert [broken.split()[0] for broken in judged(BOUNDED, result)] == [name]


def test_drills_have_names_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """«make drill DRILL=…» finds each, and says what there is when it does not."""
    names = [drill.name for drill in DRILLS]
    assert len(set(names)) == len(names)
    for wanted, expected in (("", list(TELLING)), ("all", names), ("redis-gone", ["redis-gone"])):
        monkeypatch.setenv("DRILL", wanted)
        assert [drill.name for drill in chosen()] == expected
    monkeypatch.setenv("DRILL", "nonsense")
    with pytest.raises(KeyError, match="nonsense is none of: all, postgres-killed"):
        chosen()


def test_the_page_tells_of_the_results_that_are_kept() -> None:
    """docs/reliability.md is what the drills have written, line by line."""
    kept = json.loads(reliability.KEPT.read_text())
    assert kept.keys() <= {drill.name for drill in DRILLS}
    written = reliability.page(kept).splitlines()
    # The first lines name the processors of the machine that wrote it.
    assert written[5:] == reliability.PAGE.read_text().splitlines()[5:]


def test_a_result_takes_the_place_of_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other drills' stay; a drill that does not come to its end has none."""
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
