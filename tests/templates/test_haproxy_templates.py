"""Access to PostgreSQL: checks, trust, and the limits of sessions."""

import re

from inputs import INPUTS, MEMBERS
from render import lines, render
from tradefleet.platform.postgres import database

HAPROXY = INPUTS["haproxy"]


def _section(name: str, **changes: object) -> list[str]:
    """Return the lines of one section."""
    text = render("haproxy", "haproxy.cfg.j2", **HAPROXY | changes)
    (section,) = re.findall(rf"^{name}\n(.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    return lines(section)


def test_each_backend_queries_the_role_of_every_host() -> None:
    """Both backends have the same hosts and different queries. The certificate must contain the name of its host."""
    expected = [f"server {name} {address}:6432 verifyhost {name} check-sni {name}" for name, address in MEMBERS.items()]
    primary, replica = _section("backend primary"), _section("backend replica", haproxy_replica_lag_bytes=4711)
    assert [line for line in primary if line.startswith("server ")] == expected
    assert [line for line in replica if line.startswith("server ")] == expected
    assert "http-check send meth OPTIONS uri /primary" in primary
    assert "http-check send meth OPTIONS uri /replica?lag=4711" in replica


def test_unverified_host_is_not_trusted() -> None:
    """The CA is the fleet's, and TLS 1.3 is required; sessions to a host that is down end at once."""
    (checks,) = [line for line in _section("defaults") if line.startswith("default-server ")]
    for part in ("port 8008", "check-ssl", "verify required", "ca-file /x/ca.crt", "on-marked-down shutdown-sessions"):
        assert f" {part}" in checks
    assert " inter 3s fall 2 rise 1" in _section("defaults", haproxy_check_seconds=3)[-1]
    assert "ssl-default-server-options ssl-min-ver TLSv1.3" in _section("global")


def test_it_listens_only_on_loopback_and_a_socket_of_root() -> None:
    """No other user may connect or read the status."""
    text = render("haproxy", "haproxy.cfg.j2", **HAPROXY)
    assert [line for line in lines(text) if line.startswith("bind ")] == [
        "bind 127.0.0.1:5000",
        "bind 127.0.0.1:5001",
        "bind unix@/run/haproxy/status.sock mode 600",
    ]


def test_reads_prefer_replicas_to_the_primary() -> None:
    """Reads go to the primary only if no replica is available."""
    assert _section("frontend replica")[1:] == [
        "use_backend primary if { nbsrv(replica) eq 0 }",
        "default_backend replica",
    ]


def test_sessions_outlast_the_applications_pool() -> None:
    """haproxy never closes a connection in the pool: the values of both sides are compared."""
    defaults = _section("defaults")
    for side in ("client", "server"):
        (found,) = [line for line in defaults if line.startswith(f"timeout {side} ")]
        assert int(found.split()[2].removesuffix("s")) > database.RECYCLE_SECONDS + 10
    assert "timeout connect 2s" in defaults
    assert "hard-stop-after 90s" in _section("global")


def test_checksum_identifies_the_configuration() -> None:
    """haproxy reports the checksum of the one that it runs."""
    first = render("haproxy", "haproxy.cfg.j2", **HAPROXY)
    (checksum,) = re.findall(r'string "([0-9a-f]{64})" if { path /configuration }', first)
    assert checksum not in render("haproxy", "haproxy.cfg.j2", **HAPROXY | {"haproxy_maxconn": 7})
    assert checksum not in render(
        "haproxy", "haproxy.cfg.j2", **HAPROXY | {"__haproxy_ca": {"stat": {"checksum": "other"}}}
    )


def test_it_never_runs_as_root() -> None:
    """It cannot gain root's rights either; settings of Debian's unit that need root are overridden."""
    unit = lines(render("haproxy", "sandbox.conf.j2", **HAPROXY))
    for line in ("User=haproxy", "CapabilityBoundingSet=", "NoNewPrivileges=yes", "ProtectSystem=strict"):
        assert line in unit
    assert "BindReadOnlyPaths=" in unit
    assert "OOMScoreAdjust=-500" in unit
    assert not [line for line in unit if "/run/haproxy." in line]
