"""Another run with other values: what changes, what restarts, and what a missing instance becomes."""

import json

import pytest
from redis_fleet import ADDRESSES, HOSTS, ask, ask_sentinel, healthy, on, primary, processes, settings, wait
from redis_writer import writing
from scenario import converge, would_change

# Certificates have a scenario of their own.
ROLES = ("--tags", "redis,sentinel")


def test_limits_that_the_host_cannot_hold_are_refused() -> None:
    """Before anything is changed, with what to do about it."""
    refused = converge("-e", "redis_cache_maxmemory=4096GB", "--limit", HOSTS[ADDRESSES[0]], *ROLES, check=False)
    said = " ".join(refused.stdout.split())
    assert refused.returncode != 0
    assert "Check | Fail if the limits exceed the host's memory" in said
    assert "redis_cache_maxmemory (4096GB) require" in said
    assert "Lower them in the inventory's group_vars" in said
    assert "changed=0" in said
    assert settings(ADDRESSES[0], "maxmemory", service="cache")["maxmemory"] == str(128 * 1024**2)


def test_check_mode_tells_the_truth() -> None:
    """Another limit would be set, nothing else, and is not."""
    assert would_change("-e", "redis_maxmemory=80MB", *ROLES) == {
        "redis : Settings | Set the settings of state that differ"
    }
    assert settings(ADDRESSES[0], "maxmemory")["maxmemory"] == str(256 * 1024**2)


@pytest.mark.parametrize("quorum", [1, 4])
def test_a_quorum_of_a_minority_or_of_nobody_is_refused(quorum: int) -> None:
    """With the number that would do."""
    extra = ("-e", f"sentinel_quorum={quorum}", "--limit", HOSTS[ADDRESSES[0]], "--tags", "sentinel")
    refused = converge(*extra, check=False)
    said = " ".join(refused.stdout.split())
    assert refused.returncode != 0
    assert f"sentinel_quorum is {quorum}, and each of the 3 hosts" in said
    assert "Set it to 2 in the inventory's group_vars" in said
    assert "changed=0" in said


@pytest.mark.thorough
def test_an_installation_without_a_cache_gets_one_and_state_is_left_alone() -> None:
    """As before there was a cache: no instance, nothing that Sentinel watches. What somebody changed is repaired."""
    for address in ADDRESSES:
        ask_sentinel(address, "REMOVE", "cache")
        on(address, "systemctl", "disable", "--quiet", "--now", "redis-server@cache")
        on(address, "sh", "-c", "rm /etc/redis/*cache* /usr/local/sbin/redis-cli-cache; rm -r /var/lib/redis/cache")
    leads, before = primary(ADDRESSES[0]), processes()
    ask(ADDRESSES[1], "ACL", "SETUSER", "app", "+flushall")
    ask(ADDRESSES[1], "CONFIG", "SET", "appendonly", "no")
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
    assert "+flushall" not in ask(ADDRESSES[1], "ACL", "LIST")


def test_what_needs_a_restart_is_restarted_in_turn_without_losing_a_write() -> None:
    """Every process is another one, the primary moved as planned, and both services took writes throughout."""
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
            # Redis is another process, Sentinel is not.
            assert after[address].split()[0] != before[service][address].split()[0]
            assert after[address].split()[1] == before[service][address].split()[1]
