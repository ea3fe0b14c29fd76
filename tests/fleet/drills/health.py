"""Roles and health of the lab: what a drill waits for before and after its fault."""

import json
from collections.abc import Callable

from inside import on
from lab import ADDRESSES, APPS, DATA, EDGES, VIP, cluster

REDIS = ("state", "cache")


def replica(role: str) -> str:
    """Return a host whose PostgreSQL has a role: "sync_standby" or "replica"."""
    return next(host for host, state in sorted(cluster().items()) if state.startswith(f"{role} "))


def postgres_healthy() -> bool:
    """Return whether PostgreSQL has one leader and two streaming replicas, one of them synchronous.

    Each host is queried about itself: the others return its last report to etcd, for as long as a lease lasts.
    """
    receiver = "SELECT status FROM pg_stat_wal_receiver"
    query = f"SELECT CASE WHEN pg_is_in_recovery() THEN ({receiver}) ELSE 'primary' END"
    states = sorted(on(host, f'su postgres -c "psql -Atc \\"{query}\\""', check=False).strip() for host in DATA)
    roles = sorted(state.split()[0] for state in cluster().values())
    return states == ["primary", "streaming", "streaming"] and roles == ["leader", "replica", "sync_standby"]


def etcd_healthy() -> bool:
    """Return whether each member of etcd responds by itself, with the consent of a majority.

    A member that was cut off may take as long again as the cut lasted: the others repeat lost messages to it after
    increasing pauses.
    """
    query = "etcdctl-root --endpoints=https://{}:2379 endpoint health"
    return all("is healthy" in on(host, f"{query.format(ADDRESSES[host])} 2>&1", check=False) for host in DATA)


def redis_role(host: str, service: str = "state") -> list[str]:
    """Return the role that a host's Redis reports: "master" …, "slave" primary port state …, or an empty string."""
    try:
        answer: list[str] = json.loads(on(host, f"redis-cli-{service} --json ROLE", check=False))
    except ValueError:
        return [""]
    return answer


def redis_primary(service: str = "state") -> str:
    """Return the data host whose Redis accepts writes."""
    found = [host for host in DATA if redis_role(host, service)[0] == "master"]
    assert len(found) == 1, f"Redis primaries: {found}"
    return found[0]


def redis_healthy() -> bool:
    """Return whether each service has one primary with two replicas, and every Sentinel names that primary."""
    return all(_healthy(service) for service in REDIS)


def _healthy(service: str) -> bool:
    roles = {host: redis_role(host, service) for host in DATA}
    primaries = [ADDRESSES[host] for host, answer in roles.items() if answer[0] == "master"]
    following = [answer[1] for answer in roles.values() if answer[0] == "slave" and answer[3] == "connected"]
    query = f"sentinel-cli-state SENTINEL GET-MASTER-ADDR-BY-NAME {service} | head -n 1"
    reported = {on(host, query, check=False).strip() for host in DATA}
    return len(primaries) == 1 and following == primaries * 2 and reported == set(primaries)


def no_client_on_a_replica() -> bool:
    """Return whether every connection of the application to Redis is one to a primary, including idle ones."""
    return not any(
        " user=app " in on(host, f"redis-cli-{service} CLIENT LIST", check=False)
        for service in REDIS
        for host in DATA
        if redis_role(host, service)[0] == "slave"
    )


def ready(host: str) -> bool:
    """Return whether the application on a host reports that it is ready."""
    query = f"curl -fsS --max-time 3 --cacert /etc/ssl/tradefleet/ca.crt https://{ADDRESSES[host]}:8443/readyz"
    return '"ready"' in on(host, query, check=False)


def apps_ready() -> bool:
    """Return whether every application host with a release reports that it is ready."""
    return all(ready(host) for host in APPS if on(host, "readlink /opt/tradefleet/current", check=False))


def vip_owner() -> str:
    """Return the load balancer with the VIP."""
    found = [edge for edge in EDGES if has_vip(edge)]
    assert len(found) == 1, f"{VIP} is on {found}"
    return found[0]


def edges_healthy() -> bool:
    """Return whether each load balancer responds by itself, and exactly one has the VIP."""
    alive = "systemctl is-active keepalived; curl -fsk --max-time 3 https://127.0.0.1/edge-alive"
    return all(on(edge, alive, check=False).split() == ["active", "alive"] for edge in EDGES) and (
        sum(map(has_vip, EDGES)) == 1
    )


def has_vip(edge: str) -> bool:
    """Return whether a load balancer has the VIP."""
    return bool(on(edge, f"ip -brief address show to {VIP}", check=False))


HEALTH: tuple[tuple[str, Callable[[], bool]], ...] = (
    ("etcd: every member answers", etcd_healthy),
    ("PostgreSQL: a leader, two streaming replicas, one of them synchronous", postgres_healthy),
    ("Redis: for each service a primary, two replicas, and Sentinels that agree", redis_healthy),
    ("Redis: no client of the application is left on a replica", no_client_on_a_replica),
    ("both load balancers answer, and one has the address", edges_healthy),
    ("the application ready on every host that runs a release", apps_ready),
)
