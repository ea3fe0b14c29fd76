"""Does only one operation run at a time, and is each recorded in a tamper-evident way?"""

import subprocess
import time

import pytest
import testinfra
from scenario import PROJECT, SCENARIO, command, play
from testinfra.host import Host

OPS = testinfra.get_host("podman://tf-operations1")
OTHER = testinfra.get_host("podman://tf-operations2")
FOLDER = "/var/lib/tradefleet-operations"
# A full path, because the PATH of sudo and podman may not contain the folder.
PROGRAM = "/usr/local/sbin/tradefleet-operations"


def drive(operator: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the scenario's playbook as one operator, to its end."""
    return play(SCENARIO / "drive.yml", "-e", f"fleet_operator={operator}", *arguments, check=False)


def journal(last: int = 1) -> list[str]:
    """Return the last lines of the table, without the times."""
    return [line.split(maxsplit=1)[1] for line in OPS.check_output(f"{PROGRAM} journal --last={last}").splitlines()[1:]]


def test_only_the_group_reads_and_root_writes_the_journal(host: Host) -> None:
    """Root writes it, the folder's group reads it, and others have no access."""
    group = "staff" if host.check_output("hostname") == "operations2" else "adm"
    folder = host.file(FOLDER)
    assert (folder.user, folder.group, folder.mode) == ("root", group, 0o750)
    reader = f"setpriv --reuid=65534 --regid={{}} --clear-groups cat {FOLDER}/journal.jsonl"
    assert host.run(reader.format(group)).rc == 0
    assert host.run(reader.format("nogroup")).rc != 0
    assert host.run(f"setpriv --reuid=65534 --regid={group} --clear-groups {PROGRAM} unlock --who=x --reason=x").rc != 0


def test_two_operators_at_once() -> None:
    """The second is rejected with the name and duration of the first; afterward it succeeds."""
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
    output = " ".join(refused.stdout.split())
    assert refused.returncode != 0
    assert "alex@desk has held the lock for 0 min" in output
    assert "drive green 1.2.3" in output
    assert "TASK [Wait until the file is gone]" not in refused.stdout
    assert first.returncode == 0
    assert journal()[0].startswith("alex@desk  drive  blue 1.2.2  green 1.2.3  ok")
    assert journal()[0].endswith("CHG-9   -")
    assert drive("kim@laptop").returncode == 0


def test_failed_playbook_releases_the_lock() -> None:
    """The journal records the reason. A playbook whose limit excludes the host of the lock releases it as well."""
    assert drive("alex@desk", "-e", "fails=true").returncode != 0
    assert "failed" in journal()[0]
    assert journal()[0].endswith("as wanted")
    assert OPS.check_output(f"{PROGRAM} status").endswith("as wanted")
    assert OPS.check_output(f"{PROGRAM} status").startswith("lock: free")
    assert drive("alex@desk", "--limit", "alternative").returncode == 0
    assert " ok " in journal()[0]


def test_lock_of_a_crashed_controller_is_broken() -> None:
    """unlock.yml requires a reason; the journal records the broken lock."""
    OPS.check_output(f"{PROGRAM} begin --who=alex@desk --checkout=/gone --verb=cutover --target='green 1.2.3'")
    assert drive("kim@laptop").returncode != 0
    silent = play(PROJECT / "playbooks/unlock.yml", check=False)
    assert "State why" in silent.stdout
    output = play(
        PROJECT / "playbooks/unlock.yml", "-e", "reason='the desk burnt down'", "-e", "fleet_operator=kim@laptop"
    ).stdout
    assert "Broken: alex@desk cutover green 1.2.3" in " ".join(output.split())
    taken, unlocked = journal(last=2)
    assert taken.startswith("alex@desk   cutover  -     green 1.2.3")
    assert "broken off" in taken
    assert unlocked.startswith("kim@laptop  unlock")
    assert unlocked.endswith("the desk burnt down")
    assert drive("kim@laptop").returncode == 0
    table = play(PROJECT / "playbooks/journal.yml", "-e", "last=3").stdout
    assert "the desk burnt down" in table


def test_lock_by_hand_locks_others_out() -> None:
    """lock.yml acquires it; the playbooks of its holder continue."""
    play(PROJECT / "playbooks/lock.yml", "-e", "reason='new switches'", "-e", "fleet_operator=alex@desk")
    try:
        assert ": new switches" in " ".join(drive("kim@laptop").stdout.split())
        assert drive("alex@desk").returncode == 0
    finally:
        play(PROJECT / "playbooks/unlock.yml", "-e", "reason=done")


def test_edited_journal_is_reported() -> None:
    """The message names the line. This uses the other host, whose journal is not needed afterward."""
    for each in ("alex@desk", "kim@laptop"):
        OTHER.check_output(f"{PROGRAM} begin --who={each} --verb=site && {PROGRAM} unlock --who={each} --reason=tested")
    edited = OTHER.run(f"sed -i s/alex/nobody/ {FOLDER}/journal.jsonl")
    if edited.rc != 0:
        pytest.skip("the file system refused the edit, as it should where it can")
    broken = OTHER.run(f"{PROGRAM} journal")
    assert broken.rc == 1
    assert "line 2 does not follow the one before it" in broken.stderr


def test_journal_is_append_only_if_the_file_system_supports_it(host: Host) -> None:
    """A sealed journal rejects edits even by root; if it cannot be sealed, the role reports that and continues."""
    output = host.check_output(f"{PROGRAM} seal")
    if output.startswith("Not append-only"):
        pytest.skip(output)
    assert output == "Append-only."
    assert host.run(f"truncate --size=0 {FOLDER}/journal.jsonl").rc != 0
    assert host.run(f"rm {FOLDER}/journal.jsonl").rc != 0
