"""Temporary data in Redis: every error is a miss, and after a failure Redis is not used for a moment."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeVar

from flask import Flask, current_app
from prometheus_client import Counter
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelManagedSSLConnection

from tradefleet.platform import deadline
from tradefleet.platform.breaker import Breaker
from tradefleet.platform.settings import RedisSettings

# For one call in total: finding the primary, connecting, querying.
CALL_SECONDS = 0.25
# Sentinels are queried one after the other; three silent ones together take no longer than one call.
SENTINEL_SECONDS = 0.08
PAUSE_SECONDS = 1.0
LOG_EVERY_SECONDS = 30.0
# Written to check whether Redis accepts writes; it expires at once.
HEALTH_KEY = "tradefleet:health"

Health = Literal["ok", "down", "disabled"]
T = TypeVar("T")
log = logging.getLogger(__name__)

_ERRORS = Counter("tradefleet_redis_errors", "Calls of Redis that failed, by service.", ["service"])


class BoundedConnection(SentinelManagedSSLConnection):
    """A connection on which every wait ends with the running budget.

    redis-py's own timeouts start again with each step, so a call of many steps may take many times as long.
    """

    def _bound(self) -> float:
        # 0 would mean not to wait at all, and cause another error.
        left = max(deadline.remaining(CALL_SECONDS), 0.001)
        if self._sock:
            self._sock.settimeout(left)
        return left

    def _connect(self) -> socket.socket:
        self.socket_connect_timeout = self.socket_timeout = self._bound()
        # redis annotates this only in part
        connected: socket.socket = super()._connect()  # type: ignore[no-untyped-call]
        return connected

    def send_packed_command(self, command: str | Iterable[bytes], check_health: bool = True) -> None:
        """Send as redis-py does, within the budget."""
        self._bound()
        # as above
        super().send_packed_command(command, check_health)  # type: ignore[no-untyped-call]

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        """Read as redis-py does, within the budget."""
        self._bound()
        return super().read_response(*arguments, **options)


def _connect(settings: RedisSettings, service: str, password: str) -> Redis:
    """Return a client of the service's primary; it connects on first use, and again after a failover."""

    def options(username: str, password: str, seconds: float) -> dict[str, Any]:
        return {
            "username": username,
            "password": password,
            "socket_timeout": seconds,
            "socket_connect_timeout": seconds,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "ssl": True,
            "ssl_ca_certs": settings.ca_file,
            "ssl_cert_reqs": "required",
            "ssl_check_hostname": True,
        }

    # redis annotates this only in part
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        [(address.host, address.port) for address in settings.sentinels],
        sentinel_kwargs=options(settings.sentinel_username, settings.sentinel_password, SENTINEL_SECONDS),
        **options(settings.username, password, CALL_SECONDS),
    )
    # and this
    client: Redis = sentinel.master_for(  # type: ignore[no-untyped-call]
        service, connection_class=BoundedConnection
    )
    return client


class RedisStore:
    """The data of one application in one service of Redis. `errors` counts failures since the start."""

    def __init__(self, name: str, client: Redis | None) -> None:
        self.errors = 0
        self._name = name
        self._counter = _ERRORS.labels(name)
        self._client = client
        self._breaker = Breaker(PAUSE_SECONDS)
        self._lock = threading.Lock()
        self._logged_at = -LOG_EVERY_SECONDS

    def get(self, key: str) -> bytes | None:
        """Return the value, or None without a value or if Redis fails."""
        value = self._call(lambda client: client.get(key), None)
        return value if isinstance(value, bytes) else None

    def put(self, key: str, value: bytes, seconds: float, *, only_if_new: bool = False) -> None:
        """Store the value for this many seconds, if Redis works; `only_if_new` keeps an existing value."""
        milliseconds = max(1, round(seconds * 1000))
        self._call(lambda client: client.set(key, value, px=milliseconds, nx=only_if_new), None)

    def health(self) -> Health:
        """Return whether Redis accepts writes; during the pause after a failure it counts as down.

        A PING is not enough, because a demoted primary would answer it and return its old data forever.
        """
        if self._client is None:
            return "disabled"
        return "ok" if self._call(lambda client: bool(client.set(HEALTH_KEY, b"", px=1000)), False) else "down"

    def _call(self, use: Callable[[Redis], T], otherwise: T) -> T:
        # A call with too little time left would fail and count as a failure of Redis.
        if self._client is None or deadline.remaining(CALL_SECONDS) < CALL_SECONDS or not self._breaker.allows():
            return otherwise
        try:
            with deadline.budget(CALL_SECONDS):
                answer = use(self._client)
        except (RedisError, OSError) as error:
            self._breaker.failed()
            # The idle connections would fail for the same reason, one after the other: a server that is gone, that is
            # loading, or that was demoted.
            self._client.connection_pool.disconnect(inuse_connections=False)
            self._note(error)
            return otherwise
        self._breaker.succeeded()
        return answer

    def _note(self, error: Exception) -> None:
        now = time.monotonic()
        self._counter.inc()
        with self._lock:
            self.errors += 1
            if now - self._logged_at < LOG_EVERY_SECONDS:
                return
            self._logged_at = now
        log.warning("redis failed (%s), %d errors since the start: %s", self._name, self.errors, error)


class Store:
    """The Flask extension with each application's store in one service of Redis."""

    def __init__(self, name: str) -> None:
        """Set the name of the service in the application and its log."""
        self._name = name

    def init_app(self, app: Flask, settings: RedisSettings, service: str, password: str) -> None:
        """Create a client of the service with this name in Sentinel; nothing connects yet."""
        client = _connect(settings, service, password) if settings.sentinels else None
        app.extensions[self._name] = RedisStore(self._name, client)

    @property
    def current(self) -> RedisStore:
        """The store of the current application."""
        store: RedisStore = current_app.extensions[self._name]
        return store
