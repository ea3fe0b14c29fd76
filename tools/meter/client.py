"""One client of the traffic meter: sends paced requests and records the outcome of each.

A request is sent once. It is `ok` if the expected answer came within the timeout; otherwise it failed, for one reason:

=============  ======================================================================================
`connect`      no TCP connection, whatever the reason
`tls`          no completed TLS handshake: certificate, name, reset or no response
`reset`        the connection broke before the answer was complete; also a kept connection that was idle
`timeout`      no complete answer within the timeout
`status_5xx`   the API or the load balancer answered with an error
`status_4xx`   the request was rejected
`lost_read`    404 for an order that had been acknowledged to this client
`bad_body`     the expected status, with a body that is not JSON or names another order
`other`        anything else: an unexpected 2xx or 3xx, an answer that is not HTTP
=============  ======================================================================================
"""

from __future__ import annotations

import json
import math
import ssl
import threading
import time
from dataclasses import dataclass, field

from tools.meter.connection import Answer, Connection, RequestError, describe

# A delayed client catches up on this much of its schedule; the rest is skipped, and counted as skipped.
BACKLOG_SECONDS = 1.0
SYMBOLS = ("AAPL", "MSFT", "NVDA", "AMZN")


@dataclass(frozen=True)
class Plan:
    """What all clients of a run have in common; times are seconds, instants are of `time.monotonic()`."""

    run_id: str
    name: str
    context: ssl.SSLContext
    timeout: float
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Request:
    """A write when it has a `key`, a read of one order when it has an `order_id`, else a read of the list."""

    method: str
    path: str
    key: str = ""
    order_id: str = ""
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one request; `failure` is None if it is ok, `status` is None without a complete answer.

    `started` and `finished` are seconds of `time.monotonic()`.
    """

    started: float
    finished: float
    request: Request
    target: str
    new_connection: bool
    failure: str | None
    detail: str
    status: int | None
    color: str
    release: str
    by_replica: bool


@dataclass
class Client:
    """One trader at the API: `run` follows the schedule; another thread may read the counts at the same time.

    `write_share` is the share of its requests that place an order; if it is 0, replicas may answer all of them.
    `interval` is the time between two requests, `offset` the delay of the first, both in seconds; `quota` is the
    maximum number of requests. `acknowledged` maps each idempotency key that got a 201 to the order's id. `skipped`
    counts scheduled requests that were not sent because the client was still waiting for earlier answers.
    """

    plan: Plan
    number: int
    address: tuple[str, int]
    api_key: str
    write_share: float
    new_connection: bool
    interval: float
    offset: float
    quota: int
    outcomes: list[Outcome] = field(default_factory=list)
    acknowledged: dict[str, str] = field(default_factory=dict)
    sent: int = 0
    failed: int = 0
    skipped: int = 0
    _order_ids: list[str] = field(default_factory=list)
    _reads: int = 0

    def __post_init__(self) -> None:
        """Prepare the connection; it opens with the first request."""
        self._connection = Connection(self.address, self.plan.name, self.plan.context)
        self._target = f"{self.address[0]}:{self.address[1]}"

    def run(self, stop: threading.Event) -> None:
        """Send until the plan's end, `stop` or the quota, and complete the request in flight."""
        due = self.plan.start + self.offset
        while self.sent < self.quota:
            now = time.monotonic()
            late = now - due
            if late > BACKLOG_SECONDS:
                missed = math.ceil((late - BACKLOG_SECONDS) / self.interval)
                self.skipped += missed
                due += missed * self.interval
            if max(due, now) >= self.plan.end or stop.wait(max(due - now, 0)):
                break
            self._send(self._next_request())
            due += self.interval
        self._connection.close()
        overdue = min(time.monotonic(), self.plan.end) - due
        self.skipped += max(0, math.ceil(overdue / self.interval))

    def _next_request(self) -> Request:
        # Shares are spread evenly instead of at random, so that a short run has them, too. The client's number shifts
        # the pattern, so that the clients do not all write at the same moment.
        turn = self.sent + self.number
        share = self.write_share
        if math.floor((turn + 1) * share) > math.floor(turn * share):
            key = f"meter-{self.plan.run_id}-{self.number}-{self.sent}"
            return Request("POST", "/v1/orders", key=key, body=_order(self.sent))
        self._reads += 1
        if not self._order_ids or self._reads % 3 == 0:
            return Request("GET", "/v1/orders?limit=5")
        # The latest order checks that a client reads its own writes, an older one that they last.
        position = -1 if self._reads % 3 == 1 else self._reads % len(self._order_ids)
        order_id = self._order_ids[position]
        return Request("GET", f"/v1/orders/{order_id}", order_id=order_id)

    def _send(self, request: Request) -> None:
        self.sent += 1
        answer: Answer | None = None
        failure: str | None = None
        detail = ""
        started = time.monotonic()
        try:
            answer = self._connection.ask(
                request.method, request.path, request.body, self._headers(request), self.plan.timeout
            )
            self._judge(request, answer)
        except RequestError as error:
            failure, detail = error.kind, str(error)
        except Exception as error:  # an unexpected error is a failure, too, and must not end the client silently
            failure, detail = "other", describe(error)
        finished = time.monotonic()
        if answer is None or self.new_connection:
            self._connection.close()
        self.failed += failure is not None
        self.outcomes.append(
            Outcome(
                started=started,
                finished=finished,
                request=request,
                target=self._target,
                new_connection=self.new_connection,
                failure=failure,
                detail=detail,
                status=answer.status if answer else None,
                color=answer.color if answer else "",
                release=answer.release if answer else "",
                by_replica=answer is not None and answer.by_replica,
            )
        )

    def _headers(self, request: Request) -> dict[str, str]:
        # Each client looks like 250 clients to the edge, which chooses the color by this cookie.
        cookie = {"Cookie": f"tradefleet_client={self.plan.run_id}-{self.number}-{self.sent % 250}"}
        return headers(self.api_key, request) | cookie | ({"Connection": "close"} if self.new_connection else {})

    def _judge(self, request: Request, answer: Answer) -> None:
        """Record an acknowledged order; raise RequestError unless the answer is the expected one."""
        excerpt = f"status {answer.status}: {answer.body[:160].decode(errors='replace')}"
        if answer.status != (201 if request.key else 200):
            if answer.status == 404 and request.order_id:
                raise RequestError("lost_read", excerpt)
            kind = {4: "status_4xx", 5: "status_5xx"}.get(answer.status // 100, "other")
            raise RequestError(kind, excerpt)
        try:
            document = json.loads(answer.body)
        except ValueError as error:
            raise RequestError("bad_body", f"not JSON, {excerpt}") from error
        order_id = document.get("id") if isinstance(document, dict) else None
        if request.key:
            if not isinstance(order_id, str) or not order_id:
                raise RequestError("bad_body", f"no order id, {excerpt}")
            self.acknowledged[request.key] = order_id
            self._order_ids.append(order_id)
        elif request.order_id and order_id != request.order_id:
            raise RequestError("bad_body", f"not order {request.order_id}, {excerpt}")


def headers(api_key: str, request: Request) -> dict[str, str]:
    """Return the headers of every request, with those of an order if it is one."""
    common = {"Authorization": f"Bearer {api_key}", "Accept": "application/json"}
    return common | ({"Content-Type": "application/json", "Idempotency-Key": request.key} if request.key else {})


def _order(number: int) -> bytes:
    order = {
        "symbol": SYMBOLS[number % len(SYMBOLS)],
        "side": ("buy", "sell")[number % 2],
        "type": "limit",
        "quantity": str(1 + number % 100),
        "limit_price": f"{100 + number % 10}.25",
    }
    return json.dumps(order).encode()
