"""Faults of the load balancer that has the address that moves; the meter's clients know no other address."""

from clients import Meter
from faults import flows, off
from health import edges_healthy, has_vip, vip_owner
from inside import on
from lab import EDGES, wait


def nginx_killed(run: Meter) -> None:
    """Kill every process of nginx, and leave it dead until the address has moved."""
    _moved(run, "systemctl kill --signal=KILL nginx; systemctl stop nginx", "systemctl start nginx")


def keepalived_stopped(run: Meter) -> None:
    """Stop keepalived in order: it gives the address away."""
    _moved(run, "systemctl stop keepalived", "systemctl start keepalived")


def _moved(run: Meter, breaks: str, mends: str) -> None:
    former = vip_owner()
    on(former, breaks)
    flows(run)
    assert vip_owner() != former
    on(former, mends)


def balancer_off(run: Meter) -> None:
    """Cut the power of the load balancer that has the address."""
    off(vip_owner(), run)


def balancers_rebooted(run: Meter) -> None:
    """Restart first the one that has the address, then the other one, which has it by then."""
    for _ in EDGES:
        former = vip_owner()
        on(former, "systemctl reboot", check=False)
        wait(lambda former=former: not has_vip(former), 20, f"{former} goes down")
        wait(edges_healthy, 90, f"{former} is in service again")
        flows(run)
