"""Does the second repository contain WAL and backups, and does its loss or that of the first one cost nothing?"""

import json
import time

import pytest
from backups import (
    FILES,
    FOLDER,
    LOCK,
    MEMBERS,
    REPOSITORY,
    SECOND,
    STORE,
    changed,
    command,
    copied,
    first_lost,
    leader,
    ledger,
    member,
    metric,
    newest_segment,
    problems,
    run,
    sql,
    wait,
)
from scenario import SCENARIO, converge, run_playbook

NONE = '{"pgbackrest_second_repository": {}}'


def test_wal_and_backups_are_in_the_second_repository() -> None:
    """Nothing there is in plain text, and only the repository host has its address and credentials."""
    ledger()
    sql("INSERT INTO ledger (note) VALUES ('plain-text-marker')")
    run("check")
    copied()
    run("check")
    state = run("report")
    assert state["problems"] == []
    assert 0 < state["second"]["full"] <= state["second"]["newest"]
    assert metric("tradefleet_backup_second_newest_timestamp_seconds") == state["second"]["newest"]
    assert STORE.run("grep --recursive --quiet plain-text-marker /srv/s3").rc == 1
    assert STORE.check_output("head -c 8 /srv/s3/backups/tradefleet/archive/tradefleet/archive.info") == "Salted__"
    settings = member("bk1").check_output("cat /etc/pgbackrest/*.conf /etc/pgbackrest/second.d/*")
    for secret in ("cipher", "10.203.0.166", "molecule-second-secret"):
        assert secret not in settings


@pytest.mark.thorough
def test_file_that_is_damaged_in_the_second_repository_is_reported() -> None:
    """The first one is sound, so only every file of the second one shows it."""
    found = "find /srv/s3/backups/tradefleet/archive -name '*-*.zst' | sort | tail -1"
    with changed(STORE, STORE.check_output(found), "1!b"):
        STORE.check_output(f"printf '\\377\\000\\377' | dd of=$({found}) bs=1 seek=300 conv=notrunc status=none")
        assert REPOSITORY.run(command("verify")).rc == 1
        assert any("second verify failed" in each for each in problems())
        assert metric('tradefleet_backup_last_run_succeeded{command="second verify"}') == 0
    run("verify")
    assert problems() == []


def test_member_restores_from_the_second_repository() -> None:
    """The first one is lost. Data and WAL come through the repository host."""
    sql("SELECT pg_create_restore_point('second')")
    run("check")
    copied()
    name = next(name for name in MEMBERS if name != leader())
    recover = "runuser -u postgres -- tradefleet-recover"
    member(name).check_output("systemctl stop patroni")
    try:
        with first_lost():
            plan = json.loads(REPOSITORY.check_output(command("restorable name:second 2")))
            member(name).check_output(f"{recover} reach {plan['type']} {plan['target']} {plan['repository']}")
        assert json.loads(member(name).check_output(f"{recover} state"))["stage"] == "reached"
    finally:
        member(name).check_output(f"{recover} clear && systemctl start patroni")
    wait(lambda: sql("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") == "1", 60)


def test_playbooks_restore_from_the_second_repository_while_the_first_one_is_lost() -> None:
    """A row of a former moment is served on the repository host, without a network; and the drill examines all."""
    ledger()
    sql("DROP TABLE IF EXISTS notes; CREATE TABLE notes AS SELECT 'still here' AS note")
    sql("SELECT pg_create_restore_point('noted')")
    sql("DROP TABLE notes")
    run("check")
    copied()
    with first_lost():
        run_playbook("restore_scratch", *LOCK, "-e", "target=name:noted", "-e", "repository=2")
        psql = "runuser -u postgres -- psql --host /run/restore-scratch --dbname trading -XAtc"
        assert REPOSITORY.check_output(f"{psql} 'SELECT note FROM notes'") == "still here"
        server = "--target $(head -1 /var/lib/restore-scratch/data/postmaster.pid)"
        addresses = REPOSITORY.check_output(f"nsenter {server} --net ip -oneline address")
        assert {line.split()[1] for line in addresses.splitlines()} == {"lo"}
        REPOSITORY.check_output("systemctl stop restore-scratch")
        told = run_playbook("restore_drill", *LOCK, "-e", "repository=2").stdout
    assert "Repository 2: the restored server answered after" in " ".join(told.split())
    wait(lambda: REPOSITORY.run(command("check")).rc == 0, 60)
    assert problems() == []


