"""Does the cluster survive the loss of its primary's host without losing an acknowledged row?"""

import itertools
import os
import subprocess
import time

from postgresql_cluster import ADDRESSES, leader, member, psql, rest, roles, wait_until
from postgresql_writer import acknowledged, rows, start_writer


def podman(*arguments: str) -> None:
    """Run a podman command on a host from outside."""
    environment = {**os.environ, "CONTAINERS_CONF": f"{os.environ['MOLECULE_PROJECT_DIRECTORY']}/.lab/containers.conf"}
    subprocess.run(["podman", *arguments], check=True, capture_output=True, env=environment)


def test_host_of_the_primary_fails_and_returns() -> None:
    """A new leader within 30 s (plan fast), no acknowledged row lost, and the former leader returns as a replica."""
    old = leader(ADDRESSES["pg1"])
    observer = next(name for name in ADDRESSES if name != old)
    assert psql(member(observer), "trading_owner", "DROP TABLE IF EXISTS ledger; CREATE TABLE ledger (id int)").rc == 0
    member(observer).check_output("truncate --size=0 /tmp/acknowledged")

    writer = start_writer(observer)
    try:
        time.sleep(3)
        killed = time.time()
        podman("kill", f"tf-{old}")
        others = [address for name, address in ADDRESSES.items() if name != old]
        wait_until(lambda: any(rest(address, "/primary")[0] == 200 for address in others), 30)
        wait_until(lambda: max(acknowledged(observer).values(), default=0) > killed + 5, 15)
    finally:
        member(observer).check_output("touch /tmp/stop")
        writer.wait(timeout=15)

    times = sorted(acknowledged(observer).values())
    outage = max(later - earlier for earlier, later in itertools.pairwise(times))
    print(f"{len(times)} rows acknowledged, none for {outage:.1f} s")
    assert times[0] < killed
    assert outage <= 30

    podman("start", f"tf-{old}")
    # The member itself is queried: the others return its last report to etcd, for as long as a lease lasts.
    wait_until(lambda: rest(ADDRESSES[old], "/patroni")[1].get("replication_state") == "streaming", 60)
    wait_until(lambda: sorted(roles(ADDRESSES[observer]).values()) == ["leader", "replica", "sync_standby"], 60)
    assert roles(ADDRESSES[observer])[old] != "leader"
    wait_until(lambda: all(set(acknowledged(observer)) <= rows(name) for name in ADDRESSES), 10)
