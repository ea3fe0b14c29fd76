"""Serves /metrics over TLS 1.3 to clients whose certificate has one of the given names."""

import logging
import socket
import socketserver
import ssl
import sys
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

# For one connection in total, so that clients without a certificate cannot occupy the listener.
CONNECTION_SECONDS = 10.0
CONNECTIONS = 8

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Identity:
    """The files of the listener's certificate, of its key, and of the CA; and the names of accepted clients."""

    certificate: Path
    key: Path
    authority: Path
    clients: Collection[str]

    def context(self) -> ssl.SSLContext:
        """Return a context that requires a certificate of the CA. The files may have been renewed."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.minimum_version = ssl.TLSVersion.TLSv1_3
        made.load_cert_chain(self.certificate, self.key)
        made.load_verify_locations(self.authority)
        made.verify_mode = ssl.CERT_REQUIRED
        return made


def dns_names(certificate: dict[str, Any]) -> set[str]:
    """Return the names of a verified certificate, as ssl describes it."""
    return {value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"}


class Listener(socketserver.ThreadingTCPServer):
    """The server; each connection has a thread, one request, and a bounded time."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], identity: Identity, registry: CollectorRegistry) -> None:
        """Bind the address."""
        super().__init__(address, _Scrape)
        self.identity = identity
        self.registry = registry
        self._lock = threading.Lock()
        self._open: dict[ssl.SSLSocket, float] = {}

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection, without waiting for its handshake."""
        plain, address = self.socket.accept()
        try:
            if len(self._open) >= CONNECTIONS:
                raise OSError("too many connections")
            secured = self.identity.context().wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        except OSError as error:
            log.error("%s was refused: %s", address[0], error)
            plain.close()
            raise
        with self._lock:
            self._open[secured] = time.monotonic() + CONNECTION_SECONDS
        return secured, address

    def service_actions(self) -> None:
        """End connections whose time is over; socketserver calls this every half a second."""
        with self._lock:
            late = [each for each, ends_at in self._open.items() if ends_at < time.monotonic()]
        for each in late:
            with suppress(OSError):
                # Not that of SSLSocket, which would turn it into a plain socket for its thread.
                socket.socket.shutdown(each, socket.SHUT_RDWR)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Complete the handshake, and serve the request."""
        request.settimeout(CONNECTION_SECONDS)
        try:
            request.do_handshake()
        except ssl.SSLError:
            _let_read(request)
            raise
        super().finish_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close the connection."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log why a client got no response."""
        log.warning("%s got no response: %s", client_address[0], sys.exception())


def _let_read(request: socket.socket) -> None:
    """Wait until the client closes: closing before it, with unread data, would lose the reason of the refusal."""
    with suppress(OSError):
        socket.socket.shutdown(request, socket.SHUT_WR)
        while socket.socket.recv(request, 4096):
            pass


class _Scrape(BaseHTTPRequestHandler):
    server: Listener
    connection: ssl.SSLSocket

    def do_GET(self) -> None:
        names = dns_names(self.connection.getpeercert() or {})
        if names.isdisjoint(self.server.identity.clients):
            log.warning("%s was refused: its certificate is for %s", self.client_address[0], " ".join(sorted(names)))
            self.send_error(HTTPStatus.FORBIDDEN)
        elif self.path != "/metrics":
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            body = encode(self.server.registry)
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing: what matters is logged where it happens."""
