"""Backups: what the repository and the members may do, when, and with which restrictions."""

import json

import pytest
from inputs import INPUTS
from render import PROJECT, lines, render

REPOSITORY = INPUTS["pgbackrest"]
MEMBER = REPOSITORY | {"pgbackrest_address": "10.0.0.42", "pgbackrest_peers": ["backup.ops1.trade.example"]}


def config(**inputs: object) -> list[str]:
    """Return the lines of pgBackRest's configuration."""
    return lines(render("pgbackrest", "pgbackrest.conf.j2", **inputs))


def test_repository_encrypts_and_keeps_the_days() -> None:
    """It reads a replica if it can, and admits the members by their names."""
    found = config(**REPOSITORY, pgbackrest_retention_days=7)
    assert {
        "repo1-cipher-type=aes-256-cbc",
        "repo1-cipher-pass=secret-passphrase",
        "repo1-retention-full-type=time",
        "repo1-retention-full=7",
        "backup-standby=prefer",
        "tls-server-address=10.0.0.51",
        "tls-server-auth=backup.data1.trade.example=tradefleet",
        "tls-server-auth=backup.data2.trade.example=tradefleet",
        "pg3-host=10.0.0.43",
        "pg3-host-type=tls",
        "pg3-path=/var/lib/postgresql/17/tradefleet",
    } <= set(found)
    assert [line for line in found if line.startswith(("archive-", "repo1-host"))] == []


@pytest.mark.parametrize(("percent", "processes"), [(10, 1), (100, 1), (150, 2), (6400, 4), ("150", 2)])
def test_backup_has_no_more_processes_than_processors(percent: int | str, processes: int) -> None:
    """Restores and the archive, on the members, use all of them."""
    inputs = {"pgbackrest_processes": 4, "pgbackrest_processor_percent": percent}
    found = config(**REPOSITORY | inputs)
    assert found[found.index("[global:backup]") + 1] == f"process-max={processes}"
    found = config(**MEMBER | inputs)
    assert [line for line in found if "process" in line] == ["process-max=4"]


def test_member_sends_wal_and_bounds_its_queue() -> None:
    """It does not know the passphrase, and admits only the repository."""
    found = config(**MEMBER, pgbackrest_queue_megabytes=77)
    assert {"repo1-host=10.0.0.51", "repo1-host-type=tls", "archive-async=y", "archive-push-queue-max=77MiB"} <= set(
        found
    )
    assert [line for line in found if "auth" in line] == ["tls-server-auth=backup.ops1.trade.example=tradefleet"]
    assert [line for line in found if "cipher" in line or line.startswith("pg2")] == []


def test_standby_gets_wal_of_the_other_site_and_sends_it_none() -> None:
    """The configuration for that has no path and no passphrase of the repository, and does not queue."""
    found = lines(render("pgbackrest", "remote.conf.j2", **MEMBER))
    assert {"repo1-host=10.9.0.51", "repo1-host-type=tls", "pg1-path=/var/lib/postgresql/17/tradefleet"} <= set(found)
    assert [line for line in found if "cipher" in line or "archive" in line or "path=/var/lib/pgbackrest" in line] == []


def test_restored_server_knows_the_repository_and_no_member() -> None:
    """Its unit has no network either."""
    found = lines(render("pgbackrest", "scratch.conf.j2", **REPOSITORY))
    assert "repo1-path=/var/lib/pgbackrest" in found
    assert [line for line in found if "host" in line or "tls" in line or "pg1" in line] == []
    unit = set(lines(render("pgbackrest", "restore.service.j2", **REPOSITORY)))
    assert {"PrivateNetwork=true", "User=postgres", "ExecStart=/usr/local/sbin/tradefleet-scratch serve"} <= unit
    stays = {"RemainAfterExit=yes", "ExecStopPost=/bin/rm -rf /var/lib/restore-scratch/data"}
    assert stays <= unit
    drill = {"name": "restore-drill-second", "drills": 2, "what": "Drill"}
    unit = set(lines(render("pgbackrest", "restore.service.j2", **REPOSITORY | {"__pgbackrest_restore": drill})))
    assert {
        "PrivateNetwork=true",
        "ExecStart=/usr/local/sbin/tradefleet-scratch drill 2",
        "ExecStopPost=/usr/local/sbin/tradefleet-backups metrics",
    } <= unit
    assert unit & stays == set()


def test_restored_server_reaches_the_second_repository_through_a_socket() -> None:
    """It has neither address nor credentials. The process behind the socket has them, and knows no member."""
    found = lines(render("pgbackrest", "scratch-second.conf.j2", **REPOSITORY))
    assert {"repo2-host=second", "cmd-ssh=/usr/local/sbin/tradefleet-backup-second"} <= set(found)
    assert [line for line in found if any(word in line for word in ("cipher", "s3", "pg1", "repo1"))] == []
    program = (PROJECT / "roles/pgbackrest/files/tradefleet-backup-second").read_text()
    socket = lines(render("pgbackrest", "tradefleet-backup-second.socket.j2", **REPOSITORY))
    assert {"SocketUser=postgres", "SocketMode=0600", "Accept=yes"} <= set(socket)
    (path,) = (line.partition("=")[2] for line in socket if line.startswith("ListenStream="))
    assert f'SOCKET = "{path}"' in program
    unit = lines(render("pgbackrest", "tradefleet-backup-second@.service.j2", **REPOSITORY))
    assert {"User=postgres", "StandardInput=socket", "ProtectSystem=strict", "After=network-online.target"} <= set(unit)
    (start,) = (line for line in unit if line.startswith("ExecStart="))
    assert start.startswith(
        "ExecStart=/usr/bin/pgbackrest --config=/etc/pgbackrest/second.d/second.conf --stanza=tradefleet"
    )


