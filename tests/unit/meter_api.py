"""An API for the traffic meter's tests: a small HTTPS server that fails a given number of times in a given way.

The counts can be compared exactly; a file stands in for the database.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

NAME = "tradefleet.test"
# Faults begin after some traffic, so that kept connections and acknowledged orders exist by then.
HEALTHY_REQUESTS = 20


@dataclass
class Api:
    """State of the server; it fails by `fault`, `times` times (-1: always), after some healthy traffic."""

    rows: Path
    port: int = 0
    fault: str = ""
    times: int = 0
    delay: float = 0.0
    # Seconds without a response of the fault with this name.
    freeze: float = 1.0
    seen: int = 0
    repeated: int = 0
    connections: int = 0
    orders: dict[str, str] = field(default_factory=dict)
    # By idempotency key: the requested order, and the ID of the stored one.
    requested: dict[str, object] = field(default_factory=dict)
    placed: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fault_now(self, *possible: str) -> str:
        """Return the fault to inject here, if it is one of the `possible`, and count it."""
        with self.lock:
            if self.fault not in possible or self.times == 0 or self.seen <= HEALTHY_REQUESTS:
                return ""
            self.times -= 1
            return self.fault

    def store(self, key: str, order_id: str) -> None:
        """Add a row to the table."""
        with self.lock, self.rows.open("a") as table:
            self.placed.setdefault(key, order_id)
            table.write(f"{key}|{order_id}\n")


class Server(ThreadingHTTPServer):
    """HTTPS on a free port of the loopback."""

    def __init__(self, api: Api, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.api = api
        self.context = context

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; its own thread performs the handshake."""
        plain, address = super().get_request()
        self.api.connections += 1
        return self.context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False), address

    def shutdown_request(self, request: Any) -> None:
        """Close without the half-close of the base class, which would turn a reset into an ordinary end."""
        request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent: clients disconnect during requests here on purpose."""


class Handler(BaseHTTPRequestHandler):
    """The two routes that the meter uses, with faults."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server
    answered = 0

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        """Keep the test's output readable."""

    def do_POST(self) -> None:
        """Place an order, or inject a fault."""
        api = self.server.api
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.headers["Authorization"] == "Bearer secret"
        assert {"symbol", "side", "type", "quantity", "limit_price"} == order.keys()
        key, order_id = self.headers["Idempotency-Key"], str(uuid.uuid4())
        if key in api.requested:
            assert order == api.requested[key]
            self.again(key)
            return
        api.requested[key] = order
        if self.disturbed():
            return
        fault = api.fault_now("forget", "twice", "other_id", "stored_500")
        api.orders[order_id] = key
        if fault != "forget":
            api.store(key, str(uuid.uuid4()) if fault == "other_id" else order_id)
        if fault == "twice":
            api.store(key, str(uuid.uuid4()))
        self.answer(500 if fault == "stored_500" else 201, {"id": order_id})

    def again(self, key: str) -> None:
        """Answer a repeated order: with the stored one, or with a fault."""
        api = self.server.api
        with api.lock:
            api.repeated += 1
        fault = api.fault_now("refused", "new_order", "unmarked")
        if fault == "refused":
            self.answer(503, {"title": "later"})
        elif fault == "new_order" or key not in api.placed:
            order_id = str(uuid.uuid4())
            api.store(key, order_id)
            self.answer(201, {"id": order_id})
        else:
            marked = {} if fault == "unmarked" else {"Idempotency-Replayed": "true"}
            self.answer(201, {"id": api.placed[key]}, marked)

    def do_GET(self) -> None:
        """Return one order or the list."""
        api = self.server.api
        if self.disturbed():
            return
        order_id = self.path.removeprefix("/v1/orders").removeprefix("/")
        if order_id.startswith("?"):
            by_reader = self.headers["Authorization"] == "Bearer reader"
            self.answer(200, {"orders": []}, {"TradeFleet-Read": "replica" if by_reader else "primary"})
        elif order_id not in api.orders or api.fault_now("hidden"):
            self.answer(404, {"title": "no such order"})
        else:
            self.answer(200, {"id": str(uuid.uuid4()) if api.fault_now("wrong_order") else order_id})

    def disturbed(self) -> bool:
        """Inject a fault that reads and writes share; return whether the request has been dealt with."""
        api = self.server.api
        assert self.headers["Host"] == NAME
        assert self.headers["Authorization"] in ("Bearer secret", "Bearer reader")
        with api.lock:
            api.seen += 1
            healthy = api.seen <= HEALTHY_REQUESTS  # others may arrive before this one is answered
        time.sleep(api.delay)
        possible = ["500", "403", "302", "not_json", "cut", "freeze", "gibberish"]
        match "" if healthy else api.fault_now(*possible, *(["reset"] if self.answered else [])):
            case "500" | "403" | "302" as status:
                self.answer(int(status), {"title": "no"})
            case "not_json":
                self.answer(201 if self.command == "POST" else 200, None)
            case "cut":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
                self.close_connection = True
            case "gibberish":
                self.wfile.write(b"220 smtp.example\r\n\r\n")
                self.close_connection = True
            case "freeze":
                time.sleep(api.freeze)
                self.close_connection = True
            case "reset":
                self.reset()
            case _:
                return False
        return True

    def answer(self, status: int, document: object, headers: Mapping[str, str] | None = None) -> None:
        """Answer in JSON, or with a page if there is no document; then possibly close the idle connection."""
        body = json.dumps(document).encode() if document else b"<html>"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Color", "blue" if self.server.api.seen <= HEALTHY_REQUESTS else "green")
        for name, value in {"X-Release": "1.0.0", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.answered += 1
        if not self.close_connection and self.server.api.fault_now("idle_close"):
            self.close_connection = True

    def reset(self) -> None:
        """Close the connection with a RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
