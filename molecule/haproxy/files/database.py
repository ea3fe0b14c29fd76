"""Stand-in for a PostgreSQL host: Patroni's REST says what /run/role says; 6432 tells the host's name and echoes.

So does 7432, with the port behind the name.

The REST takes its certificate from the folder that /run/certificate names, anew for each connection: a test that
changes it has no moment in which nobody listens, which haproxy would take for the reason.
"""

import socket
import socketserver
import ssl
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit


class Rest(BaseHTTPRequestHandler):
    """Answers as Patroni does, for a role like "primary" or "replica 4096", which is one and its lag in bytes."""

    def setup(self) -> None:
        """Shake hands: here and not at the listener, for a silent client must not keep others waiting."""
        folder = Path("/run/certificate").read_text(encoding="utf-8").strip()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{folder}/host.crt", f"{folder}/host.key")
        self.request = context.wrap_socket(self.request, server_side=True)
        super().setup()

    def do_OPTIONS(self) -> None:
        """Say 200 to who asks for what this host is, 503 to others."""
        role, _, lag = Path("/run/role").read_text(encoding="utf-8").strip().partition(" ")
        asked = urlsplit(self.path)
        limit = int(parse_qs(asked.query).get("lag", ["0"])[0])
        fits = asked.path == f"/{role}" and (role == "primary" or int(lag) <= limit)
        self.send_response(200 if fits else 503)
        self.end_headers()


class Sessions(socketserver.BaseRequestHandler):
    """Says the host's name and gives back what it gets, until the client ends it."""

    def handle(self) -> None:
        """Serve one session."""
        port = self.request.getsockname()[1]
        self.request.sendall(f"{socket.gethostname()}{'' if port == 6432 else f':{port}'}\n".encode())
        while received := self.request.recv(4096):
            self.request.sendall(received)


class Server(socketserver.ThreadingTCPServer):
    """Many sessions at once, and the port again right after a restart."""

    allow_reuse_address = True
    daemon_threads = True


rest = Server(("0.0.0.0", 8008), Rest)  # noqa: S104 - a container of its own
threading.Thread(target=rest.serve_forever, daemon=True).start()
other = Server(("0.0.0.0", 7432), Sessions)  # noqa: S104 - as above
threading.Thread(target=other.serve_forever, daemon=True).start()
Server(("0.0.0.0", 6432), Sessions).serve_forever()  # noqa: S104 - as above
