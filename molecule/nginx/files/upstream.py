"""Stand-in for the application: /die closes the connection, /slow never answers, the rest tells who answers."""

import ssl
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar


class Handler(BaseHTTPRequestHandler):
    """Answers with the colour, the number of requests so far and the headers that arrived."""

    protocol_version = "HTTP/1.1"
    requests: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        """Answer, or fail as told."""
        self.requests.append(self.path)
        if self.path == "/die":
            self.close_connection = True
            self.connection.close()
            return
        if self.path == "/slow":
            time.sleep(5)
        seen = self.path == "/requests"
        body = "\n".join(
            self.requests if seen else [f"{name}: {value}" for name, value in self.headers.items()]
        ).encode()
        self.send_response(200)
        self.send_header("X-Color", sys.argv[1])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        """Read the body, then answer as for a read."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/etc/ssl/tradefleet/host.crt", "/etc/ssl/tradefleet/host.key")
server = ThreadingHTTPServer(("0.0.0.0", 8443), Handler)  # noqa: S104 - a container of its own
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
