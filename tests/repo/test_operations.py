"""The lock names its holder, the journal records changes, and a crash loses nothing that was acknowledged."""

import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from repository import PROJECT

PROGRAM = PROJECT / "roles/operations/files/tradefleet-operations"
ALEX = {"who": "alex@desk", "checkout": "/home/alex/tradefleet"}
KIM = {"who": "kim@laptop", "checkout": "/home/kim/tradefleet"}


class Fleet:
    """A fleet's lock and journal in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        """Store the folder."""
        self.folder = folder
        self.journal = folder / "journal.jsonl"

    def run(self, command: str, **words: str) -> subprocess.CompletedProcess[str]:
        """Run one command."""
        argv = [sys.executable, str(PROGRAM), command, *(f"--{name}={value}" for name, value in words.items())]
        environment = os.environ | {"TRADEFLEET_OPERATIONS": str(self.folder)}
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)

    def begin(self, verb: str, target: str = "", change: str = "", **who: str) -> str:
        """Begin an operation and return its number."""
        done = self.run("begin", verb=verb, target=target, change=change, **(who or ALEX))
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["number"])

    def events(self) -> list[str]:
        """Return the event of each line of the journal."""
        return [json.loads(line)["event"] for line in self.journal.read_text().splitlines()]

    def rows(self) -> list[list[str]]:
        """Return the cells of the table, without the times."""
        return [line.split()[1:] for line in self.run("journal").stdout.splitlines()[1:]]


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """Return a fleet without operations."""
    return Fleet(tmp_path)


def test_second_operator_is_refused_with_the_holder_of_the_lock(fleet: Fleet) -> None:
    """The message has the operation and its duration; after its end the second operator acquires the lock."""
    number = fleet.begin("cutover", "green 0.2.0")
    refused = fleet.run("begin", verb="deploy", **KIM)
    assert refused.returncode == 3
    assert "alex@desk has held the lock for 0 min" in refused.stderr
    assert "cutover green 0.2.0" in refused.stderr
    assert fleet.run("end", number=number, result="ok").returncode == 0
    fleet.begin("deploy", **KIM)
    assert fleet.events() == ["begin", "end", "begin"]


def test_only_one_of_many_acquires_the_lock(fleet: Fleet) -> None:
    """Twenty try at the same time."""
    with ThreadPoolExecutor(20) as pool:
        done = list(pool.map(lambda one: fleet.run("begin", who=f"operator{one}", verb="site").returncode, range(20)))
    assert sorted(done) == [0] + [3] * 19
    assert fleet.run("verify").returncode == 0


def test_lock_of_a_killed_run_is_broken_only_by_unlock(fleet: Fleet) -> None:
    """This also applies to the same operator; a run whose lock was broken cannot release it."""
    killed = fleet.begin("cutover", "green 0.2.0")
    own = fleet.run("begin", verb="cutover", **ALEX)
    assert own.returncode == 3
    assert "Your own run from this checkout" in own.stderr
    assert "`make unlock REASON=…`" in own.stderr
    other_checkout = fleet.run("begin", verb="cutover", who=ALEX["who"], checkout="/tmp/other")  # noqa: S108 (a name)
    assert "alex@desk has held the lock" in other_checkout.stderr
    assert "alex@desk cutover green 0.2.0" in fleet.run("unlock", who=KIM["who"], reason="the desk burnt down").stdout
    fleet.begin("rollback", **KIM)
    late = fleet.run("end", number=killed, result="ok")
    assert late.returncode == 3
    assert "kim@laptop broke it (the desk burnt down)" in late.stderr
    assert fleet.events() == ["begin", "unlock", "begin"]


def test_lock_by_hand_excludes_other_operators(fleet: Fleet) -> None:
    """Its holder's operations continue under it, one at a time; unlocking a free lock is no error."""
    assert fleet.run("lock", reason="new switches", **ALEX).returncode == 0
    refused = fleet.run("begin", verb="deploy", **KIM)
    assert refused.returncode == 3
    assert ": new switches" in refused.stderr
    number = fleet.begin("cutover")
    assert fleet.run("begin", verb="deploy", **ALEX).returncode == 3
    fleet.run("end", number=number, result="ok")
    assert "alex@desk for" in fleet.run("status").stdout
    assert fleet.run("lock", reason="mine", **KIM).returncode == 3
    assert fleet.run("unlock", who=ALEX["who"], reason="done").returncode == 0
    assert fleet.run("status").stdout.startswith("lock: free\n")
    assert fleet.run("unlock", who=ALEX["who"], reason="again").stdout == "Nobody held the lock.\n"


