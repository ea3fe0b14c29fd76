"""Does the second site take over with every acknowledged order, and does the first one serve again?"""

import itertools
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any

import pytest
from catalog import sites
from clients import Api
from inside import on
from lab import ADDRESSES, INVENTORY, MOMENT, PROJECT, changes, leader, measured, output, sql, wait
from reliability import keep_site

pytestmark = pytest.mark.skipif(not sites(), reason="these drills need the second site: make drill DRILL=all")
SECOND = {"dr-lb1": "10.203.0.61", "dr-blue1": "10.203.0.62", "dr-data1": "10.203.0.63", "dr-ops1": "10.203.0.64"}
# Clients may be without service for this long (seeds.md asks for 15 minutes, and for 5 minutes of lost orders).
OUTAGE_SECONDS, LOST_SECONDS = 120, 1


def at(site: str, playbook: str, *arguments: str, check: bool = True, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a playbook on a site."""
    argv = ["ansible-playbook", "-i", str(INVENTORY.parent / site), f"{playbook}.yml", *arguments]
    argv += [f"-e{name}={value}" for name, value in extra.items()]
    done = subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, timeout=900, check=False)
    if check and done.returncode:
        raise AssertionError(f"{playbook} on {site} failed:\n{done.stdout[-6000:]}\n{done.stderr[-2000:]}")
    return done


def figure(name: str, sentence: str) -> None:
    """Print a drill's figure, and write it to docs/reliability.md."""
    measured(sentence)
    keep_site(name, sentence)


def podman(command: str, *hosts: str) -> None:
    """Run a podman command for hosts."""
    names = [f"tf-{host}" for host in hosts]
    subprocess.run(["podman", command, *names], check=True, capture_output=True, timeout=120)


@pytest.fixture(scope="module", autouse=True)
def second_site() -> Iterator[None]:
    """Add the second site to the lab, and remove it at the end."""
    subprocess.run(["make", "second-site"], cwd=PROJECT, check=True, capture_output=True, timeout=900)
    ADDRESSES.update(SECOND)
    yield
    for name in SECOND:
        ADDRESSES.pop(name)
    # A drill that failed may have left them without power.
    podman("start", *ADDRESSES)
    at("dr", "molecule/shared/destroy")
    subprocess.run(["git", "checkout", "--", "inventories"], cwd=PROJECT, check=True, capture_output=True)
    at("lab", "playbooks/site")


@dataclass
class Client:
    """A client that places orders one after the other, at the site that accepted the last one if it can.

    A site that refuses or does not respond is followed by the other one, as with two addresses in the DNS. An order is
    repeated with its key until a site acknowledges it.
    """

    # Time, ID and load balancer of each acknowledged order.
    acknowledged: list[tuple[float, str, str]] = field(default_factory=list)
    edges: tuple[Api, ...] = field(default_factory=lambda: (Api("lb1"), Api("dr-lb1")))

    def run(self, done: threading.Event) -> None:
        """Place orders until stopped."""
        edge = 0
        while not done.is_set():
            key = uuid.uuid4().hex
            while not done.wait(0.05):
                try:
                    answer = self.edges[edge].order(key)
                except (OSError, HTTPException):
                    answer = None
                if answer and answer.status in (200, 201):
                    self.acknowledged.append((time.time(), answer.json()["id"], self.edges[edge].host))
                    break
                edge = 1 - edge

    def gap(self) -> float:
        """Return the longest time between two acknowledged orders, in seconds."""
        times = [moment for moment, _, _ in self.acknowledged]
        return max(later - earlier for earlier, later in itertools.pairwise(times))


@contextmanager
def ordering() -> Iterator[Client]:
    """Place orders throughout the block."""
    client, done = Client(), threading.Event()
    thread = threading.Thread(target=client.run, args=(done,))
    thread.start()
    try:
        wait(lambda: len(client.acknowledged) > 50, 60, "orders are acknowledged")
        yield client
        before = len(client.acknowledged)
        wait(lambda: len(client.acknowledged) > before + 50, 60, "orders are acknowledged again")
    finally:
        done.set()
        thread.join()


def stored(host: str) -> list[str]:
    """Return the IDs of all orders in the database of a host, none while it starts."""
    query = "su postgres -c \"psql -d tradefleet -Atc 'SELECT id FROM orders'\""
    return on(host, query, check=False).split()


def missing(client: Client, host: str) -> list[tuple[float, str, str]]:
    """Return the acknowledged orders that a database does not contain."""
    present = set(stored(host))
    return [each for each in client.acknowledged if each[1] not in present]


def report() -> str:
    """Return what dr_status.yml prints."""
    return output(at("dr", "playbooks/dr_status"))


def streaming() -> bool:
    """Return whether the standby streams from the primary."""
    return "The standby is streaming, " in report()


@contextmanager
def keeping_no_wal(primary: str) -> Iterator[None]:
    """Let a primary keep next to no WAL for slots throughout the block."""
    limits = {"max_slot_wal_keep_size": "1MB", "wal_keep_size": "0"}
    for name, limit in limits.items():
        sql(primary, f"ALTER SYSTEM SET {name} = '{limit}'")
    sql(primary, "SELECT pg_reload_conf()")
    try:
        yield
    finally:
        for name in limits:
            sql(primary, f"ALTER SYSTEM RESET {name}")
        sql(primary, "SELECT pg_reload_conf()")


@pytest.mark.skipif("site-behind" not in sites(), reason="not chosen")
def test_standby_that_was_away_catches_up_from_the_archive() -> None:
    """The primary has removed what the standby lacks. What a restore undoes, it loses as well, without a copy."""
    wait(streaming, 60, "the standby streams")
    on("dr-data1", "systemctl stop patroni")
    primary = leader()
    last = Api("lb1").order(uuid.uuid4().hex).json()["id"]
    with keeping_no_wal(primary):
        # A checkpoint removes segments beyond the slot's limit.
        for _ in range(12):
            sql(primary, "SELECT pg_logical_emit_message(false, 'drill', repeat('x', 1000000))")
            sql(primary, "SELECT pg_switch_wal()")
        sql(primary, "CHECKPOINT")
        lost = "SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'remote'"
        wait(lambda: sql(primary, lost) == "lost", 30, "the primary keeps no WAL for the standby")
    on("ops1", "runuser -u postgres -- tradefleet-backups check")
    on("dr-data1", "systemctl start patroni")
    seconds = wait(lambda: last in stored("dr-data1"), 120, "the standby has what was in the archive")
    wait(streaming, 60, "the standby streams again")
    at("lab", "playbooks/site", "--tags=postgresql")
    kept = "SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'remote' AND invalidation_reason IS NULL"
    wait(lambda: sql(primary, kept) == "reserved", 60, "the primary keeps WAL for the standby")
    moment = sql(primary, MOMENT)
    undone = Api("lb1").order(uuid.uuid4().hex).json()["id"]
    wait(lambda: undone in stored("dr-data1"), 30, "the standby has an order that a restore undoes")
    at("lab", "playbooks/restore", overwrite="postgresql", target=moment)
    wait(streaming, 60, "the standby streams from the restored cluster")
    assert undone not in stored("dr-data1")
    assert last in stored("dr-data1")
    figure("site-behind", f"A standby without a slot: had 200 MB from the archive after {seconds:.0f} s")


@pytest.mark.skipif("site-moved" not in sites(), reason="not chosen")
def test_site_moves_and_returns_without_a_lost_order() -> None:
    """Both ways are planned: the site that stops has sent everything, and its data continue as a standby's."""
    born = on("data1", "stat -c %W /var/lib/postgresql/17/tradefleet/PG_VERSION")
    with ordering() as client:
        assert "The standby is streaming, " in report()
        at("dr", "playbooks/dr_promote")
        there = client.gap()
    assert missing(client, "dr-data1") == []
    assert client.acknowledged[-1][2] == "dr-lb1"
    assert at("dr", "playbooks/site", "--check").returncode == 0
    with ordering() as client:
        at("lab", "playbooks/dr_failback")
        back = client.gap()
    assert missing(client, "data1") == []
    assert client.acknowledged[-1][2] == "lb1"
    assert on("data1", "stat -c %W /var/lib/postgresql/17/tradefleet/PG_VERSION") == born, "the data were copied"
    at("dr", "playbooks/dr_standby")
    for site in ("lab", "dr"):
        assert changes(at(site, "playbooks/site")) == []
    assert max(there, back) < OUTAGE_SECONDS
    figure(
        "site-moved",
        f"A site moved to the second one and back: {there:.1f} s and {back:.1f} s without service, 0 orders lost",
    )


@pytest.mark.skipif("site-lost" not in sites(), reason="not chosen")
def test_lost_site_is_replaced_and_refuses_clients_when_it_returns() -> None:
    """All of its hosts lose power at once. Orders that were on their way to the second site are lost, and counted."""
    first = [host for host in ADDRESSES if host not in SECOND]
    with ordering() as client:
        podman("kill", *first)
        killed = time.time()
        refused = at("dr", "playbooks/dr_promote", check=False)
        assert "If the site is lost, or is cut off from all clients, say so: `-e lost=lab`" in output(refused)
        start = time.monotonic()
        at("dr", "playbooks/dr_promote", lost="lab")
        promoted = time.monotonic() - start
    lost = missing(client, "dr-data1")
    window = max((killed - moment for moment, _, _ in lost), default=0.0)
    podman("start", *first)
    # Every answer of the returning site is a refusal, from its first one on.
    with ordering() as later:
        until, answers = time.monotonic() + 60, set[Any]()
        while time.monotonic() < until:
            try:
                answers.add(Api("lb1").order(uuid.uuid4().hex).status)
            except (OSError, HTTPException):
                time.sleep(0.1)
        assert answers == {503}
        assert "PostgreSQL of lab accepts writes, too" in report()
        kept = at("lab", "playbooks/dr_failback", check=False)
        assert "confirm that with `-e overwrite=postgresql`" in output(kept)
        at("lab", "playbooks/dr_failback", overwrite="postgresql")
    assert missing(later, "data1") == []
    at("dr", "playbooks/dr_standby")
    for site in ("lab", "dr"):
        assert changes(at(site, "playbooks/site")) == []
    assert client.gap() < OUTAGE_SECONDS
    assert window < LOST_SECONDS
    figure(
        "site-lost",
        f"A site lost: the other one served {promoted:.1f} s after the command, {client.gap():.1f} s without service "
        f"(with a refused command before), {len(lost)} of {len(client.acknowledged)} acknowledged orders lost, "
        f"from the last {window:.3f} s; "
        f"failback {later.gap():.1f} s without service, 0 lost",
    )
