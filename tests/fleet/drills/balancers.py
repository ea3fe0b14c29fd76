"""Faults of the load balancer that has the address that moves; the meter's clients know no other address."""

from faults import flows, off
from health import edges_healthy, has_vip, vip_owner
from lab import EDGES, Meter, on, wait


def nginx_killed(run: Meter) -> None:
    """Kill every process of nginx, and leave it dead until the address has moved."""
    former = vip_owner()
    on(former, "systemctl kill --signal=KILL nginx; systemctl stop nginx")
    flows(run)
    assert vip_owner() != former
    on(former, "systemctl start nginx")


def keepalived_stopped(run: Meter) -> None:
    """Stop keepalived in order: it gives the address away."""
    former = vip_owner()
    on(former, "systemctl stop keepalived")
    flows(run)
    assert vip_owner() != former
    on(former, "systemctl start keepalived")


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
