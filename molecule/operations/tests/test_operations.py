"""Is there one operation at a time, and does each leave lines that nobody changes unseen?"""

import subprocess
import time

import pytest
import testinfra
from scenario import PROJECT, SCENARIO, command, play
from testinfra.host import Host

OPS = testinfra.get_host("podman://tf-operations1")
OTHER = testinfra.get_host("podman://tf-operations2")
FOLDER = "/var/lib/tradefleet-operations"
# By path: sudo's and podman's PATH need not have it.
PROGRAM = "/usr/local/sbin/tradefleet-operations"


def drive(operator: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the scenario's verb as one operator, to its end."""
    return play(SCENARIO / "drive.yml", "-e", f"fleet_operator={operator}", *arguments, check=False)


def journal(last: int = 1) -> list[str]:
    """Return the last lines of the table, without the times."""
    return [line.split(maxsplit=1)[1] for line in OPS.check_output(f"{PROGRAM} journal --last={last}").splitlines()[1:]]


def test_who_may_read_the_journal_and_nobody_else(host: Host) -> None:
    """Root writes; the folder's group reads; others do not get in."""
    group = "staff" if host.check_output("hostname") == "operations2" else "adm"
    folder = host.file(FOLDER)
    assert (folder.user, folder.group, folder.mode) == ("root", group, 0o750)
    reader = f"setpriv --reuid=65534 --regid={{}} --clear-groups cat {FOLDER}/journal.jsonl"
    assert host.run(reader.format(group)).rc == 0
    assert host.run(reader.format("nogroup")).rc != 0
    assert host.run(f"setpriv --reuid=65534 --regid={group} --clear-groups {PROGRAM} unlock --who=x --reason=x").rc != 0


def test_two_operators_at_once() -> None:
    """The second is refused with the first's name and how long that has been at it; then it is their turn."""
    OPS.check_output("touch /run/drive")
    argv = command(SCENARIO / "drive.yml", "-e", "fleet_operator=alex@desk", "-e", "change=CHG-9")
    with subprocess.Popen(argv, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as first:
        try:
            deadline = time.monotonic() + 60
            while "alex@desk" not in OPS.check_output(f"{PROGRAM} status") and time.monotonic() < deadline:
                time.sleep(0.2)
            refused = drive("kim@laptop")
        finally:
            OPS.check_output("rm -f /run/drive")
        first.communicate(timeout=90)
    said = " ".join(refused.stdout.split())
    assert refused.returncode != 0
    assert "alex@desk has held the lock for 0 min" in said
    assert "drive green 1.2.3" in said
    assert "TASK [Wait until the file is gone]" not in refused.stdout
    assert first.returncode == 0
    assert journal()[0].startswith("alex@desk  drive  blue 1.2.2  green 1.2.3  ok")
    assert journal()[0].endswith("CHG-9   -")
    assert drive("kim@laptop").returncode == 0


def test_a_verb_that_fails_gives_the_lock_back() -> None:
    """The journal says why it has. And so does one whose limit leaves the host of the lock out."""
    assert drive("alex@desk", "-e", "fails=true").returncode != 0
    assert "failed" in journal()[0]
    assert journal()[0].endswith("as wanted")
    assert OPS.check_output(f"{PROGRAM} status").endswith("as wanted")
    assert OPS.check_output(f"{PROGRAM} status").startswith("lock: free")
    assert drive("alex@desk", "--limit", "alternative").returncode == 0
    assert " ok " in journal()[0]


def test_a_crashed_controllers_lock_is_taken_over() -> None:
    """By unlock.yml, which wants a reason; what was taken over is in the journal."""
    OPS.check_output(f"{PROGRAM} begin --who=alex@desk --checkout=/gone --verb=cutover --target='green 1.2.3'")
    assert drive("kim@laptop").returncode != 0
    silent = play(PROJECT / "playbooks/unlock.yml", check=False)
    assert "Say why" in silent.stdout
    said = play(
        PROJECT / "playbooks/unlock.yml", "-e", "reason='the desk burnt down'", "-e", "fleet_operator=kim@laptop"
    ).stdout
    assert "Broken: alex@desk cutover green 1.2.3" in " ".join(said.split())
    taken, unlocked = journal(last=2)
    assert taken.startswith("alex@desk   cutover  -     green 1.2.3")
    assert "broken off" in taken
    assert unlocked.startswith("kim@laptop  unlock")
    assert unlocked.endswith("the desk burnt down")
    assert drive("kim@laptop").returncode == 0
    table = play(PROJECT / "playbooks/journal.yml", "-e", "last=3").stdout
    assert "the desk burnt down" in table


def test_a_lock_by_hand_keeps_others_out() -> None:
    """lock.yml; its holder's verbs go on."""
    play(PROJECT / "playbooks/lock.yml", "-e", "reason='new switches'", "-e", "fleet_operator=alex@desk")
    try:
        assert "by hand: new switches" in " ".join(drive("kim@laptop").stdout.split())
        assert drive("alex@desk").returncode == 0
    finally:
        play(PROJECT / "playbooks/unlock.yml", "-e", "reason=done")


def test_an_edited_journal_is_shown_and_refused() -> None:
    """With the line. On the other host, whose journal nobody needs afterwards."""
    for each in ("alex@desk", "kim@laptop"):
        OTHER.check_output(f"{PROGRAM} begin --who={each} --verb=site && {PROGRAM} unlock --who={each} --reason=tested")
    edited = OTHER.run(f"sed -i s/alex/nobody/ {FOLDER}/journal.jsonl")
    if edited.rc != 0:
        pytest.skip("the file system refused the edit, as it should where it can")
    broken = OTHER.run(f"{PROGRAM} journal")
    assert broken.rc == 1
    assert "line 2 does not follow the one before it" in broken.stderr


def test_the_journal_is_append_only_as_far_as_the_file_system_allows(host: Host) -> None:
    """Sealed, root's own edit is refused; where it cannot be, the role says so and a run goes on."""
    said = host.check_output(f"{PROGRAM} seal")
    if said.startswith("Not append-only"):
        pytest.skip(said)
    assert said == "Append-only."
    assert host.run(f"truncate --size=0 {FOLDER}/journal.jsonl").rc != 0
    assert host.run(f"rm {FOLDER}/journal.jsonl").rc != 0
