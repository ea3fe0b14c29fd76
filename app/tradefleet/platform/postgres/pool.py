"""A pool of connections that reports its use."""

from typing import Any

from prometheus_client import Gauge
from sqlalchemy import Engine, PoolProxiedConnection, QueuePool, event

_IN_USE = Gauge(
    "tradefleet_database_pool_connections_in_use",
    "Connections in use, by kind of server.",
    ["server"],
    multiprocess_mode="livesum",
)
_WAITING = Gauge(
    "tradefleet_database_pool_requests_waiting",
    "Requests that wait for a connection, or while it is opened, by kind of server.",
    ["server"],
    multiprocess_mode="livesum",
)
_SIZE = Gauge(
    "tradefleet_database_pool_size_connections",
    "Connections that may be in use at the same time, by kind of server.",
    ["server"],
    multiprocess_mode="livesum",
)


class MeasuredPool(QueuePool):
    """A pool whose name, which SQLAlchemy keeps when it replaces a pool, is the label of its metrics."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Create the pool."""
        super().__init__(*arguments, **options)
        self._waiting = _WAITING.labels(self.logging_name)

    def connect(self) -> PoolProxiedConnection:
        """Return a connection as every pool does; the caller counts as waiting."""
        with self._waiting.track_inprogress():
            return super().connect()


def measure(engine: Engine, server: str, size: int) -> None:
    """Report the size of the engine's pool, and how many connections are in use."""
    _SIZE.labels(server).set(size)
    in_use = _IN_USE.labels(server)

    @event.listens_for(engine, "checkout")
    def _checkout(_: Any, record: Any, __: Any) -> None:
        record.record_info[_IN_USE] = True
        in_use.inc()

    @event.listens_for(engine, "checkin")
    def _checkin(_: Any, record: Any) -> None:
        # A connection that could not be opened is returned without having been in use.
        if record.record_info.pop(_IN_USE, False):
            in_use.dec()
