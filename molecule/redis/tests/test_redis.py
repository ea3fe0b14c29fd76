"""Does each instance fulfill its purpose with the defaults?"""

import uuid

import pytest
from inside import oom_score_adjust
from redis_fleet import ADDRESSES, as_app, healthy, on, primary, query, settings, wait
from testinfra.host import Host

both = pytest.mark.parametrize("service", ["state", "cache"])


@both
def test_one_primary_and_two_replicas(service: str) -> None:
    """Both replicas follow the one primary, their links are up, and every Sentinel agrees."""
    assert healthy(service)


@both
def test_write_reaches_each_replica(service: str) -> None:
    """An acknowledged write can be read on each replica."""
    key, value = "tradefleet:test:write", uuid.uuid4().hex
    leads = primary(ADDRESSES[0], service)
    as_app(leads, leads, "SET", key, value, "EX", "60", service=service)
    for replica in set(ADDRESSES) - {leads}:
        # mypy cannot infer the types of a lambda's defaults.
        wait(5, lambda replica=replica: as_app(replica, replica, "GET", key, service=service) == value)  # type: ignore[misc]


def test_state_persists_and_the_cache_evicts() -> None:
    """The running servers report it, each with its own limit."""
    names = ("maxmemory", "maxmemory-policy", "appendonly", "appendfsync", "save", "min-replicas-to-write")
    for address in ADDRESSES:
        assert settings(address, *names) == {
            "maxmemory": str(256 * 1024**2),
            "maxmemory-policy": "noeviction",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "min-replicas-to-write": "1",
        }
        assert settings(address, *names, service="cache") == {
            "maxmemory": str(128 * 1024**2),
            "maxmemory-policy": "allkeys-lru",
            "appendonly": "no",
            "appendfsync": "everysec",
            "save": "",
            "min-replicas-to-write": "0",
        }


def test_full_cache_evicts_and_full_state_rejects() -> None:
    """The policies in force apply: the limit is lowered below the used memory, and restored."""
    for service, answer in (("cache", "OK"), ("state", "OOM")):
        leads = primary(ADDRESSES[0], service)
        limit = settings(leads, "maxmemory", service=service)["maxmemory"]
        fill = f"for n in 1 2 3 4 5 6 7 8; do redis-cli-{service} SET tradefleet:full:$n {'x' * 50_000} EX 30; done"
        on(leads, "sh", "-c", fill)
        try:
            used = next(
                line for line in query(leads, "INFO", "memory", service=service).split() if "used_memory:" in line
            )
            below = int(used.partition(":")[2]) - 200_000
            query(leads, "CONFIG", "SET", "maxmemory", str(below), service=service)
            # `|| true` is needed because an error is one of the two expected responses.
            command = f"redis-cli-{service} SET tradefleet:full:last {'x' * 50_000} EX 30 2>&1 || true"
            assert answer in on(leads, "sh", "-c", command)
        finally:
            query(leads, "CONFIG", "SET", "maxmemory", limit, service=service)


def test_kernel_kills_the_cache_before_the_state(host: Host) -> None:
    """If memory runs out, Sentinel and the cache restart at once without a loss."""
    name = host.check_output("hostname")
    units = ("redis-server@state", "redis-server@cache", "redis-sentinel@state")
    assert [oom_score_adjust(name, unit) for unit in units] == [-900, -500, -500]


def test_debians_default_instances_stay_disabled(host: Host) -> None:
    """The package's own plain-text instances run neither now nor after a reboot."""
    assert host.run("systemctl is-active redis-server redis-sentinel").stdout.split() == ["inactive"] * 2
    assert host.run("systemctl is-enabled redis-server redis-sentinel").stdout.split() == ["masked"] * 2
