"""What this host's API states in /readyz, as metrics."""

import json
import logging
import ssl
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPException, HTTPSConnection
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

# /readyz waits for the database for a second, and for Redis for half of one.
SECONDS = 2.0
STATUSES = ("ready", "degraded", "unavailable", "draining")
_OUTBOX = {
    "outbox_seconds": (
        "tradefleet_outbox_oldest_event_age_seconds",
        "Age of the oldest event in the outbox; 0 without any, absent if unknown.",
    ),
    "outbox_events": ("tradefleet_outbox_events", "Events that wait for a worker, up to 1000; absent if unknown."),
    "outbox_failed": ("tradefleet_outbox_failed_events", "Events that were set aside, up to 1000; absent if unknown."),
}

log = logging.getLogger(__name__)


class Readiness(Collector):
    """Asks the API at each scrape. Without a response only `tradefleet_api_up` is there, and it is 0."""

    def __init__(self, address: str, ca_file: str) -> None:
        """Set the address and port of the API, and the CA of its certificate."""
        self._address = address
        self._ca_file = ca_file

    def collect(self) -> Iterator[Metric]:
        """Yield whether the API responds, its state, that of its dependencies, and that of the outbox."""
        found = self._ask()
        yield GaugeMetricFamily("tradefleet_api_up", "Whether the API responds.", bool(found))
        if not found:
            return
        status = GaugeMetricFamily(
            "tradefleet_api_status", "1 for the status that /readyz states, 0 for the others.", labels=["status"]
        )
        for name in STATUSES:
            status.add_metric([name], found["status"] == name)
        yield status
        up = GaugeMetricFamily(
            "tradefleet_dependency_up",
            "Whether a dependency of the API works; absent if it is not configured.",
            labels=["dependency"],
        )
        for name in ("database", "schema", "redis", "cache"):
            if found["dependencies"][name] != "disabled":
                up.add_metric([name], found["dependencies"][name] == "ok")
        yield up
        for field, (name, text) in _OUTBOX.items():
            # Without a value it has no series.
            yield GaugeMetricFamily(name, text, found[field])

    def _ask(self) -> dict[str, Any]:
        try:
            context = ssl.create_default_context(cafile=self._ca_file)
            with closing(HTTPSConnection(self._address, timeout=SECONDS, context=context)) as connection:
                connection.request("GET", "/readyz")
                found = json.load(connection.getresponse())
        except (OSError, HTTPException, ValueError) as error:
            log.warning("no state from the API at %s: %s", self._address, error)
            return {}
        # A response that has no state is that of a bug.
        return found if isinstance(found, dict) and "dependencies" in found else {}
