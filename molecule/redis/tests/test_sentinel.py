"""Do the Sentinels agree, replace a failed primary in time, and keep their decision through another run?"""

import os
import signal
import time
import uuid

import pytest
from inside import process
from redis_fleet import ADDRESSES, HOSTS, PORTS, healthy, on, podman, primary, query, query_sentinel, role, spread, wait
from redis_writer import writing
from scenario import converge, run_playbook

# Longest gap in seconds after a tied election: 5 until both survivors report the failure, 10 (twice the failover
# timeout), a random second, and 2 for the promotion and the client.
TIED = 18
both = pytest.mark.parametrize("service", ["state", "cache"])


@both
def test_sentinels_could_replace_the_primary(service: str) -> None:
    """All three see each other."""
    for address in ADDRESSES:
        assert query_sentinel(address, "CKQUORUM", service).startswith("OK 3 usable Sentinels")


def test_failed_host_is_replaced_and_returns_as_replica() -> None:
    """Writes wait for at most 8 s and none is lost; the host returns as a replica, and the playbook keeps that.

    They wait longer if the survivors' election was tied (test_tied_election_is_repeated).
    """
    # This test comes first, because the first run placed both primaries on one host.
    old = primary(ADDRESSES[0])
    survivors = [address for address in ADDRESSES if address != old]
    start = time.time()
    try:
        with writing("state") as state, writing("cache") as cache:
            podman("kill", f"tf-{HOSTS[old]}")
        writers = {"state": state, "cache": cache}
        new = {service: primary(survivors[0], service) for service in writers}
        assert old not in new.values()
        for service, writer in writers.items():
            print(f"{service}: {len(writer.acknowledged)} writes acknowledged, longest gap {writer.gap:.1f} s")
            decisions = "\n".join(decided(each, service, start) for each in survivors)
            assert writer.gap <= (TIED if "-failover-abort-not-elected" in decisions else 8), decisions
            assert writer.lost() == []
    finally:
        podman("start", f"tf-{HOSTS[old]}")

    for service in writers:
        wait(30, lambda service=service: healthy(service))  # type: ignore[misc]  # (as in test_redis.py)
    spread("tradefleet:test:failover", uuid.uuid4().hex)

    assert converge().stdout.count("changed=0 ") == len(ADDRESSES)
    assert {service: primary(ADDRESSES[0], service) for service in new} == new
    assert [role(leads, service) for service, leads in new.items()] == [["primary"]] * 2


@pytest.mark.thorough
def test_tied_election_is_repeated() -> None:
    """Survivors that find the primary dead in the same instant vote for themselves; the next attempt succeeds."""
    leads = primary(ADDRESSES[0])
    survivors = [address for address in ADDRESSES if address != leads]
    sentinels = [process(HOSTS[address], "redis-sentinel@state") for address in survivors]
    start = time.time()
    try:
        with writing() as writer:
            on(leads, "systemctl", "stop", "redis-sentinel@state")
            on(leads, "systemctl", "kill", "--signal=STOP", "redis-server@state")
            time.sleep(2.9)
            # Both report it when they continue, and 30 ms later each has the other's answer, but has not acted on it.
            hold(sentinels, 1.5)
            time.sleep(0.03)
            hold(sentinels, 0.3)
        decisions = [decided(each, "state", start) for each in survivors]
        print(f"longest gap {writer.gap:.1f} s", *decisions, sep="\n")
        assert ["-failover-abort-not-elected" in each for each in decisions] == [True, True]
        assert writer.gap <= TIED
        assert primary(survivors[0]) in survivors
    finally:
        on(leads, "systemctl", "kill", "--signal=CONT", "redis-server@state")
        on(leads, "systemctl", "start", "redis-sentinel@state")
    wait(30, healthy)
    assert writer.lost() == []


