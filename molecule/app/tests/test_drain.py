"""A drained host refuses requests, has none in flight and no connection, and a restart does not undrain it."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import testinfra
from locks import locked, wait, waits
from scenario import converge
from testinfra.host import Host

URL = "https://10.203.0.108:8443"
CURL = "curl -sS --max-time 20 --cacert /etc/ssl/tradefleet/ca.crt"
KEY = "-H 'Authorization: Bearer molecule-molecule-molecule-molecule-1'"
ORDER = """{"symbol":"AAPL","side":"buy","type":"market","quantity":"1"}"""
FLAG = "/run/tradefleet-draining"
CONNECTIONS = "ss --no-header --tcp --numeric state established sport = :8443"
LIVE = testinfra.get_host("podman://tf-app2")


@pytest.fixture(autouse=True)
def undrain(host: Host) -> Iterator[None]:
    """Undrain the host after each test."""
    yield
    host.check_output(f"rm -f {FLAG}")


def readiness(host: Host) -> tuple[str, str]:
    """Return the status code and the state that the application reports."""
    body, status = host.check_output(f"{CURL} -w '\n%{{http_code}}' {URL}/readyz").rsplit("\n", 1)
    return status, json.loads(body)["status"]


def test_it_refuses_from_inside_its_sandbox(host: Host) -> None:
    """The process reads the flag at the next request, names the edge's next location, and closes the connection."""
    host.check_output(f"touch {FLAG}")
    assert readiness(host) == ("503", "draining")
    for arguments, place in (
        ("", "@read_elsewhere"),
        (f"-H 'Idempotency-Key: no' --json '{ORDER}'", "@write_elsewhere"),
    ):
        answer = host.check_output(f"{CURL} -i {KEY} {arguments} {URL}/v1/orders").lower()
        assert answer.startswith("http/1.1 503")
        for header in (f"x-accel-redirect: {place}", "retry-after: 1", "connection: close"):
            assert header in answer
    host.check_output(f"rm {FLAG}")
    # A process that has not connected to Redis yet may report it as down for a moment.
    wait(lambda: readiness(host) == ("200", "ready"), 10)
    assert "idempotency-replayed" not in host.check_output(
        f"{CURL} -i {KEY} -H 'Idempotency-Key: no' --json '{ORDER}' {URL}/v1/orders"
    )


def test_exclusive_lock_waits_for_requests_in_flight(host: Host) -> None:
    """A request that waits for the database is answered; later ones are refused, and delay nothing."""
    order = f"{CURL} -o /dev/null -w '%{{http_code}}' {KEY} -H 'Idempotency-Key: slow' --json '{ORDER}' {URL}/v1/orders"
    with ThreadPoolExecutor(1) as pool, locked(host, "orders", 5):
        slow = pool.submit(host.check_output, order)
        wait(lambda: waits(host, "tradefleet_app"), 2)
        began = time.monotonic()
        host.check_output(f"touch {FLAG}")
        assert host.check_output(order.replace("slow", "refused")) == "503"
        assert time.monotonic() - began < 2
        host.check_output("flock --exclusive --timeout 20 /run/tradefleet/requests true")
        assert time.monotonic() - began > 1
        assert slow.result() == "201"


def test_drained_host_has_no_connection(host: Host) -> None:
    """Its process keeps running, without requests in flight."""
    before = host.check_output("systemctl show -p MainPID --value tradefleet-api")
    converge("--limit", "app1", "-e", "drain=true")
    assert readiness(host) == ("503", "draining")
    assert host.run("flock --exclusive --nonblock /run/tradefleet/requests true").rc == 0
    assert host.check_output(CONNECTIONS) == ""
    assert host.check_output("systemctl show -p MainPID --value tradefleet-api") == before


def test_drained_host_is_activated_and_stays_drained(host: Host) -> None:
    """Its release is verified while drained; undrain returns it to service, and another run changes nothing."""
    before = host.check_output("systemctl show -p MainPID --value tradefleet-api")
    converge("--limit", "app1", "-e", "drain=true", "-e", "app_threads=4")
    assert host.check_output("systemctl show -p MainPID --value tradefleet-api") != before
    assert readiness(host) == ("503", "draining")
    converge("--limit", "app1", "-e", "undrain=true")
    wait(lambda: readiness(host) == ("200", "ready"), 10)
    assert "changed=0 " in converge("--limit", "app1").stdout


def test_drained_host_accepts_another_release() -> None:
    """This works only if app_live is false for the host; otherwise the role refuses as usual."""
    LIVE.check_output("ln -sfn /opt/tradefleet/releases/0.0.9 /opt/tradefleet/current")
    try:
        assert converge("--limit", "app2", check=False).returncode != 0
        converge("--limit", "app2", "-e", "drain=true", "-e", "undrain=true", "-e", '{"app_live": false}')
    finally:
        LIVE.check_output("ln -sfn /opt/tradefleet/releases/0.1.0 /opt/tradefleet/current")


def test_release_without_drain_support_is_refused(host: Host) -> None:
    """A release that predates the lock would keep serving; nothing is changed."""
    host.check_output("mv /run/tradefleet/requests /run/tradefleet/hidden")
    try:
        refused = converge("--limit", "app1", "-e", "drain=true", check=False)
    finally:
        host.check_output("mv /run/tradefleet/hidden /run/tradefleet/requests")
    assert refused.returncode != 0
    assert "cannot drain, because it predates draining" in " ".join(refused.stdout.split())
    assert not host.file(FLAG).exists
