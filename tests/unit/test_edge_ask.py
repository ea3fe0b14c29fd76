"""Verbs ask through a load balancer whose certificate carries a name and no address."""

import importlib.util
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from authority import Authority
from repository import PROJECT


@pytest.fixture(scope="module")
def edge_ask() -> ModuleType:
    """Return the module; its folder is none that Python looks in."""
    spec = importlib.util.spec_from_file_location("edge_ask", PROJECT / "plugins/modules/edge_ask.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Handler(BaseHTTPRequestHandler):
    """Says whom it was asked for; is closed at /closed."""

    def do_GET(self) -> None:
        """Answer."""
        closed = self.path == "/closed"
        self.send_response(503 if closed else 200)
        if closed:
            self.send_header("Retry-After", "30")
        if cookie := self.headers["Cookie"]:
            self.send_header("X-Color", cookie)
        self.end_headers()
        self.wfile.write(b"<html>" if closed else f'{{"host": "{self.headers["Host"]}"}}'.encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Give what asks a load balancer on loopback well."""
    folder = tmp_path_factory.mktemp("edge")
    authority = Authority(folder / "ca", "clients trust it")
    pair = authority.sign(folder / "edge", "DNS:trade.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair / "host.crt", pair / "host.key")
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        good = {
            "address": "127.0.0.1",
            "port": server.server_port,
            "name": "trade.example",
            "path": "/version",
            "headers": {},
        }
        yield {**good, "ca": authority.file.read_text(), "timeout": 5}
        server.shutdown()
        thread.join()


def test_the_name_is_asked_for_and_verified(edge_ask: ModuleType, edge: dict[str, Any]) -> None:
    """At the address; what is no JSON is an answer as well."""
    assert edge_ask.ask(edge) == {"status": 200, "json": {"host": "trade.example"}, "certificate_days": 1}
    assert edge_ask.ask({**edge, "path": "/closed"}) == {"status": 503, "retry_after": "30", "certificate_days": 1}


def test_a_request_carries_what_it_is_told(edge_ask: ModuleType, edge: dict[str, Any]) -> None:
    """So a verb asks as a client of a canary, and learns who has answered."""
    assert edge_ask.ask({**edge, "headers": {"Cookie": "green"}})["color"] == "green"


@pytest.mark.parametrize("wrong", ["name", "ca"])
def test_nobody_else_is_believed(edge_ask: ModuleType, edge: dict[str, Any], tmp_path: Path, wrong: str) -> None:
    """Another name; another CA, and those of this machine."""
    other = Authority(tmp_path / "ca", "stranger").file.read_text()
    for value in {"name": ["other.example"], "ca": [other, ""]}[wrong]:
        with pytest.raises(ssl.SSLCertVerificationError):
            edge_ask.ask({**edge, wrong: value})
