"""Is a backup complete, and can it be restored?"""

import re

import pytest
from redis_fleet import ADDRESSES, HOSTS, as_app, healthy, on, primary, query, spread, wait
from scenario import run_playbook

FOLDER = "/var/backups/redis"


def backups(address: str) -> list[str]:
    """Return the files in a host's folder of backups, oldest first."""
    return on(address, "sh", "-c", f"ls -A {FOLDER}").split()


def assert_sentinel_monitors(address: str) -> None:
    """Assert that the pause of a restore is over."""
    output = on(address, "sentinel-cli-state", "--json", "SENTINEL", "MASTER", "state")
    assert '"down-after-milliseconds":"3000"' in output


def test_timer_is_active_and_enabled() -> None:
    """This holds on each host, and after a reboot."""
    for address in ADDRESSES:
        assert on(address, "systemctl", "is-enabled", "redis-backup.timer") == "enabled"
        assert on(address, "systemctl", "show", "redis-backup.timer", "--property=NextElapseUSecRealtime", "--value")


def test_each_replica_takes_backups_and_keeps_the_latest() -> None:
    """The primary takes none; 48 are kept, and none is incomplete."""
    leads = primary(ADDRESSES[0])
    follows = next(address for address in ADDRESSES if address != leads)
    on(follows, "sh", "-c", f"cd {FOLDER} && for n in $(seq 50); do touch state-20200101T0000$((n + 100))Z.rdb; done")
    before = backups(leads)
    for address in ADDRESSES:
        on(address, "systemctl", "start", "redis-backup")
    assert backups(leads) == before
    kept = backups(follows)
    assert len(kept) == 48
    assert kept[-1] > "state-2026"
    assert "Checksum OK" in on(follows, "redis-check-rdb", f"{FOLDER}/{kept[-1]}")
    on(follows, "sh", "-c", f"rm {FOLDER}/state-2020*")


def test_failed_backup_is_reported_and_leaves_nothing() -> None:
    """The unit fails, here because the server rejects the user."""
    follows = next(address for address in ADDRESSES if address != primary(ADDRESSES[0]))
    before = backups(follows)
    query(follows, "ACL", "SETUSER", "backup", "off")
    try:
        assert on(follows, "sh", "-c", "systemctl start redis-backup || echo failed").endswith("failed")
    finally:
        query(follows, "ACL", "LOAD")
        on(follows, "systemctl", "reset-failed", "redis-backup")
    assert backups(follows) == before


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["backup=/var/backups/redis/x.rdb"], "This replaces all data of `state`"),
        (["backup=/var/backups/redis/x.rdb", "overwrite=cache"], "This replaces all data of `state`"),
        (["backup=/var/backups/redis/x.rdb", "overwrite=state"], "has /var/backups/redis/x.rdb. Copy it"),
        (["backup=/etc/hostname", "overwrite=state"], "redis-check-rdb"),
    ],
    ids=["no order", "another service", "no file", "no backup"],
)
def test_restore_refuses_invalid_requests(extra: list[str], message: str) -> None:
    """The playbook fails before the first change."""
    # One host is enough and faster.
    words = (word for each in extra for word in ("-e", each))
    refused = run_playbook("redis_restore", "--limit", f"localhost,{HOSTS[ADDRESSES[0]]}", *words, check=False)
    assert refused.returncode != 0
    assert message in " ".join(refused.stdout.split())
    assert not re.search("changed=[1-9]", refused.stdout)


def test_backup_that_does_not_load_is_replaced_by_the_former_data() -> None:
    """It contains a key twice: redis-check-rdb accepts that, Redis does not."""
    leads = primary(ADDRESSES[0])
    spread("tradefleet:test:kept", "former")
    key = r"\0\001a\001b"
    on(leads, "sh", "-c", rf"printf 'REDIS0011\376\0{key}{key}\377\0\0\0\0\0\0\0\0' > {FOLDER}/twice.rdb")

    failed = run_playbook("redis_restore", "-e", "overwrite=state", "-e", f"backup={FOLDER}/twice.rdb", check=False)

    assert failed.returncode != 0
    assert "`state` has its former data again" in " ".join(failed.stdout.split())
    assert primary(ADDRESSES[0]) == leads
    wait(20, healthy)
    for address in ADDRESSES:
        assert as_app(address, address, "GET", "tradefleet:test:kept") == "former"
        assert_sentinel_monitors(address)
    on(leads, "rm", f"{FOLDER}/twice.rdb")


def test_backup_is_restored_on_all_hosts() -> None:
    """Its archive has it, as the hosts have lost theirs. Later writes are kept aside; Sentinel monitors as before."""
    leads = primary(ADDRESSES[0])
    follows = next(address for address in ADDRESSES if address != leads)
    spread("tradefleet:test:restore", "then")
    on(follows, "systemctl", "start", "redis-backup")
    on(follows, "systemctl", "start", "tradefleet-archive@store")
    for address in ADDRESSES:
        on(address, "sh", "-c", f"rm -f {FOLDER}/*")
    as_app(follows, leads, "SET", "tradefleet:test:restore", "since")
    as_app(follows, leads, "SET", "tradefleet:test:later", "since")

    run_playbook("redis_restore", "-e", "overwrite=state", "-e", "backup=archive")

    assert primary(ADDRESSES[0]) == leads
    wait(20, healthy)
    for address in ADDRESSES:
        assert as_app(address, address, "GET", "tradefleet:test:restore") == "then"
        assert as_app(address, address, "GET", "tradefleet:test:later") == ""
        assert_sentinel_monitors(address)
    assert on(leads, "sh", "-c", "ls -d /var/lib/redis/state/appendonlydir.*")
    # The data also survives a restart.
    on(leads, "systemctl", "kill", "--signal=KILL", "redis-server@state")
    wait(20, lambda: as_app(leads, primary(leads), "GET", "tradefleet:test:restore") == "then")
    wait(30, healthy)
