"""What became of the orders that clients placed."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter

from tradefleet.domains.orders.services import KeyReusedError, UnknownSymbolError
from tradefleet.platform.postgres.database import DatabaseUnavailableError, OutcomeUnknownError

TYPES = ("market", "limit")
_FAILURES: dict[type[Exception], str] = {
    UnknownSymbolError: "unknown_symbol",
    KeyReusedError: "key_reused",
    DatabaseUnavailableError: "unavailable",
    OutcomeUnknownError: "unknown",
}
OUTCOMES = ("accepted", "repeated", *_FAILURES.values())

_ORDERS = Counter("tradefleet_orders", "Valid orders that clients sent, by type and outcome.", ["type", "outcome"])
for _type in TYPES:
    for _outcome in OUTCOMES:
        # A series that exists from the start shows its first increase.
        _ORDERS.labels(_type, _outcome)


@contextmanager
def failures(order_type: str) -> Iterator[None]:
    """Count an order that fails inside."""
    try:
        yield
    except tuple(_FAILURES) as error:
        _ORDERS.labels(order_type, _FAILURES[type(error)]).inc()
        raise


def stored(order_type: str, *, is_replay: bool) -> None:
    """Count an order that is stored, by this request or by an earlier one with the same key."""
    _ORDERS.labels(order_type, "repeated" if is_replay else "accepted").inc()
