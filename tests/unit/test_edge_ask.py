"""Playbooks query a load balancer whose certificate has a name and no address."""

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from authority import Authority
from repository import module

edge_ask = module("plugins/modules/edge_ask.py")


class Handler(BaseHTTPRequestHandler):
    """Returns the requested host name; reports maintenance at /closed."""

    def do_GET(self) -> None:
        """Answer the request."""
        closed = self.path == "/closed"
        self.send_response(503 if closed else 200)
        if closed:
            self.send_header("Retry-After", "30")
        if cookie := self.headers["Cookie"]:
            self.send_header("X-Color", cookie)
        self.end_headers()
        self.wfile.write(b"<html>" if closed else f'{{"host": "{self.headers["Host"]}"}}'.encode())

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Yield valid arguments for a load balancer on loopback."""
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


def test_name_is_requested_and_verified(edge: dict[str, Any]) -> None:
    """The connection goes to the address; a response that is not JSON is accepted, too."""
    assert edge_ask.ask(edge) == {"status": 200, "json": {"host": "trade.example"}, "certificate_days": 1}
    assert edge_ask.ask({**edge, "path": "/closed"}) == {"status": 503, "retry_after": "30", "certificate_days": 1}


def test_request_carries_the_given_headers(edge: dict[str, Any]) -> None:
    """A playbook can thus query as a client of a canary, and gets the color that answered."""
    assert edge_ask.ask({**edge, "headers": {"Cookie": "green"}})["color"] == "green"


@pytest.mark.parametrize("wrong", ["name", "ca"])
def test_another_certificate_is_not_trusted(edge: dict[str, Any], tmp_path: Path, wrong: str) -> None:
    """It has another name, or is from another CA; the CAs of this machine are not trusted either."""
    other = Authority(tmp_path / "ca", "stranger").file.read_text()
    for value in {"name": ["other.example"], "ca": [other, ""]}[wrong]:
        with pytest.raises(ssl.SSLCertVerificationError):
            edge_ask.ask({**edge, wrong: value})
