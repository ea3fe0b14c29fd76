"""Stand-in for the application that reports which host answers.

/die closes the connection; any path that ends with `/slow`, `/work`, `long` or `pause` takes time. While the file
/run/draining exists it refuses everything but /requests, as a draining host does; /down is a 503 for another
reason.

The arguments are its color, its port and the folder with its certificate.
"""

import ssl
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar


class Handler(BaseHTTPRequestHandler):
    """Responds with the color, the number of requests so far and the received headers."""

    protocol_version = "HTTP/1.1"
    # Headers and body are two writes; the second would wait 40 ms for the acknowledgment of the first.
    disable_nagle_algorithm = True
    requests: ClassVar[list[str]] = []
    sent = b""

    def do_GET(self) -> None:
        """Respond, or fail on request."""
        if self.command == "GET":
            # An unread body would be parsed as the next request.
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/requests" and Path("/run/draining").exists():
            self.requests.append(self.path + " refused")
            self.close_connection = True
            place = "@write_elsewhere" if self.command == "POST" else "@read_elsewhere"
            self.refuse({"X-Accel-Redirect": place, "Connection": "close", "Retry-After": "1"}, b"draining")
            return
        self.requests.append(self.path + (" shadow" if "TradeFleet-Shadow" in self.headers else ""))
        if self.path == "/down":
            self.refuse({}, b"no database")
            return
        if self.path == "/die":
            self.close_connection = True
            self.connection.close()
            return
        for end, seconds in (("/slow", 8), ("/work", 4), ("long", 2), ("pause", 0.5)):
            if self.path.endswith(end):
                time.sleep(seconds)
        seen = self.path == "/requests"
        received = [*(f"{name}: {value}" for name, value in self.headers.items()), self.sent.decode(errors="replace")]
        body = "\n".join(self.requests if seen else received).encode()
        self.send_response(200)
        self.send_header("X-Color", sys.argv[1])
        self.send_header("X-Address", self.connection.getsockname()[0])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        """Read the body, then respond as for a read."""
        self.sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def refuse(self, headers: dict[str, str], body: bytes) -> None:
        """Respond with 503."""
        self.send_response(503)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(f"{sys.argv[3]}/host.crt", f"{sys.argv[3]}/host.key")
server = ThreadingHTTPServer(("0.0.0.0", int(sys.argv[2])), Handler)  # noqa: S104 - a container of its own
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
