"""Metrics of requests. Each label has few values, whatever clients send, because each combination is a series."""

from functools import cache
from http import HTTPMethod

from prometheus_client import Gauge, Histogram
from werkzeug.routing import Rule

# The last one is the time within which every client has a response (hooks.py).
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 8.5)
UNMATCHED = "unmatched"
OTHER = "other"
_CLASSES = {number: f"{number}xx" for number in range(1, 6)}

IN_FLIGHT = Gauge("tradefleet_http_requests_in_flight", "Requests in progress.", multiprocess_mode="livesum")
_SECONDS = Histogram(
    "tradefleet_http_request_duration_seconds",
    "Time that requests took, by route, method and class of the status; its _count is their number.",
    ["route", "method", "status"],
    buckets=BUCKETS,
)


def finished(rule: Rule | None, method: str, status: int, seconds: float) -> None:
    """Count a request with its time. The route is the template: `/v1/orders/<uuid:order_id>`."""
    _series(
        rule.rule if rule else UNMATCHED,
        method if method in HTTPMethod.__members__ else OTHER,
        _CLASSES.get(status // 100, OTHER),
    ).observe(seconds)


@cache
def _series(*labels: str) -> Histogram:
    return _SECONDS.labels(*labels)
