"""The other host serves, on another port, and has only PostgreSQL. Its responses are requested over the network."""

import json

import pytest
import testinfra
from testinfra.host import Host

OTHER = testinfra.get_host("podman://tf-app2")
URL = "https://10.203.0.109:9443"
CURL = "curl -sS --max-time 10 --cacert /etc/ssl/tradefleet/ca.crt"
KEY = "-H 'Authorization: Bearer molecule-molecule-molecule-molecule-1'"


def test_it_is_ready_without_redis(host: Host) -> None:
    """Redis is not configured, so its absence does not degrade the application."""
    ready = json.loads(host.check_output(f"{CURL} -f {URL}/readyz"))
    assert ready == {
        "status": "ready",
        "dependencies": {"database": "ok", "schema": "ok", "redis": "disabled", "cache": "disabled"},
        "outbox_seconds": 0,
        "outbox_events": 0,
        "outbox_failed": 0,
    }
    assert json.loads(host.check_output(f"{CURL} {URL}/version"))["color"] == "blue"


def test_it_listens_only_on_its_own_port(host: Host) -> None:
    """It does not listen on the default port as well."""
    assert host.run(f"{CURL} {URL.replace('9443', '8443')}/healthz").rc == 7


def test_order_is_stored_and_read_from_the_primary(host: Host) -> None:
    """It connects directly to PostgreSQL and verifies its address; the trader is in the database."""
    order = '{"symbol":"AAPL","side":"sell","type":"market","quantity":"2"}'
    placed = host.check_output(f"{CURL} {KEY} -H 'Idempotency-Key: other' --json '{order}' {URL}/v1/orders")
    read = host.check_output(f"{CURL} -i {KEY} {URL}/v1/orders?limit=1")
    assert json.loads(placed)["id"] in read
    assert "tradefleet-read: primary" in read.lower()


def test_process_has_the_configured_size() -> None:
    """The kernel and systemd report workers and limits."""
    show = "systemctl show --value tradefleet-api -p"
    assert len(OTHER.check_output(f"pgrep -P $({show} MainPID)").split()) == 2
    assert OTHER.check_output(f"{show} MemoryMax") == str(400 * 1024**2)
    assert OTHER.check_output(f"{show} TimeoutStopUSec") == "15s"


def test_each_request_is_logged(host: Host) -> None:
    """The host logs at its level; the first host has a higher level."""
    for each, url, logged in ((OTHER, URL, 0), (host, "https://10.203.0.108:8443", 1)):
        host.check_output(f"{CURL} -H 'X-Request-Id: seen' {url}/healthz")
        each.check_output("journalctl --sync")
        assert each.run('journalctl -o cat -u tradefleet-api | grep -F \'"request_id": "seen"\'').rc == logged


@pytest.mark.parametrize("folder", ["/etc/tradefleet/credentials", "/run/credentials/tradefleet-api.service"])
def test_it_has_no_redis_secret(folder: str) -> None:
    """A secret that is not needed is not stored."""
    assert not [name for name in OTHER.file(folder).listdir() if "redis" in name or "sentinel" in name]
    assert "database_password" in OTHER.file(folder).listdir()
