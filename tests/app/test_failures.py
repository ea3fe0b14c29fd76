# ruff: noqa: D103  # the name of a test states what it asserts
"""Dependencies that are down, silent or fail during the work: responses are fast and honest."""

import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from tradefleet.platform import deadline
from tradefleet.platform.http import hooks
from tradefleet.platform.http.guard import Principal
from tradefleet.platform.postgres.database import (
    POOL_SECONDS,
    POOL_SIZE,
    DatabaseUnavailableError,
    OutcomeUnknownError,
    make_engine,
    run,
)
from tradefleet.platform.postgres.migrator import head_revision
from tradefleet.platform.redis.store import RedisStore
from tradefleet.platform.settings import Address, DatabaseSettings, RedisSettings, Settings

from .conftest import MakeApp
from .test_auth import Memory


def with_database(*hosts: Address) -> Settings:
    return Settings(database=DatabaseSettings(hosts=hosts, ca_file="/nonexistent", password="x"))  # noqa: S106 (no secret)


def with_redis(*sentinels: Address) -> Settings:
    # The file can be loaded: otherwise TLS fails before anything is sent, and nothing is waited for.
    return Settings(redis=RedisSettings(sentinels=sentinels, ca_file=str(Path(__file__).with_name("authority.pem"))))


@pytest.mark.parametrize("kind", ["closed", "silent"])
def test_unreachable_database_is_503_in_time(
    kind: str, make_app: MakeApp, headers: dict[str, str], order: dict[str, str], request: pytest.FixtureRequest
) -> None:
    host: Address = request.getfixturevalue(kind)
    client = make_app(with_database(host, host, host)).test_client()
    began = time.monotonic()
    answer = client.post("/v1/orders", json=order, headers=headers)
    assert time.monotonic() - began < 8.5
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert "127.0.0.1" not in answer.text
    began = time.monotonic()
    ready = client.get("/readyz")
    assert time.monotonic() - began < 3  # without a limit, a primary is searched for longer than that
    assert ready.status_code == 503
    assert ready.get_json() == {
        "status": "unavailable",
        "dependencies": {"database": "down", "schema": "unknown", "redis": "disabled", "cache": "disabled"},
        "outbox_seconds": None,
        "outbox_events": None,
        "outbox_failed": None,
    }
    assert client.get("/version").get_json()["migration"] == {"code": head_revision(), "database": None}
    assert client.get("/healthz").get_json() == {"status": "ok"}


@pytest.mark.parametrize("kind", ["closed", "silent"])
def test_unreachable_redis_only_degrades(
    kind: str,
    make_app: MakeApp,
    app: Flask,
    headers: dict[str, str],
    order: dict[str, str],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.modules["tradefleet.platform.redis.store"], "PAUSE_SECONDS", 60)
    sentinel: Address = request.getfixturevalue(kind)
    # This is the SQLite file of `app`, which holds the keys.
    degraded = make_app(with_redis(sentinel, sentinel, sentinel))
    client = degraded.test_client()
    began = time.monotonic()
    assert client.post("/v1/orders", json=order, headers=headers).status_code == 201
    assert time.monotonic() - began < 2
    assert client.get("/v1/orders", headers=headers).status_code == 200
    # It was queried once, and then skipped.
    assert degraded.extensions["cache"].errors == 1
    ready = client.get("/readyz")
    assert ready.status_code == 200
    both = {"redis": "down", "cache": "down"}
    document = ready.get_json()
    assert (document["status"], document["dependencies"]) == ("degraded", {"database": "ok", "schema": "ok"} | both)


