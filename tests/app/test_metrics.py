# ruff: noqa: D103  # the name of a test states what it asserts
"""The metrics of one process: what they count, and that clients cannot create series."""

import sqlite3
import uuid
from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any

import pytest
from flask import Flask, Response
from flask.testing import FlaskClient
from prometheus_client import REGISTRY
from redis import Redis, RedisError
from sqlalchemy import QueuePool, create_engine
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from tradefleet.platform.events.outbox import Event
from tradefleet.platform.events.worker import Worker
from tradefleet.platform.http.measure import BUCKETS
from tradefleet.platform.postgres.database import DatabaseUnavailableError, OutcomeUnknownError
from tradefleet.platform.postgres.pool import MeasuredPool, measure
from tradefleet.platform.redis.store import RedisStore
from tradefleet.platform.settings import Release, Settings

from .conftest import KEYS, MakeApp, place

Series = tuple[str, tuple[tuple[str, str], ...]]
Gained = Callable[..., float]


def series() -> dict[Series, float]:
    """Return every series of the application with its value."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name.startswith("tradefleet_") and not sample.name.endswith("_created")
    }


@pytest.fixture
def gained() -> Gained:
    """Return by how much a series has grown since the test began."""
    before = series()

    def difference(name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return series().get(key, 0) - before.get(key, 0)

    return difference


def test_requests_are_counted_by_route_method_and_class_of_status(
    client: FlaskClient, headers: dict[str, str], order: dict[str, str], gained: Gained
) -> None:
    placed = place(client, headers, order, "one")
    for path in (placed, str(uuid.uuid4())):
        client.get(f"/v1/orders/{path}", headers=headers)
    seconds = "tradefleet_http_request_duration_seconds"
    route = "/v1/orders/<uuid:order_id>"
    assert gained(f"{seconds}_count", route="/v1/orders", method="POST", status="2xx") == 1
    assert gained(f"{seconds}_count", route=route, method="GET", status="2xx") == 1
    assert gained(f"{seconds}_count", route=route, method="GET", status="4xx") == 1
    assert 0 < gained(f"{seconds}_sum", route=route, method="GET", status="2xx") < BUCKETS[-1]
    assert gained(f"{seconds}_bucket", route=route, method="GET", status="2xx", le="8.5") == 1


def test_clients_cannot_create_series(app: Flask, client: FlaskClient, headers: dict[str, str]) -> None:
    """Paths, methods, statuses, keys, symbols and traders have no part in them."""

    def ask(salt: str) -> None:
        client.get(f"/{salt}")
        client.get(f"/static/{salt}")
        client.get(f"/v1/orders/{salt}")
        client.get(f"/v1/orders/{uuid.uuid4()}?{salt}", headers=headers)
        client.open("/v1/orders", method=salt)
        client.open("/healthz", method=salt.upper())
        client.post("/v1/orders", json={"symbol": salt.upper(), "type": salt, salt: 1}, headers=headers)
        client.get("/v1/orders", headers={"Authorization": f"Bearer {salt * 4}", "X-Request-Id": salt})

    ask("abcdefghij")
    known = set(series())
    for number in range(5):
        ask(f"zyxwvutsr{number}")
    assert set(series()) == known
    for _, labels in known:
        for name, value in labels:
            assert value not in KEYS, name


@pytest.mark.parametrize("status", [99, 299, 600, 799])
def test_status_is_one_of_its_classes(app: Flask, status: int, gained: Gained) -> None:
    app.view_functions["system.healthz"] = lambda: Response(status=status)
    app.test_client().get("/healthz")
    found = "2xx" if status == 299 else "other"
    name = "tradefleet_http_request_duration_seconds_count"
    assert gained(name, route="/healthz", method="GET", status=found) == 1


def test_request_is_in_flight_until_its_response(app: Flask, gained: Gained) -> None:
    seen = []

    def view() -> Response:
        seen.append(gained("tradefleet_http_requests_in_flight"))
        raise RuntimeError

    app.view_functions["system.healthz"] = view
    assert app.test_client().get("/healthz").status_code == 500
    assert [*seen, gained("tradefleet_http_requests_in_flight")] == [1, 0]


def test_orders_are_counted_by_type_and_outcome(
    app: Flask, client: FlaskClient, headers: dict[str, str], order: dict[str, str], gained: Gained
) -> None:
    place(client, headers, order, "one")
    place(client, headers, order, "one")
    market = {name: value for name, value in order.items() if name != "limit_price"} | {"type": "market"}
    place(client, headers, market, "two")
    for body, key in ((order | {"symbol": "NOPE"}, "three"), (order | {"quantity": "9"}, "one")):
        refused = client.post("/v1/orders", json=body, headers=headers | {"Idempotency-Key": key})
        assert refused.status_code == 422
    found = {
        outcome: gained("tradefleet_orders_total", type="limit", outcome=outcome)
        for outcome in ("accepted", "repeated", "unknown_symbol", "key_reused", "unavailable", "unknown")
    }
    assert found == {
        "accepted": 1,
        "repeated": 1,
        "unknown_symbol": 1,
        "key_reused": 1,
        "unavailable": 0,
        "unknown": 0,
    }
    assert gained("tradefleet_orders_total", type="market", outcome="accepted") == 1


@pytest.mark.parametrize(
    ("error", "outcome"), [(DatabaseUnavailableError, "unavailable"), (OutcomeUnknownError, "unknown")]
)
def test_order_that_the_database_fails_is_counted(
    app: Flask,
    client: FlaskClient,
    headers: dict[str, str],
    order: dict[str, str],
    gained: Gained,
    monkeypatch: pytest.MonkeyPatch,
    error: type[Exception],
    outcome: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    client.get("/v1/orders", headers=headers)
    monkeypatch.setattr("tradefleet.platform.postgres.database.Database.transact", fail)
    assert client.post("/v1/orders", json=order, headers=headers).status_code in (503, 504)
    assert gained("tradefleet_orders_total", type="limit", outcome=outcome) == 1


def test_worker_counts_batches_and_events(
    app: Flask,
    client: FlaskClient,
    headers: dict[str, str],
    order: dict[str, str],
    queue_worker: Worker,
    gained: Gained,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bad = place(client, headers, order, "bad")
    place(client, headers, order, "good")
    (effect,) = app.extensions["handlers"]["order.accepted"]

    def broken(session: Session, event: Event) -> None:
        if event.payload["order_id"] == bad:
            raise ValueError
        effect(session, event)

    monkeypatch.setitem(app.extensions["handlers"], "order.accepted", [broken])
    for _ in range(3):
        queue_worker.step()
    batches = {name: gained("tradefleet_worker_batches_total", result=name) for name in ("applied", "empty", "failed")}
    assert batches == {"failed": 1, "applied": 1, "empty": 1}
    events = {name: gained("tradefleet_worker_events_total", result=name) for name in ("applied", "set_aside")}
    assert events == {"applied": 1, "set_aside": 1}


def test_errors_of_redis_are_counted_by_service(gained: Gained, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Redis()
    monkeypatch.setattr(client, "get", lambda *_: (_ for _ in ()).throw(RedisError("gone")))
    store = RedisStore("cache", client)
    assert [store.get("x"), store.get("x")] == [None, None]  # the second one does not reach it
    assert gained("tradefleet_redis_errors_total", service="cache") == 1
    assert gained("tradefleet_redis_errors_total", service="state") == 0


def test_reads_are_counted_by_server(client: FlaskClient, headers: dict[str, str], gained: Gained) -> None:
    client.get("/v1/orders", headers=headers)
    assert gained("tradefleet_database_reads_total", server="primary") == 1
    assert gained("tradefleet_database_reads_total", server="replica") == 0


def test_process_states_its_color_and_release(make_app: MakeApp) -> None:
    make_app(Settings(color="green", release=Release("1.2.3", "abc")))
    labels = (("color", "green"), ("commit", "abc"), ("release", "1.2.3"))
    assert series()["tradefleet_build_info", labels] == 1


class Pool:
    """An engine with a measured pool of two connections, and its metrics."""

    def __init__(self) -> None:
        self.fails = False
        self.engine = create_engine(
            "sqlite://",
            creator=self._open,
            poolclass=MeasuredPool,
            pool_logging_name="test",
            pool_size=2,
            max_overflow=0,
            pool_timeout=5,
        )
        measure(self.engine, "test", 2)

    def _open(self) -> Any:
        if self.fails:
            raise sqlite3.OperationalError
        return sqlite3.connect(":memory:", check_same_thread=False)

    def metrics(self) -> tuple[float, ...]:
        """Return how many connections are in use, how many requests wait, and the size."""
        names = ("connections_in_use", "requests_waiting", "size_connections")
        found = series()
        return tuple(found[f"tradefleet_database_pool_{name}", (("server", "test"),)] for name in names)


@pytest.fixture
def pool() -> Iterator[Pool]:
    """The pool, whose connections are closed at the end."""
    pool = Pool()
    yield pool
    pool.engine.dispose()


def test_pool_reports_connections_in_use_and_requests_that_wait(pool: Pool) -> None:
    assert pool.metrics() == (0, 0, 2)
    with pool.engine.connect(), pool.engine.connect():
        waits = Thread(target=lambda: pool.engine.connect().close())
        waits.start()
        while pool.metrics() != (2, 1, 2):
            assert waits.is_alive()
    waits.join()
    assert pool.metrics() == (0, 0, 2)


def test_pool_reports_nothing_in_use_after_failures(pool: Pool) -> None:
    """This covers a connection that cannot be opened, one that broke, a replaced pool, and a wait in vain."""
    with pool.engine.connect() as connection:
        connection.invalidate()
        pool.fails = True
    for _ in range(2):
        with pytest.raises(Exception, match="OperationalError"):
            pool.engine.connect()
    pool.fails = False
    assert pool.metrics() == (0, 0, 2)
    pool.engine.dispose()
    with pool.engine.connect():
        assert pool.metrics() == (1, 0, 2)
    assert isinstance(pool.engine.pool, QueuePool)
    pool.engine.pool._timeout = 0.01
    with pool.engine.connect(), pool.engine.connect(), pytest.raises(PoolTimeout):
        pool.engine.connect()
    assert pool.metrics() == (0, 0, 2)
