"""HTTPS for the traffic meter: one request gives one answer or one reason, without retries."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass


class RequestError(Exception):
    """A request did not get the expected answer; `kind` is one of the reasons in `client.py`."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP answer; `color` and `release` are `unknown` without their header.

    `repeated` is true if an earlier request with this key had placed the order, `by_replica` if a replica was read.
    """

    status: int
    color: str
    release: str
    body: bytes
    repeated: bool
    by_replica: bool


class Connection(http.client.HTTPSConnection):
    """HTTPS to `address`, verified and addressed as `name`, which has no DNS in the lab. The first request connects."""

    # A connection that http.client reopened on its own would hide a reset.
    auto_open = 0

    def __init__(self, address: tuple[str, int], name: str, context: ssl.SSLContext) -> None:
        super().__init__(name, context=context)
        self._address = address
        self._name = name
        self._tls = context
        self._session: ssl.SSLSession | None = None

    def ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], timeout: float) -> Answer:
        """Send a request, connecting first where needed, and wait at most `timeout` seconds for the whole answer.

        Raises RequestError of kind `connect`, `tls`, `reset` or `timeout`; the caller closes the connection then.
        """
        deadline = time.monotonic() + timeout
        kept = self.sock is not None
        if not kept:
            self._open(deadline)
        where = "on a kept connection" if kept else "on a fresh connection"
        try:
            # http.client drops the socket if the answer announces the end of the connection.
            sock = self.sock
            sock.settimeout(_remaining(deadline))
            self.request(method, path, body, headers)
            response = self.getresponse()
            # TLS 1.3 issues sessions after the handshake. Resuming one saves both ends most of its CPU time.
            self._session = sock.session or self._session
            content = response.read()
        except TimeoutError as error:
            raise RequestError("timeout", f"{describe(error)} {where}") from error
        except (OSError, http.client.IncompleteRead) as error:
            raise RequestError("reset", f"{describe(error)} {where}") from error
        # The socket's timeout is per read: an answer that arrives in small parts can be late without reaching it.
        if time.monotonic() > deadline:
            raise RequestError("timeout", f"the answer took longer than {timeout:g} s {where}")
        color, release = response.headers.get("X-Color"), response.headers.get("X-Release")
        return Answer(
            status=response.status,
            color=color or "unknown",
            release=release or "unknown",
            body=content,
            repeated=response.headers.get("Idempotency-Replayed") == "true",
            by_replica=response.headers.get("TradeFleet-Read") == "replica",
        )

    def _open(self, deadline: float) -> None:
        try:
            plain = socket.create_connection(self._address, timeout=_remaining(deadline))
        except OSError as error:
            raise RequestError("connect", describe(error)) from error
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.settimeout(_remaining(deadline))
            self.sock = self._tls.wrap_socket(plain, server_hostname=self._name, session=self._session)
        except OSError as error:
            plain.close()
            raise RequestError("tls", describe(error)) from error


def describe(error: Exception) -> str:
    """Return an exception's type and message."""
    return f"{type(error).__name__}: {error}"


def _remaining(deadline: float) -> float:
    # Zero would make the socket non-blocking.
    return max(deadline - time.monotonic(), 0.001)
