"""Stand-in for the application: /die closes the connection, /slow and /pause take time, the rest tells who answers.

Its arguments are its colour, its port and the folder with its certificate.
"""

import ssl
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar


class Handler(BaseHTTPRequestHandler):
    """Answers with the colour, the number of requests so far and the headers that arrived."""

    protocol_version = "HTTP/1.1"
    # Headers and body are two writes; the second would wait 40 ms for the first one's acknowledgement.
    disable_nagle_algorithm = True
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
        if self.path == "/pause":
            time.sleep(0.5)
        seen = self.path == "/requests"
        body = "\n".join(
            self.requests if seen else [f"{name}: {value}" for name, value in self.headers.items()]
        ).encode()
        self.send_response(200)
        self.send_header("X-Color", sys.argv[1])
        self.send_header("X-Address", self.connection.getsockname()[0])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        """Read the body, then answer as for a read."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(f"{sys.argv[3]}/host.crt", f"{sys.argv[3]}/host.key")
server = ThreadingHTTPServer(("0.0.0.0", int(sys.argv[2])), Handler)  # noqa: S104 - a container of its own
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