@pytest.mark.thorough
def test_outage_of_the_second_repository_delays_no_wal() -> None:
    """It is reported by the next check, backups to the first one succeed, and WAL is copied afterward."""
    STORE.check_output("systemctl stop s3")
    try:
        failures = sql("SELECT failed_count FROM pg_stat_archiver")
        start = time.monotonic()
        assert REPOSITORY.run(command("check")).rc == 1
        print(f"reported after {time.monotonic() - start:.0f} s")
        found = problems()
        assert any("second check failed" in each for each in found)
        assert not any(each.startswith("check failed") for each in found)
        assert sql("SELECT failed_count FROM pg_stat_archiver") == failures
        segment = newest_segment()
    finally:
        STORE.check_output("systemctl start s3")
    wait(lambda: segment in REPOSITORY.run(FILES).stdout, 420)
    run("check")
    assert problems() == []


@pytest.mark.thorough
def test_lost_repository_is_rebuilt_next_to_the_second_one() -> None:
    """The role creates it again. The second one keeps its backups, and gets one more, because it may lack WAL."""
    before = REPOSITORY.check_output(f"{SECOND} repo-ls backup/tradefleet")
    REPOSITORY.check_output("systemctl stop tradefleet-backup-copy")
    REPOSITORY.check_output(f"rm -r {FOLDER} /var/lib/tradefleet-backups /etc/pgbackrest")
    converge()
    assert set(before.split()) < set(REPOSITORY.check_output(f"{SECOND} repo-ls backup/tradefleet").split())
    run("check")
    assert problems() == []


@pytest.mark.thorough
def test_detached_repository_is_neither_filled_nor_drilled() -> None:
    """Without the variable its units are off; with it they continue, and what was not copied in between follows."""
    units = "tradefleet-backup-copy.service tradefleet-backup-second.socket restore-drill-second.timer"
    active = f"systemctl is-active {units}"
    assert REPOSITORY.run(active).stdout.split() == ["active"] * 3
    converge("-e", NONE, "--limit", "repo1")
    assert REPOSITORY.run(active).stdout.split() == ["inactive"] * 3
    run("check")
    assert run("report")["second"] == {}
    refused = run_playbook("restore_drill", *LOCK, "-e", "repository=2", "-e", NONE, check=False)
    assert refused.returncode != 0
    assert "No second repository is configured" in refused.stdout
    segment = newest_segment()
    converge()
    assert REPOSITORY.run(active).stdout.split() == ["active"] * 3
    wait(lambda: segment in REPOSITORY.check_output(FILES), 20)
    run("check")
    assert problems() == []


SFTP = """
set -eu
id backups > /dev/null 2>&1 || useradd --create-home --shell /bin/sh backups
install -d -o backups -m 0700 /home/backups/.ssh
ssh-keygen -q -t ed25519 -N '' -f /root/backups <<< y > /dev/null
install -o backups -m 0600 /root/backups.pub /home/backups/.ssh/authorized_keys
"""


@pytest.mark.thorough
def test_second_repository_by_sftp() -> None:
    """A real sshd: the role attaches it in place of the S3 server, and fills it."""
    STORE.check_output("bash -c %s", SFTP)
    algorithm = "cut -d ' ' -f 2 /etc/ssh/ssh_host_ecdsa_key.pub | base64 -d | sha256sum | cut -d ' ' -f 1"
    settings = {
        "type": "sftp",
        "host": "10.203.0.166",
        "path": "/home/backups/repository",
        "user": "backups",
        "fingerprint": STORE.check_output(algorithm),
    }
    inputs = {
        "pgbackrest_second_repository": settings,
        "pgbackrest_second_secret": STORE.file("/root/backups").content_string,
    }
    path = SCENARIO / "sftp.json"
    path.write_text(json.dumps(inputs))
    try:
        converge("--extra-vars", f"@{path}", "--limit", "repo1")
    finally:
        path.unlink()
    try:
        run("check")
        assert problems() == []
        assert STORE.check_output("head -c 8 /home/backups/repository/backup/tradefleet/backup.info") == "Salted__"
        key = REPOSITORY.file("/etc/pgbackrest/second.key")
        assert (key.user, key.mode) == ("postgres", 0o400)
    finally:
        converge()
    run("check")
    assert problems() == []
