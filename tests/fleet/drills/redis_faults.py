"""Faults of Redis: of the state, of the cache, and of the hosts of both."""

import time
from collections.abc import Callable

from clients import Meter
from faults import FROZEN_SECONDS, cut, flows, frozen, off, others
from health import REDIS, postgres_healthy, redis_healthy, redis_primary, redis_role
from inside import on
from lab import DATA, leader, wait


def primaries_apart() -> list[str]:
    """Move the primaries of Redis away from PostgreSQL's host, so that a fault affects one kind; return their hosts."""
    for service in REDIS:
        if redis_primary(service) == leader():
            _move(service)
    return list(dict.fromkeys(redis_primary(service) for service in REDIS))


def _move(service: str) -> None:
    # Sentinel refuses until it has noticed that a returned replica is healthy.
    command = f"sentinel-cli-state SENTINEL FAILOVER {service}"
    wait(lambda: "OK" in on(others(leader())[0], command, check=False), 60, f"Sentinel moves the primary of {service}")
    wait(
        lambda: redis_role(leader(), service)[0] == "slave" and redis_healthy(),
        60,
        f"the primary of {service} is elsewhere",
    )


def redis_killed(run: Meter) -> None:
    """Kill Redis on its primary; systemd starts it again."""
    primaries_apart()
    on(redis_primary(), "kill -9 $(systemctl show -p MainPID --value redis-server@state)")
    flows(run)


def redis_stopped(run: Meter) -> None:
    """Stop the process of Redis on its primary for a while: it keeps its connections, but does not respond."""
    primaries_apart()
    host = redis_primary()
    on(host, "systemctl kill --signal=STOP redis-server@state")
    try:
        time.sleep(FROZEN_SECONDS)
        flows(run)
    finally:
        on(host, "systemctl kill --signal=CONT redis-server@state")


def cache_killed(run: Meter) -> None:
    """Kill the cache on its primary; systemd starts it again, empty."""
    on(redis_primary("cache"), "kill -9 $(systemctl show -p MainPID --value redis-server@cache)")
    flows(run)


def redis_primary_off(run: Meter) -> None:
    """Cut the power of the host of Redis' primaries."""
    _each(run, lambda host: off(host, run))


def redis_primary_frozen(run: Meter) -> None:
    """Freeze the host of Redis' primaries."""
    _each(run, lambda host: frozen([host]))


def redis_primary_cut(run: Meter) -> None:
    """Cut Redis' primaries from the other two data hosts."""
    _each(run, lambda host: cut(host, others(host)))


def _each(run: Meter, fault: Callable[[str], None]) -> None:
    """Break the one host with both primaries, or one host after the other."""
    for host in primaries_apart():
        fault(host)
        flows(run)
        wait(lambda: postgres_healthy() and redis_healthy(), 120, f"healthy again after {host}")


def redis_gone(run: Meter) -> None:
    """Stop every Redis and every Sentinel for a minute."""
    units = "redis-server@state redis-server@cache redis-sentinel@state"
    for host in DATA:
        on(host, f"systemctl stop {units}")
    try:
        time.sleep(FROZEN_SECONDS)
        flows(run)
    finally:
        for host in DATA:
            on(host, f"systemctl start --no-block {units}")
