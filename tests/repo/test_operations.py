"""The lock names its holder, the journal shows what was changed, and a crash costs nothing that was acknowledged."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from repository import PROJECT

PROGRAM = PROJECT / "roles/operations/files/tradefleet-operations"


class Fleet:
    """A fleet's lock and journal in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        """Remember the folder."""
        self.folder = folder
        self.journal = folder / "journal.jsonl"

    def run(self, command: str, **words: str) -> subprocess.CompletedProcess[str]:
        """Run one command."""
        argv = [
            sys.executable,
            str(PROGRAM),
            command,
            *(f"--{name.strip('_')}={value}" for name, value in words.items()),
        ]
        environment = {"TRADEFLEET_OPERATIONS": str(self.folder)}
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=20, check=False)

    def events(self) -> list[tuple[str, str]]:
        """Return event and who of each line."""
        return [(entry["event"], entry["who"]) for entry in map(json.loads, self.journal.read_text().splitlines())]


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """Return a fleet that nobody has touched."""
    return Fleet(tmp_path)


def test_the_second_operator_learns_who_is_at_work(fleet: Fleet) -> None:
    """And gets the lock when that one is done."""
    assert (
        fleet.run("begin", who="alex@desk", session="1", operation="cutover", _from="blue", to="green").returncode == 0
    )
    refused = fleet.run("begin", who="kim@laptop", session="2", operation="deploy")
    assert refused.returncode == 3
    assert "alex@desk holds the lock since 0 min" in refused.stderr
    assert "cutover" in refused.stderr
    assert fleet.run("end", who="kim@laptop", session="2", result="ok").stdout == "null\n"
    assert json.loads(fleet.run("end", who="alex@desk", session="1", result="ok").stdout)["result"] == "ok"
    assert fleet.run("begin", who="kim@laptop", session="2", operation="deploy").returncode == 0


def test_of_many_at_once_one_gets_it(fleet: Fleet) -> None:
    """Twenty sessions in the same moment."""
    with ThreadPoolExecutor(20) as pool:
        done = list(pool.map(lambda number: fleet.run("begin", who="x", session=str(number)).returncode, range(20)))
    assert sorted(done) == [0] + [3] * 19


def test_a_crashed_controllers_lock_is_taken_away_with_a_reason(fleet: Fleet) -> None:
    """By an explicit command; its own next run needs none."""
    fleet.run("begin", who="alex@desk", session="1", operation="cutover")
    assert fleet.run("begin", who="alex@desk", session="1", operation="cutover").returncode == 0
    fleet.run("unlock", who="kim@laptop", reason="the desk burnt down")
    assert fleet.run("begin", who="kim@laptop", session="2", operation="cutover").returncode == 0
    assert [event for event, _ in fleet.events()] == ["begin", "end", "begin", "unlock", "begin"]
    assert "the desk burnt down" in fleet.journal.read_text()


@pytest.mark.parametrize("change", ["changed", "taken out", "added"])
def test_a_tampered_journal_is_found(fleet: Fleet, change: str) -> None:
    """Wherever it was touched; whole, it verifies."""
    for number in range(5):
        fleet.run("begin", who=f"operator{number}", session=str(number))
        fleet.run("end", who=f"operator{number}", session=str(number), result="ok")
    assert fleet.run("verify").returncode == 0
    kept = fleet.journal.read_text().splitlines()
    if change == "changed":
        kept[3] = kept[3].replace("operator1", "nobody")
    elif change == "taken out":
        del kept[3]
    else:
        kept.insert(3, kept[2])
    fleet.journal.write_text("\n".join(kept) + "\n")
    broken = fleet.run("verify")
    assert broken.returncode == 1
    assert "does not follow the one before it" in broken.stdout


def test_a_line_that_a_crash_cut_short_is_replaced(fleet: Fleet) -> None:
    """It was acknowledged to nobody; the chain goes on from the last whole one."""
    fleet.run("lock", who="alex@desk", session="1", reason="maintenance of the power supply")
    with fleet.journal.open("a") as journal:
        journal.write('{"event": "end", "who')
    assert fleet.run("begin", who="kim@laptop", session="2").returncode == 3
    fleet.run("end", who="alex@desk", session="1", result="ok")
    assert fleet.run("verify").returncode == 0
    assert fleet.events() == [("lock", "alex@desk"), ("end", "alex@desk")]
