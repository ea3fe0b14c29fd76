"""Faults of etcd during which the primary must stay the primary, with each failover plan."""

import time

from clients import Meter
from faults import flows, others
from health import etcd_healthy
from inside import on
from lab import ADDRESSES, DATA, leader, wait
from upkeep import failover_plan

# This is longer than any plan's ttl.
AWAY_SECONDS = 95
MOVES_SECONDS = 20
STOPS = 5


def wobbles_fast(run: Meter) -> None:
    """Disturb etcd with the plan `fast`, the lab's own."""
    _wobbles(run)


def wobbles_normal(run: Meter) -> None:
    """Disturb etcd with the plan `normal`."""
    with failover_plan("normal"):
        _wobbles(run)


def wobbles_wide(run: Meter) -> None:
    """Disturb etcd with the plan `wide`."""
    with failover_plan("wide"):
        _wobbles(run)


def _wobbles(run: Meter) -> None:
    """Move etcd's leader repeatedly, stop it for 2 s, restart each member, and stop the majority for 95 s."""
    primary, timeline = leader(), _timeline()
    ends_at = time.monotonic() + MOVES_SECONDS
    while time.monotonic() < ends_at:
        on(_etcd_leader(), "/usr/local/sbin/etcd-yield", check=False)
    for _ in range(STOPS):
        host = _etcd_leader()
        process = on(host, "systemctl show --property=MainPID --value etcd").strip()
        on(host, f"kill -STOP {process}; sleep 2; kill -CONT {process}")
        wait(etcd_healthy, 60, "every member of etcd is healthy again")
    for host in DATA:
        on(host, "systemctl restart etcd")
        wait(etcd_healthy, 60, "every member of etcd is healthy again")
    for host in others(primary):
        on(host, "systemctl stop etcd")
    try:
        time.sleep(AWAY_SECONDS)
        flows(run)
    finally:
        for host in others(primary):
            on(host, "systemctl start --no-block etcd")
    wait(etcd_healthy, 60, "every member of etcd is healthy again")
    assert (leader(), _timeline()) == (primary, timeline)


def _etcd_leader() -> str:
    """Return the host of etcd's leader; an election may be in progress."""
    found: list[str] = []

    def elected() -> bool:
        # For each member: endpoint, ID, version, size, whether it leads, and more.
        lines = on(DATA[0], "etcdctl-root endpoint status --cluster", check=False).splitlines()
        leaders = {line.split(", ")[0] for line in lines if line.split(", ")[4] == "true"}
        found[:] = [host for host in DATA if f"https://{ADDRESSES[host]}:2379" in leaders]
        return len(found) == 1

    wait(elected, 90, "etcd has a leader")
    return found[0]


def _timeline() -> str:
    """Return PostgreSQL's timeline, which each promotion increases."""
    return on(leader(), "su postgres -c \"psql -Atc 'SELECT timeline_id FROM pg_control_checkpoint()'\"").strip()
