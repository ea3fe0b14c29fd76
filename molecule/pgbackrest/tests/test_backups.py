"""Are backups taken, encrypted, restricted to the members, and taken after a switchover as well?"""

import re
import time

import pytest
from backups import (
    CONFIG,
    FOLDER,
    MEMBERS,
    REPOSITORY,
    command,
    leader,
    ledger,
    member,
    metric,
    problems,
    run,
    sql,
    wait,
)
from scenario import converge


def test_first_run_took_a_full_backup_from_the_replica() -> None:
    """The primary serves clients, so the copy is read from the replica."""
    state = run("report")
    assert state["problems"] == []
    assert state["full"] == state["newest"] > 0
    assert metric("tradefleet_backup_full_timestamp_seconds") == state["full"]
    assert "replay on the standby" in REPOSITORY.check_output("cat /var/log/pgbackrest/tradefleet-backup.log")


def test_finished_segment_arrives_in_seconds() -> None:
    """The check lets the primary finish a segment and waits for it."""
    before, failures = run("report")["wal"], sql("SELECT failed_count FROM pg_stat_archiver")
    time.sleep(1)
    assert run("check")["seconds"] < 10
    state = run("report")
    assert state["wal"] > before
    assert state["results"]["check"]["ok"] is True
    assert sql("SELECT failed_count FROM pg_stat_archiver") == failures


def test_changes_are_archived_within_a_minute() -> None:
    """Without a full segment the archive would wait for clients forever."""
    assert sql("SHOW archive_timeout") == "1min"
    assert sql("SHOW archive_mode") == "on"


def test_repository_is_encrypted_and_private() -> None:
    """No file contains what the database contains, and only postgres reads them."""
    ledger()
    sql("INSERT INTO ledger (note) VALUES ('plain-text-marker')")
    run("diff")
    for name in (
        "archive/tradefleet/archive.info",
        "backup/tradefleet/backup.info",
        "backup/tradefleet/latest/backup.manifest",
    ):
        assert REPOSITORY.check_output(f"head -c 8 {FOLDER}/{name}") == "Salted__"
    assert REPOSITORY.run(f"grep --recursive --quiet plain-text-marker {FOLDER}").rc == 1
    folder = REPOSITORY.file(FOLDER)
    assert (folder.user, folder.mode) == ("postgres", 0o750)
    for host, path in ((REPOSITORY, CONFIG), (member("bk1"), CONFIG)):
        assert (host.file(path).user, host.file(path).group, host.file(path).mode) == ("root", "postgres", 0o640)
    assert "cipher" not in member("bk1").file(CONFIG).content_string


@pytest.mark.parametrize("name", MEMBERS)
def test_certificate_of_the_host_does_not_open_the_repository(name: str) -> None:
    """Other services can read that key; backups have one of their own."""
    words = "runuser -u postgres -- pgbackrest --stanza=tradefleet {} repo-ls backup"
    assert "tradefleet" in member(name).check_output(words.format(""))
    files = "--repo1-host-cert-file=/etc/ssl/tradefleet/host.crt --repo1-host-key-file=/etc/ssl/tradefleet/host.key"
    refused = member(name).run(words.format(files))
    assert refused.rc != 0
    assert "access denied" in refused.stderr + refused.stdout
    assert member(name).run("runuser -u redis -- cat /etc/ssl/tradefleet/backup.key").rc != 0
    key = member(name).file("/etc/ssl/tradefleet/backup.key")
    assert (key.user, key.group, key.mode) == ("postgres", "postgres", 0o600)


def test_backups_continue_after_a_switchover() -> None:
    """Nobody tells the repository which member leads now."""
    former = leader()
    other = next(name for name in MEMBERS if name != former)
    member(former).check_output(
        f"patronictl -c /etc/patroni/config.yml switchover --leader {former} --candidate {other} --force"
    )
    streaming = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
    wait(lambda: leader() == other and sql(streaming) == "1", 30)
    assert run("check")["seconds"] < 15
    assert re.fullmatch(r"\d{8}-\d{6}F_\d{8}-\d{6}I", run("incr")["label"])
    assert problems() == []


@pytest.mark.parametrize("name", MEMBERS)
def test_server_gives_way_to_postgresql(name: str) -> None:
    """Its workers read and compress the whole cluster, with one processor at most."""
    for setting, value in (("CPUQuotaPerSecUSec", "1s"), ("CPUWeight", "20")):
        assert member(name).check_output(f"systemctl show --property={setting} --value pgbackrest") == value


def test_second_run_changes_nothing() -> None:
    """The other member leads now."""
    assert re.findall(r"changed=(\d+)", converge().stdout) == ["0"] * 4


def test_two_backups_at_a_time_are_refused() -> None:
    """The second one fails at once, and the first one succeeds."""
    both = REPOSITORY.run(f"{command('full')} & first=$!; {command('full')}; echo $?; wait $first; echo $?")
    assert sorted(line for line in both.stdout.splitlines() if line in ("0", "1")) == ["0", "1"]
    assert "unable to acquire" in both.stderr
    assert problems() == []
