"""The metrics listener: who gets a response, and what it states about the API."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPSConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from authority import Authority
from tradefleet.entrypoints.metrics import make
from tradefleet.platform.metrics import listener as listeners
from tradefleet.platform.metrics.listener import Listener

NAMES = {"metrics": "DNS:metrics.ops1.test", "other purpose": "DNS:metrics.app1.test", "host": "DNS:ops1.test"}
READY = {
    "status": "ready",
    "dependencies": {"database": "ok", "schema": "ok", "redis": "ok", "cache": "disabled"},
    "outbox_seconds": 1.5,
    "outbox_events": 3,
    "outbox_failed": 0,
}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders with certificates of the fleet's CA, and of another one."""
    folder = tmp_path_factory.mktemp("certificates")
    fleet, foreign = Authority(folder / "ca", "fleet"), Authority(folder / "foreign-ca", "foreign")
    for name, subject in NAMES.items():
        fleet.sign(folder / name, subject)
    foreign.sign(folder / "foreign", NAMES["metrics"])
    server = fleet.sign(folder / "server", "IP:127.0.0.1")
    (server / "tls_key").write_bytes((server / "host.key").read_bytes())
    return folder


@pytest.fixture
def api(certificates: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The address of an API, and its response to /readyz, which a test may change."""
    state: dict[str, Any] = {"code": 200, "body": dict(READY)}

    class Stand(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/readyz"
            body = state["body"] if isinstance(state["body"], bytes) else json.dumps(state["body"]).encode()
            self.send_response(state["code"])
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Stand)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server/host.crt", certificates / "server/host.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with running(server):
        yield f"127.0.0.1:{server.server_address[1]}", state


@contextmanager
def running(server: Any) -> Iterator[None]:
    """Let a server serve during the block."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def served(api: tuple[str, dict[str, Any]], certificates: Path, tmp_path: Path) -> Iterator[Listener]:
    """The listener, as its unit configures it."""
    made = make(
        {
            "METRICS_ADDRESS": "127.0.0.1:0",
            "METRICS_API": api[0],
            "METRICS_API_DIR": str(tmp_path / "api"),
            "METRICS_WORKER_DIR": str(tmp_path / "worker"),
            "METRICS_CA_FILE": str(certificates / "ca/ca.crt"),
            "METRICS_CERTIFICATE_FILE": str(certificates / "server/host.crt"),
            "METRICS_CLIENTS": "metrics.ops1.test metrics.ops2.test",
            "CREDENTIALS_DIRECTORY": str(certificates / "server"),
        }
    )
    with running(made):
        yield made


def context(certificates: Path, name: str = "") -> ssl.SSLContext:
    """Return the context of a client with this certificate, or none."""
    made = ssl.create_default_context(cafile=str(certificates / "ca/ca.crt"))
    if name:
        made.load_cert_chain(certificates / name / "host.crt", certificates / name / "host.key")
    return made


def get(served: Listener, tls: ssl.SSLContext, path: str = "/metrics") -> tuple[int, str]:
    """Return status and body of a response."""
    with closing(HTTPSConnection("127.0.0.1", served.server_address[1], timeout=5, context=tls)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def connected(served: Listener) -> socket.socket:
    """Return a connection without TLS."""
    return socket.create_connection(("127.0.0.1", served.server_address[1]), timeout=5)


def values(text: str) -> dict[str, float]:
    """Return the value of each series."""
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_certificate_for_metrics_gets_the_metrics(served: Listener, certificates: Path) -> None:
    """They include the state of the API, of its dependencies that are configured, and of the outbox."""
    status, text = get(served, context(certificates, "metrics"))
    assert status == 200
    assert values(text) == {
        'tradefleet_process_up{process="api"}': 0,
        'tradefleet_process_up{process="worker"}': 0,
        "tradefleet_api_up": 1,
        'tradefleet_api_status{status="ready"}': 1,
        'tradefleet_api_status{status="degraded"}': 0,
        'tradefleet_api_status{status="unavailable"}': 0,
        'tradefleet_api_status{status="draining"}': 0,
        'tradefleet_dependency_up{dependency="database"}': 1,
        'tradefleet_dependency_up{dependency="schema"}': 1,
        'tradefleet_dependency_up{dependency="redis"}': 1,
        "tradefleet_outbox_oldest_event_age_seconds": 1.5,
        "tradefleet_outbox_events": 3,
        "tradefleet_outbox_failed_events": 0,
    }


@pytest.mark.parametrize("name", ["other purpose", "host"])
def test_other_certificates_of_the_fleet_are_refused(served: Listener, certificates: Path, name: str) -> None:
    """An application host's certificate for metrics, and the host certificate of a monitoring host."""
    status, text = get(served, context(certificates, name))
    assert status == 403
    assert "tradefleet_" not in text


@pytest.mark.parametrize(
    ("name", "reason"), [("", "CERTIFICATE_REQUIRED"), ("foreign", "UNKNOWN_CA")], ids=["none", "another CA"]
)
def test_certificate_of_the_fleet_is_required(served: Listener, certificates: Path, name: str, reason: str) -> None:
    """The client learns the reason, which a reset connection would hide."""
    for _ in range(5):
        with pytest.raises(ssl.SSLError, match=reason):
            get(served, context(certificates, name))


def test_plain_http_and_old_tls_are_refused(served: Listener, certificates: Path) -> None:
    """Nothing is sent in clear text."""
    with connected(served) as plain:
        plain.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert b"tradefleet" not in plain.recv(4096)
    old = context(certificates, "metrics")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        get(served, old)


def test_only_one_path_is_served(served: Listener, certificates: Path) -> None:
    """There is no index."""
    assert [get(served, context(certificates, "metrics"), path)[0] for path in ("/", "/metrics/x")] == [404, 404]


def test_silent_clients_block_nobody_for_long(
    served: Listener, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is refused and goes on sending, the others send nothing; all are disconnected in time."""
    monkeypatch.setattr(listeners, "CONNECTION_SECONDS", 3.0)
    tls = context(certificates, "metrics")
    began = time.monotonic()
    silent = [connected(served) for _ in range(listeners.CONNECTIONS)]
    try:
        with pytest.raises(OSError, match=r"reset|EOF|closed"):
            get(served, tls)
        for _ in range(25):
            try:
                silent[0].sendall(b"no TLS")
            except OSError:
                break
            time.sleep(0.2)
        assert 2 < time.monotonic() - began < 4.5
        assert get(served, tls)[0] == 200
    finally:
        for each in silent:
            each.close()


def test_renewed_certificate_is_used_at_once(served: Listener, certificates: Path) -> None:
    """The files are read for each connection."""
    authority, tls = served.identity.authority, context(certificates, "metrics")
    before = authority.read_bytes()
    authority.write_bytes((certificates / "foreign-ca/ca.crt").read_bytes())
    try:
        with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
            get(served, tls)
    finally:
        authority.write_bytes(before)


def test_database_that_is_down_leaves_the_rest(
    served: Listener, api: tuple[str, dict[str, Any]], certificates: Path
) -> None:
    """The outbox is unknown then, so its series are absent instead of old."""
    unknown = {"outbox_seconds": None, "outbox_events": None, "outbox_failed": None}
    dependencies = {"database": "down", "schema": "unknown", "redis": "ok", "cache": "ok"}
    api[1].update(code=503, body=READY | unknown | {"status": "unavailable", "dependencies": dependencies})
    status, text = get(served, context(certificates, "metrics"))
    found = values(text)
    assert (status, found["tradefleet_api_up"]) == (200, 1)
    assert found['tradefleet_dependency_up{dependency="database"}'] == 0
    assert found['tradefleet_api_status{status="unavailable"}'] == 1
    assert not [name for name in found if "outbox" in name]


@pytest.mark.parametrize("body", [b"no JSON", {"title": "a problem document"}, b"[]", b'"dependencies"'])
def test_api_without_a_state_is_not_up(
    served: Listener, api: tuple[str, dict[str, Any]], certificates: Path, body: Any
) -> None:
    """The listener still responds."""
    api[1].update(code=500, body=body)
    status, text = get(served, context(certificates, "metrics"))
    assert (status, values(text)["tradefleet_api_up"]) == (200, 0)
    assert not [name for name in values(text) if "status" in name or "dependency" in name]