def test_killed_process_restarts_before_sentinel_acts() -> None:
    """Writes wait for at most 2 s, and acknowledged writes to `state` survive; the cache restarts empty."""
    leads = {service: primary(ADDRESSES[0], service) for service in PORTS}
    with writing("state") as state, writing("cache") as cache:
        for service, address in leads.items():
            on(address, "systemctl", "kill", "--signal=KILL", f"redis-server@{service}")
    for service, writer in (("state", state), ("cache", cache)):
        print(f"{service}: {len(writer.acknowledged)} writes acknowledged, longest gap {writer.gap:.1f} s")
        assert writer.gap <= 2
        assert primary(ADDRESSES[0], service) == leads[service]
        wait(20, lambda service=service: healthy(service))  # type: ignore[misc]  # (as in test_redis.py)
    assert state.lost() == []


def test_planned_switchover_loses_no_write() -> None:
    """The playbook moves both services under load; writes wait, and none is missing afterward."""
    before = {service: primary(ADDRESSES[0], service) for service in ("state", "cache")}
    with writing("state") as state, writing("cache") as cache:
        run_playbook("redis_switchover")
    for service, writer in (("state", state), ("cache", cache)):
        print(f"{service}: {len(writer.acknowledged)} writes acknowledged, longest gap {writer.gap:.1f} s")
        assert primary(ADDRESSES[0], service) != before[service]
        wait(20, lambda service=service: healthy(service))  # type: ignore[misc]  # (as in test_redis.py)
        assert writer.lost() == []
        assert writer.gap < 6


def test_switchover_right_after_a_restart_of_the_replicas_waits_for_sentinel() -> None:
    """They follow before Sentinel has reached them, and Sentinel does not promote a replica that it has not reached."""
    leads = primary(ADDRESSES[0], "cache")
    for address in ADDRESSES:
        if address != leads:
            on(address, "systemctl", "restart", "redis-server@cache")
    wait(10, lambda: "state=online" in query(leads, "INFO", "replication", service="cache"))
    output = on(leads, "redis-maintain", "switch", "cache")
    assert f"cache: {leads} -> " in output
    wait(20, lambda: healthy("cache"))


def test_switchover_that_sentinel_refuses_resumes_writes() -> None:
    """No replica may be promoted: the pause is undone at once, and the error is reported."""
    leads = primary(ADDRESSES[0])
    try:
        prefer("0", leads)
        with writing() as writer:
            output = on(leads, "sh", "-c", "redis-maintain switch state 2>&1 || true")
        assert "NOGOODSLAVE" in output
        assert writer.gap < 3
        assert primary(ADDRESSES[0]) == leads
    finally:
        prefer("100", leads)


def prefer(priority: str, leads: str) -> None:
    """Set a priority for each replica, and wait until every Sentinel has read it."""
    for address in ADDRESSES:
        # By default Sentinels query every 10 s.
        query_sentinel(address, "DEBUG", "INFO-PERIOD", "500")
        if address != leads:
            on(address, "redis-cli-state", "CONFIG", "SET", "replica-priority", priority)
    heard = f'"slave-priority":"{priority}"'
    for address in ADDRESSES:
        replicas = (address, "sentinel-cli-state", "--json", "SENTINEL", "REPLICAS", "state")
        # mypy infers no type for a lambda with a default, and without one all rounds would share the last value.
        wait(20, lambda replicas=replicas: on(*replicas).count(heard) == 2)  # type: ignore[misc]
        query_sentinel(address, "DEBUG", "INFO-PERIOD", "10000")


def hold(processes: list[int], seconds: float) -> None:
    """Stop processes for a time, all at once."""
    for each in processes:
        os.kill(each, signal.SIGSTOP)
    time.sleep(seconds)
    for each in processes:
        os.kill(each, signal.SIGCONT)


def decided(address: str, service: str, start: float) -> str:
    """Return what a host's Sentinel logged about a service's failovers, and about itself, since a time."""
    journal = ("journalctl", "--unit=redis-sentinel@state", f"--since=@{start:.0f}", "--output=cat")
    lines = on(address, *journal).splitlines()
    return "\n".join(line for line in lines if f" {service} " in line or "tilt" in line or "vote" in line)
