"""The program that closes a load balancer when another site serves."""

import importlib.util
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.machinery import SourceFileLoader
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from typing import Any

import pytest
from authority import Authority

PROGRAM = Path(__file__).parents[2] / "roles/fence/files/tradefleet-fence"
loader = SourceFileLoader("tradefleet_fence", str(PROGRAM))
spec = importlib.util.spec_from_loader(loader.name, loader)
assert spec
fence = importlib.util.module_from_spec(spec)
loader.exec_module(fence)


class Peer(BaseHTTPRequestHandler):
    """A load balancer of the other site."""

    answer: tuple[int, str] = (503, "")

    def do_GET(self) -> None:
        """Answer what the test has set."""
        status, body = self.answer if self.path == "/edge-site" else (404, "")
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Yield the settings for a peer on loopback."""
    folder = tmp_path_factory.mktemp("fence")
    authority = Authority(folder / "ca", "of both sites")
    pair = authority.sign(folder / "peer", "DNS:trade.example")
    context = SSLContext(PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair / "host.crt", pair / "host.key")
    with HTTPServer(("127.0.0.1", 0), Peer) as peer:
        peer.socket = context.wrap_socket(peer.socket, server_side=True)
        threading.Thread(target=peer.serve_forever, daemon=True).start()
        yield {"port": peer.server_port, "name": "trade.example", "ca": str(authority.file), "timeout": 5}
        peer.shutdown()


@pytest.fixture
def settings(server: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """Return the settings of a load balancer that serves in term 3."""
    own = {
        "site": "here",
        "peers": ["127.0.0.1"],
        "flag": str(tmp_path / "standby"),
        "statement": str(tmp_path / "s.json"),
    }
    fence.state(server | own, 3)
    return server | own


def closed(settings: dict[str, Any]) -> bool:
    """Return whether the load balancer is closed."""
    return Path(settings["flag"]).exists()


@pytest.mark.parametrize(
    ("status", "body", "closes"),
    [
        (200, '{"site": "there", "term": 4}', True),
        (200, '{"site": "there", "term": 3}', False),
        (200, '{"site": "there", "term": 2}', False),
        (503, '{"site": "there", "term": 4}', False),
        (200, "<html>", False),
        (200, '{"site": "there"}', False),
    ],
)
def test_only_a_site_that_serves_in_a_newer_term_closes_this_one(
    settings: dict[str, Any], status: int, body: str, closes: bool
) -> None:
    """The newer term is remembered, so this site states it when it is promoted again."""
    Peer.answer = (status, body)
    fence.hear(settings)
    assert closed(settings) == closes
    assert fence.term(settings) == (4 if closes else 3)


def test_unreachable_site_closes_nothing(settings: dict[str, Any]) -> None:
    """A site whose peer is lost goes on serving."""
    fence.hear(settings | {"port": 1})
    assert not closed(settings)


def test_site_with_another_certificate_is_not_believed(
    settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """The log states why nothing is heard from it."""
    Peer.answer = (200, '{"site": "there", "term": 9}')
    fence.hear(settings | {"name": "other.example"})
    assert not closed(settings)
    assert "the certificate of 127.0.0.1 is not valid for other.example" in capsys.readouterr().out


def test_term_never_goes_back(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An inventory that does not know of a promotion changes nothing."""
    file = tmp_path / "settings.json"
    file.write_text(json.dumps(settings))
    monkeypatch.setattr(fence, "SETTINGS", file)
    assert fence.main(["serve", "2"]) == 1
    assert fence.term(settings) == 3
    assert fence.main(["serve", "5"]) == 0
    assert fence.term(settings) == 5
    assert fence.main(["serve", "x"]) == 1
