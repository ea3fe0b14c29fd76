"""A Redis client that queries the Sentinels like the application, and writes through a failover."""

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel
from redis_fleet import ADDRESSES, CA, PASSWORDS, wait


@contextmanager
def client(service: str = "state") -> Iterator[Redis]:
    """Yield a client like the application's: it gets the primary from the Sentinels and trusts the scenario's CA."""

    def options(password: str) -> dict[str, Any]:
        tls = {"ssl": True, "ssl_ca_certs": str(CA), "ssl_cert_reqs": "required", "ssl_check_hostname": True}
        # Twice the timeout of the application.
        waits = {"socket_timeout": 0.5, "socket_connect_timeout": 0.5, "retry": Retry(NoBackoff(), 0)}
        return {"username": "app", "password": password, "protocol": 2, **tls, **waits}

    # redis annotates this only in part.
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        [(address, 26379) for address in ADDRESSES],
        sentinel_kwargs=options("molecule-sentinel-app"),
        **options(PASSWORDS[service]),
    )
    with ExitStack() as closed:
        for each in sentinel.sentinels:
            closed.enter_context(each)
        # The same applies here.
        yield closed.enter_context(cast("Redis", sentinel.master_for(service)))  # type: ignore[no-untyped-call]


class Writer:
    """Writes one key after the other, and records the acknowledged ones and the longest gap."""

    def __init__(self, service: str) -> None:
        """Store the service to write to."""
        self.acknowledged: list[int] = []
        self.gap = 0.0
        self._service = service
        # A separate prefix, because keys of another writer would hide lost ones.
        self._prefix = f"tradefleet:writer:{uuid.uuid4().hex}:"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with client(self._service) as server:
            self._write(server)

    def _write(self, server: Redis) -> None:
        number, last = 0, time.monotonic()
        # Without the pause it would take a CPU from the tested hosts, and fill Redis with data that each sync copies.
        while not self._stop.wait(0.005):
            number += 1
            try:
                server.set(f"{self._prefix}{number}", number, ex=3600)
            except (RedisError, OSError):
                time.sleep(0.02)
            else:
                now = time.monotonic()
                self.gap, last = max(self.gap, now - last), now
                self.acknowledged.append(number)

    def start(self) -> None:
        """Start writing, and wait until writes succeed."""
        self._thread.start()
        wait(10, lambda: len(self.acknowledged) > 50)

    def stop(self) -> None:
        """Wait until writes succeed again, and stop. A failover that took too long is judged by its gap."""
        before = len(self.acknowledged)
        try:
            wait(90, lambda: len(self.acknowledged) > before + 50)
        finally:
            self._stop.set()
            self._thread.join()

    def lost(self) -> list[int]:
        """Return the acknowledged writes that the present primary does not have."""
        found: list[bytes | None] = []

        def read() -> bool:
            with client(self._service) as server:
                pipeline = server.pipeline(transaction=False)
                for number in self.acknowledged:
                    pipeline.get(f"{self._prefix}{number}")
                found[:] = pipeline.execute()
            return True

        wait(10, read)
        return [number for number, value in zip(self.acknowledged, found, strict=True) if value is None]


@contextmanager
def writing(service: str = "state") -> Iterator[Writer]:
    """Write throughout the block; afterward `lost` returns the missing writes."""
    writer = Writer(service)
    writer.start()
    try:
        yield writer
    finally:
        writer.stop()
