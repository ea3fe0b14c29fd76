"""The owner of the virtual IP, and the duration of an outage."""

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from inside import on

HOSTS = {"ka1": "10.203.0.171", "ka2": "10.203.0.172"}
VIP = "10.203.0.170"


def podman(*words: str) -> None:
    """Run a podman command on a host from outside."""
    subprocess.run(["podman", *words], check=True, capture_output=True, timeout=60)


def owners(vip: str = VIP, hosts: tuple[str, ...] = tuple(HOSTS)) -> list[str]:
    """Return the hosts that have the VIP."""
    return [name for name in hosts if on(name, f"ip -brief address show to {vip}", check=False)]


def owner() -> str:
    """Return the one host that has the VIP."""
    found = owners()
    assert len(found) == 1, found
    return found[0]


def other() -> str:
    """Return the host that does not have the VIP."""
    return next(name for name in HOSTS if name != owner())


def eventually(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until a condition holds."""
    ends_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends_at, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def answers(address: str, seconds: float = 0.25) -> bool:
    """Return whether nginx answers on an address over a new TLS connection."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((address, 443), timeout=seconds) as plain,
            context.wrap_socket(plain, server_hostname="edge.tradefleet.test") as connection,
        ):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: edge.tradefleet.test\r\nConnection: close\r\n\r\n")
            return connection.recv(12).startswith(b"HTTP/1.1 ")
    except OSError:
        return False


@dataclass
class Gap:
    """The longest time between two responses in seconds; it keeps growing while no response arrives."""

    seconds: float = 0
    answered: int = 0
    last: float = field(default_factory=time.monotonic)


@contextmanager
def client(address: str = VIP) -> Iterator[Gap]:
    """Send requests during the block; at its end, wait until responses arrive again."""
    gap, over = Gap(), threading.Event()

    def query() -> None:
        while not over.is_set():
            if answers(address):
                now = time.monotonic()
                gap.seconds, gap.last = max(gap.seconds, now - gap.last), now
                gap.answered += 1
            time.sleep(0.01)

    thread = threading.Thread(target=query)
    thread.start()
    try:
        eventually(lambda: gap.answered > 20, 10, "the address answers")
        yield gap
        time.sleep(4)  # longer than any gap that is allowed
        before = gap.answered
        eventually(lambda: gap.answered > before + 20, 20, "the address answers again")
    finally:
        over.set()
        thread.join()


def wait_until_healthy() -> None:
    """Wait until both hosts serve, one of them has the VIP, and the other could take it."""
    eventually(lambda: all(answers(address) for address in HOSTS.values()), 60, "both nginx answer")
    units = "systemctl is-active nginx keepalived"
    eventually(
        lambda: all(on(name, units, check=False).split() == ["active"] * 2 for name in HOSTS), 30, "all units run"
    )
    # A host that has just started has not checked nginx yet, and does not take the VIP.
    part = "journalctl --unit=keepalived --invocation=0 --output=cat --grep='Entering (BACKUP|MASTER) STATE'"
    eventually(lambda: all(on(name, part, check=False) for name in HOSTS), 30, "both take part")
    eventually(lambda: len(owners()) == 1 and answers(VIP), 30, "one host has the address")
