"""Another run with other values: changes, restarts, and a missing instance."""

import json

import pytest
from redis_fleet import ADDRESSES, HOSTS, healthy, on, primary, processes, query, query_sentinel, settings, wait
from redis_writer import writing
from scenario import converge, would_change

# Certificates are covered by another scenario.
ROLES = ("--tags", "redis,sentinel")


def test_limits_beyond_the_memory_of_the_host_are_rejected() -> None:
    """The role fails before any change, with a remedy."""
    refused = converge("-e", "redis_cache_maxmemory=4096GB", "--limit", HOSTS[ADDRESSES[0]], *ROLES, check=False)
    output = " ".join(refused.stdout.split())
    assert refused.returncode != 0
    assert "Check | Fail if the limits exceed the host's memory" in output
    assert "redis_cache_maxmemory (4096GB) require" in output
    assert "Lower them in the inventory's group_vars" in output
    assert "changed=0" in output
    assert settings(ADDRESSES[0], "maxmemory", service="cache")["maxmemory"] == str(128 * 1024**2)


def test_check_mode_reports_changes_without_making_them() -> None:
    """Only the limit would be set, and it is not."""
    assert would_change("-e", "redis_maxmemory=80MB", *ROLES) == {
        "redis : Settings | Set the changed settings of state"
    }
    assert settings(ADDRESSES[0], "maxmemory")["maxmemory"] == str(256 * 1024**2)


@pytest.mark.parametrize("quorum", [1, 4])
def test_unsafe_or_impossible_quorum_is_rejected(quorum: int) -> None:
    """The message contains a valid number."""
    extra = ("-e", f"sentinel_quorum={quorum}", "--limit", HOSTS[ADDRESSES[0]], "--tags", "sentinel")
    refused = converge(*extra, check=False)
    output = " ".join(refused.stdout.split())
    assert refused.returncode != 0
    assert f"sentinel_quorum is {quorum}, and each of the 3 hosts" in output
    assert "Set it to 2 in the inventory's group_vars" in output
    assert "changed=0" in output


@pytest.mark.thorough
def test_missing_cache_is_installed_without_affecting_state() -> None:
    """The hosts predate the cache: no instance, and Sentinel does not monitor it. Manual changes are reverted."""
    for address in ADDRESSES:
        query_sentinel(address, "REMOVE", "cache")
        on(address, "systemctl", "disable", "--quiet", "--now", "redis-server@cache")
        on(address, "sh", "-c", "rm /etc/redis/*cache* /usr/local/sbin/redis-cli-cache; rm -r /var/lib/redis/cache")
    leads, before = primary(ADDRESSES[0]), processes()
    query(ADDRESSES[1], "ACL", "SETUSER", "app", "+flushall")
    query(ADDRESSES[1], "CONFIG", "SET", "appendonly", "no")
    with writing() as writer:
        converge("-e", "redis_maxmemory=80MB", "-e", "sentinel_down_after_milliseconds=2500", *ROLES)
    assert writer.lost() == []
    assert primary(ADDRESSES[0]) == leads
    assert processes() == before
    wait(20, lambda: healthy("cache"))
    for address in ADDRESSES:
        assert settings(address, "maxmemory", "appendonly") == {"maxmemory": str(80 * 1024**2), "appendonly": "yes"}
        on(address, "grep", "^maxmemory 80mb$", "/etc/redis/redis-state.conf")
        for service in ("state", "cache"):
            watched = json.loads(on(address, "sentinel-cli-state", "--json", "SENTINEL", "MASTER", service))
            assert watched["down-after-milliseconds"] == "2500"
    assert "+flushall" not in query(ADDRESSES[1], "ACL", "LIST")


def test_restart_in_turn_loses_no_write() -> None:
    """Every process is new, the primary was switched over, and both services accepted writes throughout."""
    leads = {service: primary(ADDRESSES[0], service) for service in ("state", "cache")}
    before = {service: processes(service) for service in leads}
    with writing("state") as state, writing("cache") as cache:
        converge("-e", "redis_io_threads=2", *ROLES)
    for service, writer in (("state", state), ("cache", cache)):
        print(f"{service}: {len(writer.acknowledged)} writes acknowledged, longest gap {writer.gap:.1f} s")
        assert writer.lost() == []
        assert writer.gap < 6
        assert primary(ADDRESSES[0], service) != leads[service]
        wait(20, lambda service=service: healthy(service))  # type: ignore[misc]  # (as in test_redis.py)
        after = processes(service)
        for address in ADDRESSES:
            assert settings(address, "io-threads", service=service) == {"io-threads": "2"}
            # Redis was restarted, Sentinel was not.
            assert after[address].split()[0] != before[service][address].split()[0]
            assert after[address].split()[1] == before[service][address].split()[1]
