"""What a drill does to the lab: one fault each, brought about and mended again while traffic flows.

Each function returns when its fault has been mended; whether the fleet came through is for the drill to judge.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterable

from lab import ADDRESSES, APPS, DATA, Meter, cluster, leader, on, play, power_off, power_on, traffic, wait

FROZEN_SECONDS = 60
REDIS = ("state", "cache")


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


def replica(role: str) -> str:
    """Return a host whose PostgreSQL has a role: "sync_standby" or "replica"."""
    return next(host for host, state in sorted(cluster().items()) if state.startswith(f"{role} "))


def others(*hosts: str) -> list[str]:
    """Return the data hosts that are not among `hosts`."""
    return [host for host in DATA if host not in hosts]


def redis_role(host: str, service: str = "state") -> list[str]:
    """Return what a host's Redis says of its role: "master" …, "slave" primary port state …, or nothing at all."""
    try:
        answer: list[str] = json.loads(on(host, f"redis-cli-{service} --json ROLE", check=False))
    except ValueError:
        return [""]
    return answer


def redis_primary(service: str = "state") -> str:
    """Return the data host whose Redis takes writes."""
    found = [host for host in DATA if redis_role(host, service)[0] == "master"]
    assert len(found) == 1, f"Redis primaries: {found}"
    return found[0]


def redis_healthy() -> bool:
    """Tell whether each service has one primary and two replicas that follow it, and every Sentinel knows it."""
    return all(_healthy(service) for service in REDIS)


def _healthy(service: str) -> bool:
    roles = {host: redis_role(host, service) for host in DATA}
    primaries = [ADDRESSES[host] for host, answer in roles.items() if answer[0] == "master"]
    following = [answer[1] for answer in roles.values() if answer[0] == "slave" and answer[3] == "connected"]
    ask = f"sentinel-cli-state SENTINEL GET-MASTER-ADDR-BY-NAME {service} | head -n 1"
    told = {on(host, ask, check=False).strip() for host in DATA}
    return len(primaries) == 1 and following == primaries * 2 and told == set(primaries)


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


def postgres_healthy() -> bool:
    """Tell whether PostgreSQL has one leader and two streaming replicas, one of them synchronous.

    Each host is asked about itself: to the others it is what it last told etcd, for as long as a lease lasts.
    """
    receiver = "SELECT status FROM pg_stat_wal_receiver"
    ask = f"SELECT CASE WHEN pg_is_in_recovery() THEN ({receiver}) ELSE 'primary' END"
    states = sorted(on(host, f'su postgres -c "psql -Atc \\"{ask}\\""', check=False).strip() for host in DATA)
    roles = sorted(state.split()[0] for state in cluster().values())
    return states == ["primary", "streaming", "streaming"] and roles == ["leader", "replica", "sync_standby"]


def etcd_healthy() -> bool:
    """Tell whether each member of etcd answers by itself, with the consent of a majority.

    One that was cut off may take as long again as the cut lasted: the others' connections to it repeat what was lost
    after ever longer pauses.
    """
    ask = "etcdctl-root --endpoints=https://{}:2379 endpoint health"
    return all("is healthy" in on(host, f"{ask.format(ADDRESSES[host])} 2>&1", check=False) for host in DATA)


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


def ready(host: str) -> bool:
    """Tell whether the application on a host says that it is ready."""
    ask = f"curl -fsS --max-time 3 --cacert /etc/ssl/tradefleet/ca.crt https://{ADDRESSES[host]}:8443/readyz"
    return '"ready"' in on(host, ask, check=False)


def apps_ready() -> bool:
    """Tell whether every application host that runs a release says that it is ready."""
    return all(ready(host) for host in APPS if on(host, "readlink /opt/tradefleet/current", check=False))


HEALTH: tuple[tuple[str, Callable[[], bool]], ...] = (
    ("etcd: every member answers", etcd_healthy),
    ("PostgreSQL: a leader, two streaming replicas, one of them synchronous", postgres_healthy),
    ("Redis: for each service a primary, two replicas, and Sentinels that agree", redis_healthy),
    ("the application ready on every host that runs a release", apps_ready),
)
