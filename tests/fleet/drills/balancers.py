"""Faults of the load balancer with the virtual IP; the meter's clients use no other address."""

from clients import Meter
from faults import flows, off
from health import edges_healthy, has_vip, vip_owner
from inside import on
from lab import EDGES, wait


def nginx_killed(run: Meter) -> None:
    """Kill every process of nginx, and keep it down until the VIP has moved."""
    _moved(run, "systemctl kill --signal=KILL nginx; systemctl stop nginx", "systemctl start nginx")


def keepalived_stopped(run: Meter) -> None:
    """Stop keepalived properly: it releases the VIP."""
    _moved(run, "systemctl stop keepalived", "systemctl start keepalived")


def _moved(run: Meter, breaks: str, repairs: str) -> None:
    former = vip_owner()
    on(former, breaks)
    flows(run)
    assert vip_owner() != former
    on(former, repairs)


def balancer_off(run: Meter) -> None:
    """Cut the power of the load balancer with the VIP."""
    off(vip_owner(), run)


def balancers_rebooted(run: Meter) -> None:
    """Restart first the load balancer with the VIP, then the other one, which has it by then."""
    for _ in EDGES:
        former = vip_owner()
        on(former, "systemctl reboot", check=False)
        wait(lambda former=former: not has_vip(former), 20, f"{former} goes down")
        wait(edges_healthy, 90, f"{former} is in service again")
        flows(run)
