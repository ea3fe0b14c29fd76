"""Sends orders again after the traffic, like a client that does not know their outcome.

These are all orders whose requests failed and a sample of the acknowledged ones, with the same key and the same body.
One key makes one order, however often it is sent and whichever host answers.
"""

from __future__ import annotations

import itertools
import json
import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tools.meter.client import Outcome, Request, headers
from tools.meter.connection import Connection, RequestError, describe

# Limits: this many orders of each kind, each sent once by this many clients, within this many seconds.
FAILED, ACKNOWLEDGED = 2000, 200
CLIENTS = 4
SECONDS = 30.0
EXAMPLES = 20

# The order's id and whether it is marked as repeated, or why the request failed.
Answer = tuple[str, bool] | str


@dataclass
class Repeats:
    """Orders that were `sent` again.

    `failed` counts those that were not acknowledged this time, or not marked as repeated although they had been
    acknowledged before. `other_id` counts those that had been acknowledged as another order. `found` counts those that
    were stored although their request had failed, which is legal. `problems` contains the first 20 illegal ones.
    """

    sent: int = 0
    failed: int = 0
    other_id: int = 0
    found: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Repeater:
    """How orders are sent again: to which targets, and with which key."""

    targets: Sequence[tuple[str, int]]
    name: str
    context: ssl.SSLContext
    api_key: str
    timeout: float

    def run(self, outcomes: Sequence[Outcome], acknowledged: Mapping[str, str]) -> tuple[Repeats, dict[str, str]]:
        """Send the `chosen` orders again; also return all acknowledged orders: key to the first order id."""
        deadline = time.monotonic() + SECONDS
        orders = chosen(outcomes)
        with ThreadPoolExecutor(CLIENTS) as pool:
            runs = [pool.submit(self._client, number, orders[number::CLIENTS], deadline) for number in range(CLIENTS)]
            answers = list(itertools.chain.from_iterable(run.result() for run in runs))
        again = {order.key: answer[0] for order, answer in answers if isinstance(answer, tuple)}
        return counted(answers, acknowledged), again | dict(acknowledged)

    def _client(self, number: int, orders: Sequence[Request], deadline: float) -> list[tuple[Request, Answer]]:
        connection = Connection(self.targets[number % len(self.targets)], self.name, self.context)
        answers: list[tuple[Request, Answer]] = []
        for order in orders:
            try:
                answers.append((order, self._again(connection, order, deadline)))
            except Exception as error:  # an unexpected error is a failure, too
                connection.close()
                answers.append((order, describe(error)))
        connection.close()
        return answers

    def _again(self, connection: Connection, order: Request, deadline: float) -> tuple[str, bool]:
        if time.monotonic() > deadline:
            raise RequestError("timeout", f"not sent within {SECONDS:g} s")
        sent = headers(self.api_key, order)
        answer = connection.ask(order.method, order.path, order.body, sent, self.timeout)
        excerpt = f"status {answer.status}: {answer.body[:160].decode(errors='replace')}"
        if answer.status != 201:
            raise RequestError("status", excerpt)
        try:
            return str(json.loads(answer.body)["id"]), answer.repeated
        except (ValueError, KeyError, TypeError) as error:
            raise RequestError("bad_body", excerpt) from error


def chosen(outcomes: Sequence[Outcome]) -> list[Request]:
    """Return the orders to send again: failed ones, and acknowledged ones spread evenly over the run."""
    failed = [outcome.request for outcome in outcomes if outcome.request.key and outcome.failure]
    good = [outcome.request for outcome in outcomes if outcome.request.key and not outcome.failure]
    return failed[:FAILED] + good[:: max(1, -(-len(good) // ACKNOWLEDGED))]


def counted(answers: Iterable[tuple[Request, Answer]], acknowledged: Mapping[str, str]) -> Repeats:
    """Count the answers to orders that were sent again; `acknowledged` contains the earlier answers."""
    result = Repeats()
    for order, answer in answers:
        result.sent += 1
        before = acknowledged.get(order.key)
        match answer:
            case str(problem):
                result.failed += 1
            case (order_id, _) if before not in (None, order_id):
                result.other_id += 1
                problem = f"acknowledged as {before}, then as {order_id}"
            case (_, False) if before:
                result.failed += 1
                problem = "acknowledged again without the mark of a repeated order"
            case (_, marked):
                result.found += marked and not before
                continue
        if len(result.problems) < EXAMPLES:
            result.problems.append(f"{order.key}: {problem}")
    return result