def second(**inputs: object) -> list[str]:
    """Return the lines of the second repository's configuration."""
    return lines(render("pgbackrest", "second.conf.j2", **inputs))


def test_second_repository_on_an_s3_server() -> None:
    """It is encrypted, in path style, and has a retention of its own if the inventory sets one."""
    found = second(**REPOSITORY)
    assert {
        "repo2-type=s3",
        "repo2-s3-uri-style=path",
        "repo2-s3-key-secret=secret-second",
        "repo2-storage-port=443",
        "repo2-cipher-type=aes-256-cbc",
        "repo2-bundle=y",
        "repo2-block=y",
        "repo2-retention-full=30",
    } <= set(found)
    assert [line for line in found if "sftp" in line or "ca-file" in line] == []
    more = {"port": 9000, "ca_file": "/x/ca.crt", "retention_days": 90}
    inputs = REPOSITORY | {"pgbackrest_second_repository": REPOSITORY["pgbackrest_second_repository"] | more}
    assert {"repo2-storage-port=9000", "repo2-storage-ca-file=/x/ca.crt", "repo2-retention-full=90"} <= set(
        second(**inputs)
    )


def test_second_repository_by_sftp() -> None:
    """The key is in a file of its own, and only one host key is accepted."""
    settings = {"type": "sftp", "host": "10.0.9.1", "path": "/srv", "user": "backups", "fingerprint": "ab12"}
    found = second(**REPOSITORY | {"pgbackrest_second_repository": settings})
    assert {
        "repo2-type=sftp",
        "repo2-sftp-host-port=22",
        "repo2-sftp-private-key-file=/etc/pgbackrest/second.key",
        "repo2-sftp-host-key-check-type=fingerprint",
        "repo2-sftp-host-fingerprint=ab12",
    } <= set(found)
    assert [line for line in found if ("secret" in line and "cipher" not in line) or "s3" in line] == []


def test_member_reaches_the_second_repository_through_the_repository_host() -> None:
    """It has neither address nor credentials."""
    found = second(**MEMBER)
    assert {
        "repo2-host=10.0.0.51",
        "repo2-host-type=tls",
        "repo2-host-config-include-path=/etc/pgbackrest/second.d",
    } <= set(found)
    assert [line for line in found if "secret" in line or "s3" in line] == []


def test_wal_is_copied_by_a_service_that_starts_again() -> None:
    """It runs as postgres."""
    unit = lines(render("pgbackrest", "tradefleet-backup-copy.service.j2", **REPOSITORY))
    assert {"ExecStart=/usr/local/sbin/tradefleet-backups copy", "User=postgres", "Restart=always"} <= set(unit)


def test_drill_is_noted_by_root_if_a_command_is_set() -> None:
    """The program adds result and figures."""
    drill = {"name": "restore-drill", "drills": 1, "what": "Drill"}
    inputs = REPOSITORY | {"__pgbackrest_restore": drill, "pgbackrest_drill_note": ["/usr/local/sbin/journal", "note"]}
    assert "ExecStopPost=+/usr/local/sbin/tradefleet-backups note 1" in lines(
        render("pgbackrest", "restore.service.j2", **inputs)
    )


def test_programs_read_their_bounds_from_the_inventory() -> None:
    """All are numbers, and the query for the newest row is empty unless it is set."""
    newest = {"database": "trading", "query": "SELECT 1"}
    text = render(
        "pgbackrest", "backups.json.j2", **REPOSITORY, pgbackrest_full_max_hours="9", pgbackrest_drill_newest=newest
    )
    found = json.loads(text)
    assert (found["full_hours"], found["backup_hours"], found["drill_hours"]) == (9, 26, 26)
    assert found["newest"] == newest


def test_services_run_as_postgres_when_their_timers_say() -> None:
    """A run that a reboot prevented is caught up."""
    unit = lines(render("pgbackrest", "tradefleet-backup@.service.j2", **REPOSITORY))
    assert {"ExecStart=/usr/local/sbin/tradefleet-backups %i", "User=postgres", "ProtectSystem=strict"} <= set(unit)
    assert "RuntimeDirectory=tradefleet-backup/%i" in unit  # where the progress is
    timer = lines(render("pgbackrest", "pgbackrest.timer.j2", **REPOSITORY))
    assert {"OnCalendar=daily", "Persistent=true", "Description=Scheduled drill"} <= set(timer)


def test_backup_uses_little_of_a_members_processors() -> None:
    """The repository serves the archive and restores without a limit."""
    unit = lines(render("pgbackrest", "pgbackrest.service.j2", **MEMBER | {"pgbackrest_processor_percent": 150}))
    assert unit == ["[Service]", "CPUQuota=150%", "CPUQuotaPeriodSec=5ms", "CPUWeight=20", "ExecStartPost="]
    assert lines(render("pgbackrest", "pgbackrest.service.j2", **REPOSITORY)) == ["[Service]", "ExecStartPost="]


def test_no_cluster_of_debian_is_created() -> None:
    """The repository has PostgreSQL's packages; /run with the locks is empty after a boot."""
    assert lines(render("pgbackrest", "createcluster.conf.j2", **REPOSITORY)) == ["create_main_cluster = false"]
    assert lines(render("pgbackrest", "tmpfiles.conf.j2", **REPOSITORY)) == [
        "d /run/pgbackrest 0750 postgres postgres -"
    ]
