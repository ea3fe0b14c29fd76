"""Who gets the load balancers' certificate when, who may deliver it, and what either may do on its host."""

import re
import tomllib

from inputs import INPUTS
from render import PROJECT, lines, render

ACME = INPUTS["acme"]


def test_settings_are_what_the_programs_read() -> None:
    """TOML, whatever is in a value; numbers are numbers."""
    changed = ACME | {"acme_email": 'o"ps\\@trade.example', "acme_delivery_port": 9403}
    settings = tomllib.loads(render("acme", "acme.toml.j2", **changed))
    assert settings["email"] == 'o"ps\\@trade.example'
    assert settings["receivers"] == ["10.0.0.11", "10.0.0.12"]
    assert (settings["delivery_port"], settings["https_port"]) == (9403, 443)
    read = {name for program in ("acme-renew", "acme-receive") for name in read_by(program)}
    assert read == set(settings)


def read_by(program: str) -> set[str]:
    """Return the names that a program looks up."""
    text = (PROJECT / "roles/acme/files" / program).read_text()
    return set(re.findall(r'settings\["(\w+)"\]', text))


def test_it_is_looked_after_on_schedule() -> None:
    """One that was missed is made up for, and not everybody comes at the full hour."""
    timer = lines(render("acme", "acme-renew.timer.j2", acme_calendar="*-*-* 04:00"))
    assert {"OnCalendar=*-*-* 04:00", "Persistent=true", "RandomizedDelaySec=15min"} <= set(timer)


def test_the_certificate_is_taken_at_one_address() -> None:
    """From the boot on, and however often somebody knocks."""
    socket = lines(render("acme", "acme-receive.socket.j2", **ACME))
    expected = {"ListenStream=10.0.0.11:8403", "Accept=yes", "FreeBind=yes", "TriggerLimitIntervalSec=0"}
    assert expected <= set(socket)


def test_neither_has_roots_powers() -> None:
    """And each writes to its own folders alone; a stranger leaves no failed unit."""
    renew = lines(render("acme", "acme-renew.service.j2", **ACME))
    receive = lines(render("acme", "acme-receive@.service.j2", **ACME))
    for unit in (renew, receive):
        assert {"CapabilityBoundingSet=", "NoNewPrivileges=yes", "ProtectSystem=strict"} <= set(unit)
    assert [line for line in renew if line.startswith("ReadWritePaths=")] == ["ReadWritePaths=/etc/letsencrypt"]
    assert {"ReadWritePaths=/etc/ssl/tradefleet-edge", "CollectMode=inactive-or-failed"} <= set(receive)
