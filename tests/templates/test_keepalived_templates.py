"""Between whom the address moves, when, and who is listened to."""

import re

from inputs import INPUTS
from render import lines, render

KEEPALIVED = INPUTS["keepalived"]


def _configuration(**changes: object) -> list[str]:
    return lines(render("keepalived", "keepalived.conf.j2", **KEEPALIVED | changes))


def test_only_the_others_of_the_list_are_spoken_with_and_listened_to() -> None:
    """From the own address to the other two; nobody else's word counts."""
    text = render("keepalived", "keepalived.conf.j2", **KEEPALIVED)
    (peers,) = re.findall(r"unicast_peer \{(.*?)\}", text, re.DOTALL)
    assert lines(peers) == ["10.0.0.11", "10.0.0.13"]
    assert {"unicast_src_ip 10.0.0.12", "vrrp_check_unicast_src", "interface ens3"} <= set(_configuration())


def test_the_earlier_in_the_list_is_preferred_but_takes_nothing_back() -> None:
    """Unless the inventory says so."""
    assert "priority 190" in _configuration()
    assert "priority 200" in _configuration(keepalived_address="10.0.0.11")
    assert "nopreempt" in _configuration()
    assert "nopreempt" not in _configuration(keepalived_preempt=True)


def test_nobody_runs_programs_as_root() -> None:
    """And what is asked is bounded in time."""
    configuration = _configuration(keepalived_check_url="http://127.0.0.1/x", keepalived_check_seconds=0.7)
    assert {"enable_script_security", "script_user nobody nogroup", "interval 0.7"} <= set(configuration)
    (script,) = [line for line in configuration if line.startswith("script ")]
    assert "--max-time 0.7 http://127.0.0.1/x" in script


def test_the_unit_keeps_what_it_needs() -> None:
    """Addresses and raw sockets; no other privilege that would change the host."""
    sandbox = lines(render("keepalived", "sandbox.conf.j2", **KEEPALIVED))
    (kept,) = [line for line in sandbox if line.startswith("CapabilityBoundingSet=")]
    assert {"CAP_NET_ADMIN", "CAP_NET_RAW"} <= set(kept.partition("=")[2].split())
    assert "CAP_SYS_ADMIN" not in kept
    assert {"NoNewPrivileges=yes", "IPAddressDeny=any"} <= set(sandbox)
    assert "IPAddressAllow=localhost 10.0.0.11 10.0.0.12 10.0.0.13" in sandbox
    assert "ExecStopPost=-/usr/sbin/ip address delete 10.0.0.10/32 dev ens3" in sandbox
