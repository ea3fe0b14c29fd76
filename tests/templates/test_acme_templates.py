"""The certificate of the load balancers: its renewal, its delivery, and the permissions of both services."""

import re
import tomllib

from inputs import INPUTS
from render import PROJECT, lines, render

ACME = INPUTS["acme"]


def test_settings_contain_what_the_programs_read() -> None:
    """They are TOML for any value; numbers stay numbers."""
    changed = ACME | {"acme_email": 'o"ps\\@trade.example', "acme_delivery_port": 9403}
    settings = tomllib.loads(render("acme", "acme.toml.j2", **changed))
    assert settings["email"] == 'o"ps\\@trade.example'
    assert settings["receivers"] == ["10.0.0.11", "10.0.0.12"]
    assert (settings["delivery_port"], settings["https_port"]) == (9403, 443)
    read = {name for program in ("acme-renew", "acme-receive") for name in read_by(program)}
    assert read == set(settings)


def read_by(program: str) -> set[str]:
    """Return the names that a program reads."""
    text = (PROJECT / "roles/acme/files" / program).read_text()
    return set(re.findall(r'settings\["(\w+)"\]', text))


def test_renewal_runs_on_schedule() -> None:
    """A missed run is made up for, and a random delay spreads the load."""
    timer = lines(render("acme", "acme-renew.timer.j2", acme_calendar="*-*-* 04:00"))
    assert {"OnCalendar=*-*-* 04:00", "Persistent=true", "RandomizedDelaySec=15min"} <= set(timer)


def test_receiver_listens_on_one_address() -> None:
    """It starts at boot, and no number of connections stops it."""
    socket = lines(render("acme", "acme-receive.socket.j2", **ACME))
    expected = {"ListenStream=10.0.0.11:8403", "Accept=yes", "FreeBind=yes", "TriggerLimitIntervalSec=0"}
    assert expected <= set(socket)


def test_services_are_sandboxed() -> None:
    """Each writes only to its own folders; an unknown client leaves no failed unit."""
    renew = lines(render("acme", "acme-renew.service.j2", **ACME))
    receive = lines(render("acme", "acme-receive@.service.j2", **ACME))
    for unit in (renew, receive):
        assert {"CapabilityBoundingSet=", "NoNewPrivileges=yes", "ProtectSystem=strict"} <= set(unit)
    assert [line for line in renew if line.startswith("ReadWritePaths=")] == ["ReadWritePaths=/etc/letsencrypt"]
    assert {"ReadWritePaths=/etc/ssl/tradefleet-edge", "CollectMode=inactive-or-failed"} <= set(receive)
