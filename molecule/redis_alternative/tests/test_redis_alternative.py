"""Do non-default values reach the running servers, and does a failover work with them?"""

import json

import pytest
from redis_fleet import (
    ADDRESSES,
    HOSTS,
    PASSWORDS,
    PORTS,
    as_app,
    healthy,
    on,
    podman,
    primary,
    query_sentinel,
    refusal,
    settings,
    wait,
)
from scenario import converge

both = pytest.mark.parametrize("service", ["state", "cache"])


@both
def test_settings_of_this_scenario_are_in_force(service: str) -> None:
    """Each instance has its own port and limits."""
    expected = {
        "state": {"maxmemory": str(96 * 1024**2), "min-replicas-to-write": "2", "tls-port": "7379"},
        "cache": {"maxmemory": str(48 * 1024**2), "min-replicas-to-write": "0", "tls-port": "7380"},
    }[service] | {"min-replicas-max-lag": "5", "io-threads": "2"}
    for address in ADDRESSES:
        assert settings(address, *expected, service=service) == expected


@both
def test_sentinels_monitor_with_these_settings(service: str) -> None:
    """They monitor the right port."""
    for address in ADDRESSES:
        watched = json.loads(on(address, "sentinel-cli-state", "--json", "SENTINEL", "MASTER", service))
        expected = {
            "port": str(PORTS[service]),
            "down-after-milliseconds": "2000",
            "failover-timeout": "15000",
            "parallel-syncs": "2",
            "num-slaves": "2",
            "num-other-sentinels": "2",
        }
        assert {name: watched[name] for name in expected} == expected


@both
def test_application_has_this_prefix(service: str) -> None:
    """The default prefix is no longer permitted."""
    leads = primary(ADDRESSES[0], service)
    assert as_app(leads, leads, "SET", "other:key", "1", service=service) == "OK"
    password = PASSWORDS[service]
    assert "NOPERM" in refusal(leads, leads, "GET", "tradefleet:key", port=PORTS[service], password=password)


def test_backups_have_this_folder_and_two_are_kept() -> None:
    """They are taken every day."""
    follows = next(address for address in ADDRESSES if address != primary(ADDRESSES[0]))
    on(follows, "sh", "-c", "cd /srv/redis-backups && touch state-20200101T000001Z.rdb state-20200101T000002Z.rdb")
    on(follows, "systemctl", "start", "redis-backup")
    kept = on(follows, "sh", "-c", "ls -A /srv/redis-backups").split()
    assert len(kept) == 2
    assert kept[0] == "state-20200101T000002Z.rdb"
    assert "OnCalendar=*-*-* 00:00:00" in on(
        follows, "systemctl", "show", "redis-backup.timer", "--property=TimersCalendar"
    )


def test_state_needs_its_second_replica_and_the_cache_does_not() -> None:
    """With a host gone both fail over; another run changes nothing once it is back."""
    old = primary(ADDRESSES[0])
    one = next(address for address in ADDRESSES if address != old)
    podman("kill", f"tf-{HOSTS[old]}")
    try:
        wait(20, lambda: old not in (primary(one), primary(one, "cache")))
        new = {service: primary(one, service) for service in PORTS}
        wait(20, lambda: as_app(one, new["cache"], "SET", "other:key", "2", service="cache") == "OK")
        assert "NOREPLICAS" in refusal(
            one, new["state"], "SET", "other:key", "2", port=7379, password=PASSWORDS["state"]
        )
    finally:
        podman("start", f"tf-{HOSTS[old]}")
    wait(40, lambda: as_app(one, new["state"], "SET", "other:key", "3") == "OK")
    for service in PORTS:
        # mypy cannot infer the types of a lambda's defaults.
        wait(40, lambda service=service: healthy(service))  # type: ignore[misc]
        wait(20, lambda service=service: query_sentinel(old, "CKQUORUM", service).startswith("OK 3"))  # type: ignore[misc]  # (and here)
    assert converge().stdout.count("changed=0 ") == len(ADDRESSES)
    assert {service: primary(old, service) for service in PORTS} == new
