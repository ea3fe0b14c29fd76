"""The other host: it serves, on another port, and has PostgreSQL alone. What it answers is asked over the network."""

import json

import pytest
import testinfra
from testinfra.host import Host

OTHER = testinfra.get_host("podman://tf-app2")
URL = "https://10.203.0.109:9443"
CURL = "curl -sS --max-time 10 --cacert /etc/ssl/tradefleet/ca.crt"
KEY = "-H 'Authorization: Bearer molecule-molecule-molecule-molecule-1'"


def test_it_is_ready_without_redis(host: Host) -> None:
    """Nothing that it was not given is missing: it is not degraded."""
    ready = json.loads(host.check_output(f"{CURL} -f {URL}/readyz"))
    assert ready == {
        "status": "ready",
        "dependencies": {"database": "ok", "schema": "ok", "redis": "disabled", "cache": "disabled"},
        "outbox_seconds": 0,
        "outbox_failed": 0,
    }
    assert json.loads(host.check_output(f"{CURL} {URL}/version"))["color"] == "blue"


def test_it_listens_on_its_own_port_alone(host: Host) -> None:
    """Not on the default one beside it."""
    assert host.run(f"{CURL} {URL.replace('9443', '8443')}/healthz").rc == 7


def test_an_order_is_stored_and_read_from_the_primary(host: Host) -> None:
    """Straight from PostgreSQL, which proves its address; the trader is known from the database."""
    order = '{"symbol":"AAPL","side":"sell","type":"market","quantity":"2"}'
    placed = host.check_output(f"{CURL} {KEY} -H 'Idempotency-Key: other' --json '{order}' {URL}/v1/orders")
    read = host.check_output(f"{CURL} -i {KEY} {URL}/v1/orders?limit=1")
    assert json.loads(placed)["id"] in read
    assert "tradefleet-read: primary" in read.lower()


def test_its_process_is_sized_as_it_was_told() -> None:
    """Workers and limits, told by the kernel and by systemd."""
    show = "systemctl show --value tradefleet-api -p"
    assert len(OTHER.check_output(f"pgrep -P $({show} MainPID)").split()) == 2
    assert OTHER.check_output(f"{show} MemoryMax") == str(400 * 1024**2)
    assert OTHER.check_output(f"{show} TimeoutStopUSec") == "15s"


def test_each_request_is_logged(host: Host) -> None:
    """At its level; the first host's keeps quiet."""
    for each, url, logged in ((OTHER, URL, 0), (host, "https://10.203.0.108:8443", 1)):
        host.check_output(f"{CURL} -H 'X-Request-Id: seen' {url}/healthz")
        each.check_output("journalctl --sync")
        assert each.run('journalctl -o cat -u tradefleet-api | grep -F \'"request_id": "seen"\'').rc == logged


@pytest.mark.parametrize("folder", ["/etc/tradefleet/credentials", "/run/credentials/tradefleet-api.service"])
def test_it_has_no_secret_of_redis(folder: str) -> None:
    """A secret that nobody needs is on no disk."""
    assert not [name for name in OTHER.file(folder).listdir() if "redis" in name or "sentinel" in name]
    assert "database_password" in OTHER.file(folder).listdir()
