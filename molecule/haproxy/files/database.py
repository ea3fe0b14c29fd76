"""Stand-in for a PostgreSQL host: Patroni's REST reports /run/role; port 6432 sends the host's name and echoes.

Port 7432 does the same, and adds the port to the name.

The REST API reads its certificate from the folder in /run/certificate, again for each connection: a test that
changes it never stops the listener, whose absence would also make haproxy mark the host as down.
"""

import socket
import socketserver
import ssl
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit


class Rest(BaseHTTPRequestHandler):
    """Responds like Patroni for a role such as "primary" or "replica 4096", with its lag in bytes."""

    def setup(self) -> None:
        """Perform the TLS handshake here and not in the listener, because a silent client must not block others."""
        folder = Path("/run/certificate").read_text(encoding="utf-8").strip()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{folder}/host.crt", f"{folder}/host.key")
        self.request = context.wrap_socket(self.request, server_side=True)
        super().setup()

    def do_OPTIONS(self) -> None:
        """Return 200 if the request is for this host's role, otherwise 503."""
        role, _, lag = Path("/run/role").read_text(encoding="utf-8").strip().partition(" ")
        url = urlsplit(self.path)
        limit = int(parse_qs(url.query).get("lag", ["0"])[0])
        fits = url.path == f"/{role}" and (role == "primary" or int(lag) <= limit)
        self.send_response(200 if fits else 503)
        self.end_headers()


class Sessions(socketserver.BaseRequestHandler):
    """Sends the host's name and echoes what it receives, until the client ends the session."""

    def handle(self) -> None:
        """Serve one session."""
        port = self.request.getsockname()[1]
        self.request.sendall(f"{socket.gethostname()}{'' if port == 6432 else f':{port}'}\n".encode())
        while received := self.request.recv(4096):
            self.request.sendall(received)


class Server(socketserver.ThreadingTCPServer):
    """Serves many sessions at once, and reuses the port right after a restart."""

    allow_reuse_address = True
    daemon_threads = True


rest = Server(("0.0.0.0", 8008), Rest)  # noqa: S104 - a container of its own
threading.Thread(target=rest.serve_forever, daemon=True).start()
other = Server(("0.0.0.0", 7432), Sessions)  # noqa: S104 - as above
threading.Thread(target=other.serve_forever, daemon=True).start()
Server(("0.0.0.0", 6432), Sessions).serve_forever()  # noqa: S104 - as above