@pytest.mark.parametrize(("dead", "alive"), [("cache", "state"), ("state", "cache")])
def test_one_unreachable_redis_does_not_affect_the_other(
    dead: str, alive: str, make_app: MakeApp, closed: Address, app: Flask, headers: dict[str, str]
) -> None:
    # This is the SQLite file of `app`, which holds the keys.
    broken = make_app(with_redis(closed))
    memory: Any = Memory()
    broken.extensions[alive] = RedisStore(alive, memory)
    client = broken.test_client()
    assert client.get("/v1/orders", headers=headers).status_code == 200
    ready = client.get("/readyz")
    assert ready.status_code == 200
    names = {"state": "redis", "cache": "cache"}
    health = {names[dead]: "down", names[alive]: "ok"}
    document = ready.get_json()
    assert (document["status"], document["dependencies"]) == ("degraded", {"database": "ok", "schema": "ok"} | health)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An empty SQLite database."""
    engine = make_engine(DatabaseSettings(), tmp_path)
    yield engine
    engine.dispose()


@pytest.mark.parametrize(("held_seconds", "expected"), [(0.5, 201), (9.0, 503)])
def test_exhausted_pool_is_waited_for_within_the_budget(
    app: Flask,
    headers: dict[str, str],
    order: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    held_seconds: float,
    expected: int,
) -> None:
    monkeypatch.setattr(hooks, "REQUEST_SECONDS", 3.0)
    engine = create_engine(
        f"sqlite:///{tmp_path}/tradefleet.sqlite3", pool_size=1, max_overflow=0, pool_timeout=POOL_SECONDS
    )
    app.extensions["database"].dispose()
    app.extensions["database"] = engine
    held = engine.connect()
    giving_back = threading.Timer(held_seconds, held.close)
    began = time.monotonic()
    giving_back.start()
    answer = app.test_client().post("/v1/orders", json=order, headers=headers)
    took = time.monotonic() - began
    giving_back.cancel()
    held.close()
    assert answer.status_code == expected
    # The connection is held for longer than that: the budget ends the wait.
    assert min(held_seconds, 2.0) <= took < 6


def test_pool_is_polled_in_short_waits_within_the_budget() -> None:
    pool: Any = make_engine(with_database(Address("127.0.0.1", 1)).database, Path("/nonexistent")).pool
    assert (pool.size(), pool._max_overflow, pool._timeout) == (POOL_SIZE, 0, POOL_SECONDS)


def lost_connection(*, invalidated: bool) -> OperationalError:
    return OperationalError("SELECT 1", {}, Exception("gone"), connection_invalidated=invalidated)


def test_broken_pooled_connection_is_retried_once(engine: Engine) -> None:
    calls = []

    def work(session: Session) -> int:
        calls.append(session)
        if len(calls) == 1:
            raise lost_connection(invalidated=True)
        return int(session.execute(text("SELECT 42")).scalar_one())

    assert run(engine, work, commit=True) == 42
    assert len(calls) == 2


def test_connection_that_breaks_after_the_read_changes_no_response(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(session: Session) -> int:
        return int(session.execute(text("SELECT 42")).scalar_one())

    def broken(_: object) -> None:
        raise sqlite3.OperationalError("gone")

    run(engine, read, commit=False)  # SQLAlchemy's own rollback after it has connected first
    monkeypatch.setattr(engine.dialect, "do_rollback", broken)
    assert run(engine, read, commit=False) == 42
    monkeypatch.undo()
    assert run(engine, read, commit=True) == 42


@pytest.mark.parametrize(("invalidated", "expected"), [(True, 2), (False, 1)])
def test_repeatedly_failing_work_is_unavailable(engine: Engine, invalidated: bool, expected: int) -> None:
    calls = []

    def work(session: Session) -> None:
        calls.append(session)
        raise lost_connection(invalidated=invalidated)

    with pytest.raises(DatabaseUnavailableError):
        run(engine, work, commit=True)
    assert len(calls) == expected


def test_error_in_the_commit_is_unknown_and_not_repeated(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Session] = []

    def broken(session: Session) -> None:
        raise lost_connection(invalidated=True)

    monkeypatch.setattr(Session, "commit", broken)
    with pytest.raises(OutcomeUnknownError):
        run(engine, calls.append, commit=True)
    assert len(calls) == 1


def failing_commits(monkeypatch: pytest.MonkeyPatch, failures: int, *, stores: bool) -> None:
    """Make the first commits lose their response, after the database has stored the work or before."""
    commit = Session.commit
    left = [True] * failures

    def commit_or_fail(session: Session) -> None:
        if left and left.pop():
            if stores:
                commit(session)
            raise lost_connection(invalidated=True)
        commit(session)

    monkeypatch.setattr(Session, "commit", commit_or_fail)


@pytest.mark.parametrize("stores", [True, False])
def test_idempotent_work_is_repeated_to_learn_its_outcome(
    app: Flask, headers: dict[str, str], order: dict[str, str], monkeypatch: pytest.MonkeyPatch, stores: bool
) -> None:
    failing_commits(monkeypatch, 1, stores=stores)
    client = app.test_client()
    assert client.post("/v1/orders", json=order, headers=headers).status_code == 201
    assert len(client.get("/v1/orders", headers=headers).get_json()["items"]) == 1


def test_after_a_lost_commit_no_failure_promises_that_nothing_was_stored(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_commits(monkeypatch, 1, stores=True)
    calls = []

    def work(session: Session) -> None:
        calls.append(session)
        if len(calls) == 2:
            raise lost_connection(invalidated=True)

    with pytest.raises(OutcomeUnknownError):
        run(engine, work, commit=True, idempotent=True)
    assert len(calls) == 2


def test_unknown_outcome_is_504(
    app: Flask, headers: dict[str, str], order: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(session: Session) -> None:
        raise lost_connection(invalidated=True)

    monkeypatch.setattr(Session, "commit", broken)
    answer = app.test_client().post("/v1/orders", json=order, headers=headers)
    assert answer.status_code == 504
    assert "Idempotency-Key" in answer.get_json()["detail"]
    assert "gone" not in answer.text


class Fault:
    """Breaks one step of the work with a database: a statement or a commit, before or after it took effect."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        """Count the steps; nothing breaks yet."""
        self._steps = 0
        self._breaking = range(0)
        self._invalidated = False
        commit = Session.commit

        def broken_commit(session: Session) -> None:
            self._pass()
            commit(session)
            self._pass()

        monkeypatch.setattr(Session, "commit", broken_commit)
        for moment in ("before_cursor_execute", "after_cursor_execute"):
            event.listen(engine, moment, lambda *_: self._pass())

    def plan(self, breaking: range, *, invalidated: bool = False) -> None:
        """Make these steps break, counted from now."""
        self._steps, self._breaking, self._invalidated = 0, breaking, invalidated

    def _pass(self) -> None:
        self._steps += 1
        if self._steps in self._breaking:
            raise lost_connection(invalidated=self._invalidated)


@pytest.mark.parametrize(
    ("invalidated", "lasting", "expected"),
    [(True, 1, {201}), (False, 1, {201, 503}), (True, 99, {201, 503, 504}), (False, 99, {201, 503, 504})],
)
def test_503_promises_that_nothing_was_done_wherever_it_breaks(
    app: Flask,
    headers: dict[str, str],
    order: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    invalidated: bool,
    lasting: int,
    expected: set[int],
) -> None:
    client = app.test_client()
    fault = Fault(app.extensions["database"], monkeypatch)
    seen = set()
    for step in range(1, 20):
        named = headers | {"Idempotency-Key": f"step-{step}"}
        fault.plan(range(step, step + lasting), invalidated=invalidated)
        status = client.post("/v1/orders", json=order, headers=named).status_code
        fault.plan(range(0))
        # The edge sends a refused order to another host, and a client repeats it: neither may find it stored.
        again = client.post("/v1/orders", json=order, headers=named)
        assert again.status_code == 201
        if status == 503:
            assert "Idempotency-Replayed" not in again.headers, f"step {step}: refused, and stored all the same"
        if status == 201:
            assert again.headers["Idempotency-Replayed"] == "true", f"step {step}: acknowledged, and not stored"
        seen.add(status)
    assert seen == expected


def test_bug_is_a_500_without_its_text(
    app: Flask, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> Principal:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("tradefleet.domains.identity.services.find_principal", broken)
    answer = app.test_client().get("/v1/orders", headers=headers)
    assert answer.status_code == 500
    assert answer.mimetype == "application/problem+json"
    assert "secret detail" not in answer.text
    assert "X-Release" in answer.headers


def test_inner_budget_never_extends_the_outer() -> None:
    with deadline.budget(0.05), deadline.budget(10):
        assert deadline.remaining(99) <= 0.05
    assert deadline.remaining(99) == 99