def test_journal_is_printed_as_a_table(fleet: Fleet) -> None:
    """The columns include operator, target, result, change and reason; status shows the last five lines."""
    begun = fleet.run("begin", **ALEX, verb="deploy", target="green-2", change="CHG-7", **{"from": "green-1"})
    assert json.loads(begun.stdout)["from"] == "green-1"
    fleet.run("end", number=json.loads(begun.stdout)["number"], result="failed", reason="wrong-checksum" * 9)
    assert json.loads(fleet.journal.read_text().splitlines()[-1])["reason"] == "wrong-checksum" * 9
    fleet.begin("site")
    fleet.run("unlock", who=KIM["who"], reason="gone")
    first, *others = fleet.rows()
    assert first[:5] + first[6:] == [
        "alex@desk",
        "deploy",
        "green-1",
        "green-2",
        "failed",
        "CHG-7",
        "wrong-checksum" * 9,
    ]
    assert first[5].isdigit()
    assert others == [
        ["alex@desk", "site", "-", "-", "broken", "off", "-", "-", "-"],
        ["kim@laptop", "unlock", "-", "-", "ok", "-", "-", "gone"],
    ]
    assert ("wrong-checksum" * 9)[:59] + "…" in fleet.run("status").stdout
    for each in range(6):
        fleet.run("end", number=fleet.begin("canary", f"{each}%"), result="ok")
    fleet.begin("site", "\x1b[2Jall")
    assert [row[1:5] for row in fleet.rows()[-2:]] == [["canary", "-", "5%", "ok"], ["site", "-", "[2Jall", "running"]]
    assert len(fleet.run("status").stdout.splitlines()) == 3 + 5
    assert len(fleet.run("journal", last="2").stdout.splitlines()) == 1 + 2


def test_lines_without_newer_fields_are_valid(fleet: Fleet) -> None:
    """The first version of the program wrote such lines; new ones follow them."""
    begun = '{"number": 1, "time": "2026-11-21T08:00:00Z", "event": "begin", "who": "alex@desk", "checkout": "/c", '
    begun += f'"verb": "cutover", "target": "green", "previous": "{"0" * 64}"}}'
    ended = '{"number": 2, "time": "2026-11-21T08:00:09Z", "event": "end", "of": 1, "who": "alex@desk", '
    ended += f'"result": "failed", "seconds": 9, "previous": "{hashlib.sha256(begun.encode()).hexdigest()}"}}'
    fleet.journal.write_text(f"{begun}\n{ended}\n")
    fleet.run("end", number=fleet.begin("site"), result="failed", reason="wrong")
    assert fleet.run("verify").stdout == "4 lines\n"
    assert fleet.rows()[0] == ["alex@desk", "cutover", "-", "green", "failed", "9", "-", "-"]


@pytest.mark.parametrize("change", ["changed", "removed", "added", "corrupted"])
def test_tampered_journal_is_detected(fleet: Fleet, change: str) -> None:
    """This holds for any line and for every command; the unchanged journal is valid."""
    for each in range(5):
        fleet.run("end", number=fleet.begin("site", who=f"operator{each}"), result="ok")
    assert fleet.run("verify").returncode == 0
    kept = fleet.journal.read_text().splitlines()
    match change:
        case "changed":
            kept[3] = kept[3].replace("operator1", "nobody")
        case "removed":
            del kept[3]
        case "added":
            kept.insert(3, kept[2])
        case _:
            kept[3] = "{"
    fleet.journal.write_text("\n".join(kept) + "\n")
    for command in ("verify", "journal", "status"):
        broken = fleet.run(command)
        assert broken.returncode == 1
        assert "does not follow the one before it" in broken.stderr


def test_line_that_a_crash_truncated_is_ignored(fleet: Fleet) -> None:
    """It was never acknowledged; it stays in the file, and the chain continues after it."""
    number = fleet.begin("site")
    with fleet.journal.open("a") as journal:
        journal.write('{"event": "end", "of": 1, "who')
    assert fleet.run("begin", verb="deploy", **KIM).returncode == 3
    assert fleet.run("end", number=number, result="ok").returncode == 0
    assert fleet.run("verify").stdout == "3 lines\n"
    fleet.begin("deploy", **KIM)
    assert fleet.run("verify").returncode == 0


def test_journal_is_append_only_if_the_file_system_supports_it(fleet: Fleet) -> None:
    """Then even root's editor cannot shorten it, and operations continue."""
    output = fleet.run("seal").stdout
    if output.startswith("Not append-only"):
        pytest.skip(output)
    try:
        assert output == "Append-only from now on.\n"
        assert fleet.run("seal").stdout == "Append-only.\n"
        fleet.run("end", number=fleet.begin("site"), result="ok")
        with pytest.raises(PermissionError):
            fleet.journal.write_text("")
        with pytest.raises(PermissionError):
            fleet.journal.unlink()
        assert fleet.events() == ["begin", "end"]
    finally:
        subprocess.run(["chattr", "-a", fleet.journal], check=True)
