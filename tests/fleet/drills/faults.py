"""Faults of drills in the lab: each is injected and repaired while traffic flows.

Each function returns when its fault has been repaired; the drill itself judges whether the fleet survived it.
"""

import os
import subprocess
import time
from collections.abc import Iterable

from clients import Meter
from health import postgres_healthy, ready, redis_healthy, replica
from inside import on
from lab import ADDRESSES, DATA, in_network, leader, power_off, power_on, wait

# The leader's lease in etcd lasts 20 s, and another member leads at most 2 s later (roles/postgresql, plan "fast").
# `make drill` leaves a fault in place for longer, `make test` only until it has taken effect.
FROZEN_SECONDS = 60 if os.environ.get("DRILL") else 30


def flows(run: Meter, seconds: float = 90) -> None:
    """Wait until traffic has flowed again for a while: 90 more orders, because replicas may serve reads."""
    before = run.state()["acknowledged"]
    wait(lambda: run.state()["acknowledged"] > before + 90, seconds, "traffic flows again")


def off(host: str, run: Meter, seconds: float = 90) -> None:
    """Cut a host's power, wait until the others have taken over, and start it again."""
    power_off(host)
    flows(run, seconds)
    power_on(host)


def frozen(hosts: Iterable[str], seconds: float = FROZEN_SECONDS) -> None:
    """Stop every process of the hosts for a while: their kernels still respond, but no process does."""
    names = [f"tf-{host}" for host in hosts]
    subprocess.run(["podman", "pause", *names], check=True, capture_output=True, timeout=60)
    try:
        time.sleep(seconds)
    finally:
        subprocess.run(["podman", "unpause", *names], check=True, capture_output=True, timeout=60)


def cut(host: str, others: Iterable[str], seconds: float = FROZEN_SECONDS) -> None:
    """Cut the network between a host and some others for a while by firewall; all other hosts still reach it."""
    addresses = [ADDRESSES[other] for other in others]
    _firewall(host, "-I", addresses)
    try:
        time.sleep(seconds)
    finally:
        _firewall(host, "-D", addresses)


def _firewall(host: str, change: str, addresses: list[str]) -> None:
    for chain, side in (("INPUT", "-s"), ("OUTPUT", "-d")):
        rule = ["iptables", "-w", change, chain, side, ",".join(addresses), "-j", "DROP"]
        subprocess.run([*in_network(host), *rule], check=True, capture_output=True, timeout=60)


def others(*hosts: str) -> list[str]:
    """Return the data hosts that are not in `hosts`."""
    return [host for host in DATA if host not in hosts]


def postmaster_killed(run: Meter) -> None:
    """Kill PostgreSQL's first process on the primary; its children end with it."""
    on(leader(), "kill -9 $(head -n 1 /var/lib/postgresql/17/tradefleet/postmaster.pid)")
    flows(run)


def patroni_killed(run: Meter) -> None:
    """Kill Patroni on the primary; PostgreSQL continues."""
    on(leader(), "kill -9 $(systemctl show -p MainPID --value patroni)")
    flows(run)


def postmaster_stopped(run: Meter) -> None:
    """Stop PostgreSQL's first process on the primary for a while: new sessions wait; existing ones are served."""
    host = leader()
    _process_stopped(host, on(host, "head -n 1 /var/lib/postgresql/17/tradefleet/postmaster.pid").strip(), run)


def patroni_stopped(run: Meter) -> None:
    """Stop Patroni on the primary for a while: its lease ends, another member leads, and its PostgreSQL continues."""
    host = leader()
    _process_stopped(host, on(host, "systemctl show -p MainPID --value patroni").strip(), run)
    wait(postgres_healthy, 120, "the former primary follows")
    assert leader() != host


def _process_stopped(host: str, process: str, run: Meter) -> None:
    on(host, f"kill -STOP {process}")
    try:
        time.sleep(FROZEN_SECONDS)
    finally:
        on(host, f"kill -CONT {process}")
    flows(run)


def primary_off(run: Meter) -> None:
    """Cut the power of the primary's host."""
    off(leader(), run)


def primary_frozen(run: Meter) -> None:
    """Freeze the primary's host; when it wakes up it still regards itself as the leader."""
    frozen([leader()])
    flows(run)


def primary_cut(run: Meter) -> None:
    """Cut the primary from the other two data hosts; the application hosts still reach all three."""
    primary = leader()
    cut(primary, others(primary))
    flows(run)


def standby_off(run: Meter) -> None:
    """Cut the power of the synchronous standby's host."""
    off(replica("sync_standby"), run)


def standby_frozen(run: Meter) -> None:
    """Freeze the synchronous standby's host: commits wait until the primary chooses another one."""
    frozen([replica("sync_standby")], 30)
    flows(run)


def replica_off(run: Meter) -> None:
    """Cut the power of the asynchronous replica's host."""
    off(replica("replica"), run)


def replica_cut(run: Meter) -> None:
    """Cut the asynchronous replica from the other two data hosts."""
    host = replica("replica")
    cut(host, others(host))
    flows(run)


def etcd_member_stopped(run: Meter) -> None:
    """Stop one member of etcd, on the asynchronous replica's host."""
    _without_etcd([replica("replica")], run)


def etcd_majority_stopped(run: Meter) -> None:
    """Stop etcd on the hosts of both replicas: without a majority no member is elected; the primary keeps serving."""
    _without_etcd(others(leader()), run)


def _without_etcd(hosts: list[str], run: Meter) -> None:
    for host in hosts:
        on(host, "systemctl stop etcd")
    try:
        time.sleep(FROZEN_SECONDS)
        flows(run)
    finally:
        for host in hosts:
            on(host, "systemctl start --no-block etcd")


def in_turn(run: Meter) -> None:
    """Cut the power of each data host in turn, ten rounds, always from a healthy fleet."""
    for number in range(10):
        off(DATA[number % 3], run)
        wait(lambda: postgres_healthy() and redis_healthy(), 120, f"round {number + 1}: healthy again")


def haproxy_killed(run: Meter) -> None:
    """Kill haproxy on a live application host; systemd starts it again."""
    on("blue1", "kill -9 $(systemctl show -p MainPID --value haproxy)")
    wait(lambda: ready("blue1"), 30, "systemd starts it again")
    flows(run)


def gunicorn_killed(run: Meter) -> None:
    """Kill gunicorn's first process on a live application host; systemd starts it again."""
    on("blue1", "kill -9 $(systemctl show -p MainPID --value tradefleet-api)")
    wait(lambda: ready("blue1"), 30, "systemd starts it again")
    flows(run)


def app_host_off(run: Meter) -> None:
    """Cut the power of a live application host."""
    off("blue2", run)
