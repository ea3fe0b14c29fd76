"""What a drill does to the lab: one fault each, brought about and mended again while traffic flows.

Each function returns when its fault has been mended; whether the fleet came through is for the drill to judge.
"""

import subprocess
import time
from collections.abc import Iterable

from health import postgres_healthy, ready, redis_healthy, redis_primary, redis_role, replica
from lab import ADDRESSES, DATA, Meter, leader, on, play, power_off, power_on, traffic, wait

FROZEN_SECONDS = 60


def flows(run: Meter, seconds: float = 90) -> None:
    """Wait until traffic has flowed again for a while: 300 further successes."""
    before = run.state()["ok"]
    wait(lambda: run.state()["ok"] > before + 300, seconds, "traffic flows again")


def off(host: str, run: Meter) -> None:
    """Cut a host's power, wait until the others do its work, and start it again."""
    power_off(host)
    flows(run)
    power_on(host)


def frozen(hosts: Iterable[str], seconds: float = FROZEN_SECONDS) -> None:
    """Stop every process of the hosts for a while: the kernel still answers for them, nobody else does."""
    names = [f"tf-{host}" for host in hosts]
    subprocess.run(["podman", "pause", *names], check=True, capture_output=True, timeout=60)
    try:
        time.sleep(seconds)
    finally:
        subprocess.run(["podman", "unpause", *names], check=True, capture_output=True, timeout=60)


def cut(host: str, others: Iterable[str], seconds: float = FROZEN_SECONDS) -> None:
    """Cut the network between a host and some others for a while, by firewall; everybody else still reaches it."""
    addresses = [ADDRESSES[other] for other in others]
    _firewall(host, "-I", addresses)
    try:
        time.sleep(seconds)
    finally:
        _firewall(host, "-D", addresses)


def _firewall(host: str, change: str, addresses: list[str]) -> None:
    argv = ["podman", "inspect", "--format", "{{.State.Pid}}", f"tf-{host}"]
    process = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout.strip()
    for chain, side in (("INPUT", "-s"), ("OUTPUT", "-d")):
        rule = ["iptables", "-w", change, chain, side, ",".join(addresses), "-j", "DROP"]
        subprocess.run(["nsenter", "-t", process, "-n", *rule], check=True, capture_output=True, timeout=60)


def others(*hosts: str) -> list[str]:
    """Return the data hosts that are not among `hosts`."""
    return [host for host in DATA if host not in hosts]


def redis_apart() -> str:
    """Have Redis' primary on another host than PostgreSQL's, so that a fault hits one of them, and return it."""
    if redis_primary() == leader():
        # Refused until Sentinel has heard that a replica which was away is good again.
        ask = "sentinel-cli-state SENTINEL FAILOVER state"
        wait(lambda: "OK" in on(others(leader())[0], ask, check=False), 60, "Sentinel moves Redis' primary")
        wait(lambda: redis_role(leader())[0] == "slave" and redis_healthy(), 60, "Redis' primary is elsewhere")
    return redis_primary()


def postmaster_killed(run: Meter) -> None:
    """Kill PostgreSQL's first process on the primary; its children end with it."""
    on(leader(), "kill -9 $(head -n 1 /var/lib/postgresql/17/tradefleet/postmaster.pid)")
    flows(run)


def patroni_killed(run: Meter) -> None:
    """Kill Patroni on the primary; PostgreSQL stays."""
    on(leader(), "kill -9 $(systemctl show -p MainPID --value patroni)")
    flows(run)


def primary_off(run: Meter) -> None:
    """Cut the power of the primary's host."""
    off(leader(), run)


def primary_frozen(run: Meter) -> None:
    """Freeze the primary's host; it wakes up believing that it leads."""
    frozen([leader()])
    flows(run)


def primary_cut(run: Meter) -> None:
    """Cut the primary from the other two data hosts; the application hosts still reach all three."""
    primary = leader()
    cut(primary, others(primary))
    flows(run)


def standby_off(run: Meter) -> None:
    """Cut the power of the synchronous replica's host."""
    off(replica("sync_standby"), run)


def standby_frozen(run: Meter) -> None:
    """Freeze the synchronous replica's host: commits wait for it until the primary gives it up."""
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
    """Stop one member of etcd, the one beside the asynchronous replica."""
    _without_etcd([replica("replica")], run)


def etcd_majority_stopped(run: Meter) -> None:
    """Stop the members beside both replicas: no majority, so nobody can be elected; the primary serves on."""
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
    """Ten rounds: cut the power of one data host after the other, each time from a healthy fleet."""
    for number in range(10):
        off(DATA[number % 3], run)
        wait(lambda: postgres_healthy() and redis_healthy(), 120, f"round {number + 1}: healthy again")


def switchover(run: Meter) -> None:
    """Have the primary hand over to the synchronous replica, as an operator would."""
    play("switchover")
    flows(run)


def setting_rolled(run: Meter) -> None:
    """Change a setting that needs a restart and change it back: two rolls through the cluster."""
    play("site", postgresql_shared_buffers="136MB")
    play("site")
    flows(run)


def minor_upgrade(run: Meter) -> None:
    """Upgrade, with PostgreSQL's and Patroni's packages as if they had just been installed on each member."""
    for host in DATA:
        on(host, "touch /var/lib/dpkg/info/postgresql-17.list /var/lib/dpkg/info/patroni.list")
    play("upgrade_postgresql")
    flows(run)


def password_rotated(run: Meter) -> None:
    """Change the application's password on both colours: rotate, cut over, rotate, cut back."""
    if not traffic()["release_green"]:
        play("deploy", deploy_release=traffic()["release_blue"])
    for _ in range(2):
        play("rotate_db_password", user="app")
        play("cutover")
    flows(run)


def redis_killed(run: Meter) -> None:
    """Kill Redis on its primary; systemd starts it again."""
    on(redis_apart(), "kill -9 $(systemctl show -p MainPID --value redis-server@state)")
    flows(run)


def redis_stopped(run: Meter) -> None:
    """Stop the process of Redis on its primary for a while: it lives, keeps its connections, and answers nobody."""
    host = redis_apart()
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
    """Cut the power of the host of Redis' primary."""
    off(redis_apart(), run)


def redis_primary_frozen(run: Meter) -> None:
    """Freeze the host of Redis' primary."""
    frozen([redis_apart()])
    flows(run)


def redis_primary_cut(run: Meter) -> None:
    """Cut Redis' primary from the other two data hosts."""
    host = redis_apart()
    cut(host, others(host))
    flows(run)


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
