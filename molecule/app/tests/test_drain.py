"""A host that is taken out: it refuses, nobody is at work on it or connected to it, and a restart leaves it out."""

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
def afterwards(host: Host) -> Iterator[None]:
    """Let it serve again, whatever a test has done."""
    yield
    host.check_output(f"rm -f {FLAG}")


def readiness(host: Host) -> tuple[str, str]:
    """Return the status and what the application says of itself."""
    body, status = host.check_output(f"{CURL} -w '\n%{{http_code}}' {URL}/readyz").rsplit("\n", 1)
    return status, json.loads(body)["status"]


def test_it_refuses_from_inside_its_sandbox(host: Host) -> None:
    """The process sees the flag at the next request, tells the edge where to go, and keeps no connection."""
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
    # A process that has not asked Redis yet may find it away, for a moment.
    wait(lambda: readiness(host) == ("200", "ready"), 10)
    assert "idempotency-replayed" not in host.check_output(
        f"{CURL} -i {KEY} -H 'Idempotency-Key: no' --json '{ORDER}' {URL}/v1/orders"
    )


def test_who_takes_the_lock_waits_for_requests_that_are_at_work(host: Host) -> None:
    """One that waits for the database is answered; what comes meanwhile is refused, and holds nobody up."""
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


def test_a_host_that_was_taken_out_has_no_connection(host: Host) -> None:
    """And its process runs on, with nobody at work."""
    before = host.check_output("systemctl show -p MainPID --value tradefleet-api")
    converge("--limit", "app1", "-e", "drain=true")
    assert readiness(host) == ("503", "draining")
    assert host.run("flock --exclusive --nonblock /run/tradefleet/requests true").rc == 0
    assert host.check_output(CONNECTIONS) == ""
    assert host.check_output("systemctl show -p MainPID --value tradefleet-api") == before


def test_a_drained_host_is_activated_and_stays_out(host: Host) -> None:
    """Its release is proved while it is out; undrain lets it serve, and a further run changes nothing."""
    before = host.check_output("systemctl show -p MainPID --value tradefleet-api")
    converge("--limit", "app1", "-e", "drain=true", "-e", "app_threads=4")
    assert host.check_output("systemctl show -p MainPID --value tradefleet-api") != before
    assert readiness(host) == ("503", "draining")
    converge("--limit", "app1", "-e", "undrain=true")
    wait(lambda: readiness(host) == ("200", "ready"), 10)
    assert "changed=0 " in converge("--limit", "app1").stdout


def test_a_live_host_that_is_drained_takes_another_release() -> None:
    """Only where it is told that the host does not serve: the same refusal as ever otherwise."""
    LIVE.check_output("ln -sfn /opt/tradefleet/releases/0.0.9 /opt/tradefleet/current")
    try:
        assert converge("--limit", "app2", check=False).returncode != 0
        converge("--limit", "app2", "-e", "drain=true", "-e", "undrain=true", "-e", '{"app_live": false}')
    finally:
        LIVE.check_output("ln -sfn /opt/tradefleet/releases/0.1.0 /opt/tradefleet/current")


def test_a_release_that_cannot_be_drained_is_refused(host: Host) -> None:
    """One from before there was the lock would serve on; nothing is changed."""
    host.check_output("mv /run/tradefleet/requests /run/tradefleet/hidden")
    try:
        refused = converge("--limit", "app1", "-e", "drain=true", check=False)
    finally:
        host.check_output("mv /run/tradefleet/hidden /run/tradefleet/requests")
    assert refused.returncode != 0
    assert "cannot be taken out of service" in " ".join(refused.stdout.split())
    assert not host.file(FLAG).exists
