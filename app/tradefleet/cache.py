"""Redis as a cache: every error is a miss, and a Redis that fails is left alone for a moment."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from flask import Flask, current_app
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from tradefleet.settings import RedisSettings

CALL_SECONDS = 0.25
# Sentinels are asked one after the other; three silent ones together take no longer than one call.
SENTINEL_SECONDS = 0.08
PAUSE_SECONDS = 1.0
LOG_EVERY_SECONDS = 30.0

Health = Literal["ok", "down", "disabled"]
T = TypeVar("T")
log = logging.getLogger(__name__)


def _connect(settings: RedisSettings) -> Redis:
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
        **options(settings.username, settings.password, CALL_SECONDS),
    )
    # and this
    client: Redis = sentinel.master_for(settings.service)  # type: ignore[no-untyped-call]
    return client


class RedisCache:
    """One application's cache. `errors` counts what failed since the start."""

    def __init__(self, client: Redis | None) -> None:
        self.errors = 0
        self._client = client
        self._lock = threading.Lock()
        self._paused_until = 0.0
        self._logged_at = -LOG_EVERY_SECONDS

    def get(self, key: str) -> bytes | None:
        """Return the value, or None where there is none or Redis fails."""
        value = self._call(lambda client: client.get(key), None)
        return value if isinstance(value, bytes) else None

    def put(self, key: str, value: bytes, seconds: int) -> None:
        """Keep the value for so many seconds, if Redis can."""
        self._call(lambda client: client.set(key, value, ex=seconds), None)

    def health(self) -> Health:
        """Say whether Redis answers; while it is left alone it counts as down."""
        if self._client is None:
            return "disabled"
        return "ok" if self._call(lambda client: bool(client.ping()), False) else "down"

    def _call(self, use: Callable[[Redis], T], otherwise: T) -> T:
        if self._client is None or time.monotonic() < self._paused_until:
            return otherwise
        try:
            return use(self._client)
        except (RedisError, OSError) as error:
            self._note(error)
            return otherwise

    def _note(self, error: Exception) -> None:
        now = time.monotonic()
        with self._lock:
            self.errors += 1
            self._paused_until = now + PAUSE_SECONDS
            if now - self._logged_at < LOG_EVERY_SECONDS:
                return
            self._logged_at = now
        log.warning("redis failed, %d errors since the start: %s", self.errors, error)


class Cache:
    """The Flask extension that gives each application its cache."""

    def init_app(self, app: Flask, settings: RedisSettings) -> None:
        """Give `app` a cache; nothing connects yet."""
        app.extensions["cache"] = RedisCache(_connect(settings) if settings.sentinels else None)

    @property
    def current(self) -> RedisCache:
        """The cache of the current application."""
        cache: RedisCache = current_app.extensions["cache"]
        return cache
