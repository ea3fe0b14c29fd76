"""All hosts of the fleet lose power at once, and return in different orders."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from clients import Meter
from faults import flows
from health import replica
from lab import ADDRESSES, leader, measured, power_off, power_on, wait

LATE_SECONDS = 180
LAST_SECONDS = 60
# Counted from the start of the hosts: 9.4 s were measured, and the machine may be busy.
FIRST_ORDER_SECONDS = 30
# Without the former leader its lease must expire first: ttl = 20 s, which a new leader of etcd grants again in full.
WITHOUT_LEADER_SECONDS = 60


def all_off(run: Meter) -> None:
    """Cut the power of all hosts, and start them all."""
    _start_again(run, [], 0, FIRST_ORDER_SECONDS)


def all_off_one_late(run: Meter) -> None:
    """Cut the power of all hosts; the host of the asynchronous replica starts three minutes after the others."""
    _start_again(run, [replica("replica")], LATE_SECONDS, FIRST_ORDER_SECONDS)


def all_off_leader_last(run: Meter) -> None:
    """Cut the power of all hosts; the former primary's host starts a minute after the others."""
    former = leader()
    _start_again(run, [former], LAST_SECONDS, WITHOUT_LEADER_SECONDS)
    assert leader() != former


def _start_again(run: Meter, late: list[str], seconds: float, bound: float) -> None:
    _at_once(power_off, ADDRESSES)
    before = run.state()["acknowledged"]
    _at_once(power_on, set(ADDRESSES) - set(late))
    started = time.monotonic()
    try:
        first = wait(lambda: run.state()["acknowledged"] > before, 180, "an order is accepted")
        measured(f"All hosts without power: the first order was accepted {first:.1f} s after their start")
        flows(run)
        time.sleep(max(0, started + seconds - time.monotonic()))
    finally:
        for host in late:
            power_on(host)
    flows(run)
    assert first <= bound


def _at_once(switch: Callable[[str], None], hosts: Iterable[str]) -> None:
    with ThreadPoolExecutor() as pool:
        list(pool.map(switch, hosts))
