"""The virtual IP: its hosts, its moves, and the accepted senders."""

import re

from inputs import INPUTS
from render import lines, render

KEEPALIVED = INPUTS["keepalived"]


def _configuration(**changes: object) -> list[str]:
    return lines(render("keepalived", "keepalived.conf.j2", **KEEPALIVED | changes))


def test_only_hosts_in_the_list_exchange_advertisements() -> None:
    """The host sends from its own address to the other two; other senders are ignored."""
    text = render("keepalived", "keepalived.conf.j2", **KEEPALIVED)
    (peers,) = re.findall(r"unicast_peer \{(.*?)\}", text, re.DOTALL)
    assert lines(peers) == ["10.0.0.11", "10.0.0.13"]
    assert {"unicast_src_ip 10.0.0.12", "vrrp_check_unicast_src", "interface ens3"} <= set(_configuration())


def test_first_host_in_the_list_is_preferred_but_does_not_preempt() -> None:
    """It preempts only if the inventory says so."""
    assert "priority 190" in _configuration()
    assert "priority 200" in _configuration(keepalived_address="10.0.0.11")
    assert "nopreempt" in _configuration()
    assert "nopreempt" not in _configuration(keepalived_preempt=True)


def test_checks_do_not_run_as_root() -> None:
    """Each check has a timeout."""
    configuration = _configuration(keepalived_check_url="http://127.0.0.1/x", keepalived_check_seconds=0.7)
    assert {"enable_script_security", "script_user nobody nogroup", "interval 0.7"} <= set(configuration)
    (script,) = [line for line in configuration if line.startswith("script ")]
    assert "--max-time 0.7 http://127.0.0.1/x" in script


def test_unit_has_only_the_privileges_that_it_needs() -> None:
    """It may set addresses and use raw sockets, but change nothing else on the host."""
    sandbox = lines(render("keepalived", "sandbox.conf.j2", **KEEPALIVED))
    (kept,) = [line for line in sandbox if line.startswith("CapabilityBoundingSet=")]
    assert {"CAP_NET_ADMIN", "CAP_NET_RAW"} <= set(kept.partition("=")[2].split())
    assert "CAP_SYS_ADMIN" not in kept
    assert {"NoNewPrivileges=yes", "IPAddressDeny=any"} <= set(sandbox)
    assert "IPAddressAllow=localhost 10.0.0.11 10.0.0.12 10.0.0.13" in sandbox
    assert "ExecStopPost=-/usr/sbin/ip address delete 10.0.0.10/32 dev ens3" in sandbox
