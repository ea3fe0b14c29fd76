# ruff: noqa: D102, D103  # the name of a test states what it asserts
"""An event whose effect always fails: it is set aside, others are processed, and an operator retries it."""

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from tradefleet.entrypoints import cli
from tradefleet.platform.events import failures, outbox
from tradefleet.platform.events.outbox import LATE, WHOLE_SECONDS, Backlog, Event
from tradefleet.platform.events.worker import BATCH, CAREFUL_BATCH, IDLE_SECONDS, PAUSE_SECONDS, Worker
from tradefleet.platform.postgres.database import DatabaseUnavailableError

from .conftest import activity, place, waiting

ID = uuid.UUID(int=7)
GOOD = json.dumps({"order_id": str(uuid.UUID(int=1)), "trader_id": str(uuid.UUID(int=2))})
MALFORMED = [
    "{}",
    "null",
    "[]",
    '"text"',
    '{"order_id": "no uuid", "trader_id": "neither"}',
    '{"order_id": 1, "trader_id": null}',
    "[" * 20_000,  # only the database can parse it, if at all
    '{"order_id": ' + "9" * 5000 + "}",
]


def write(app: Flask, payload: str, event_id: uuid.UUID = ID, seconds_ago: float = 1) -> None:
    """Write an event without the application, like a release with a bug."""
    created_at = (datetime.now(UTC) - timedelta(seconds=seconds_ago)).replace(tzinfo=None)
    with app.extensions["database"].begin() as connection:
        connection.execute(
            sa.text("INSERT INTO outbox (id, kind, payload, created_at) VALUES (:id, 'order.accepted', :payload, :at)"),
            {"id": event_id.hex, "payload": payload, "at": created_at.isoformat(" ", "microseconds")},
        )


def set_aside(app: Flask) -> list[Any]:
    with app.extensions["database"].begin() as connection:
        return list(connection.execute(sa.text("SELECT id, payload, reason FROM failed_events")).all())


@pytest.mark.parametrize("payload", MALFORMED, ids=lambda payload: payload[:20])
def test_malformed_event_is_set_aside_and_others_are_processed(
    app: Flask, client: FlaskClient, headers: dict[str, str], order: dict[str, str], queue_worker: Worker, payload: str
) -> None:
    write(app, payload)
    placed = [place(client, headers, order, f"key-{number}") for number in range(3)]
    assert queue_worker.step() == PAUSE_SECONDS
    assert (waiting(app), activity(client, headers)) == (4, [])
    assert queue_worker.step() == 0
    assert (waiting(app), activity(client, headers)) == (0, placed[::-1])
    ((event_id, kept, reason),) = set_aside(app)
    assert (uuid.UUID(event_id), kept) == (ID, payload)
    assert reason
    assert client.get("/readyz").get_json()["outbox_failed"] == 1
    assert client.get("/readyz").status_code == 200
    assert queue_worker.step() == IDLE_SECONDS


def test_malformed_event_is_found_behind_many_others(app: Flask, client: FlaskClient, queue_worker: Worker) -> None:
    for number in range(CAREFUL_BATCH + 5):
        write(app, GOOD, uuid.UUID(int=100 + number), seconds_ago=20)
    write(app, "{}")
    for number in range(BATCH):
        write(app, GOOD, uuid.UUID(int=1000 + number), seconds_ago=0.5)
    steps = 0
    while waiting(app):
        queue_worker.step()
        steps += 1
    assert steps < 8
    assert len(set_aside(app)) == 1


@pytest.fixture
def command(app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Run `tradefleet events …` on the application's database."""
    monkeypatch.setattr(Flask, "auto_find_instance_path", lambda _: str(tmp_path))

    def run(*arguments: str) -> Any:
        done = CliRunner().invoke(cli.main, ["events", *arguments])
        assert done.exit_code == 0, done.output
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run  # type: ignore[return-value]  # nothing is left to do afterward


@pytest.mark.parametrize("named", [True, False])
def test_operator_lists_and_retries_the_event(
    app: Flask,
    client: FlaskClient,
    headers: dict[str, str],
    order: dict[str, str],
    queue_worker: Worker,
    command: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    named: bool,
) -> None:
    assert command("failed") == []
    assert command("retry") == [{"retried": 0, "left": 0}]
    placed = place(client, headers, order, "one")

    def broken(*_: object) -> None:
        raise LookupError("no such venue")

    with monkeypatch.context() as patch:
        patch.setitem(app.extensions["handlers"], "order.accepted", [broken])
        queue_worker.step()
        queue_worker.step()
    assert (waiting(app), activity(client, headers)) == (0, [])
    (shown,) = command("failed")
    assert (shown["kind"], shown["reason"]) == ("order.accepted", "LookupError: no such venue")
    if named:
        assert command("retry", str(uuid.uuid4())) == [{"retried": 0, "left": 1}]
    assert command("retry", *([shown["id"]] if named else [])) == [{"retried": 1, "left": 0}]
    queue_worker.step()
    (item,) = client.get("/v1/activity", headers=headers).get_json()["items"]
    stored = client.get(f"/v1/orders/{placed}", headers=headers).get_json()
    assert (item["order_id"], item["created_at"]) == (placed, stored["created_at"])
    assert (set_aside(app), client.get("/readyz").get_json()["outbox_failed"]) == ([], 0)


class StateError(Exception):
    """An error of the database driver."""

    def __init__(self, sqlstate: str | None) -> None:
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("error", "is_its_own"),
    [
        (KeyError("trader_id"), True),
        (ValueError("badly formed"), True),
        (RecursionError(), True),
        (DataError("INSERT", {}, StateError("22001")), True),
        (IntegrityError("INSERT", {}, StateError("23505")), True),
        (OperationalError("INSERT", {}, StateError("54000")), True),
        (OperationalError("INSERT", {}, StateError("40P01")), False),
        (OperationalError("INSERT", {}, StateError("55P03")), False),
        (OperationalError("INSERT", {}, StateError("57014")), False),
        (OperationalError("INSERT", {}, StateError(None)), False),
        (ProgrammingError("INSERT", {}, StateError("42P01")), False),
        (InterfaceError("INSERT", {}, StateError(None)), False),
        (PoolTimeout(), False),
        (OSError("no space left"), False),
        (MemoryError(), False),
    ],
    ids=repr,
)
@pytest.mark.parametrize("is_wrapped", [False, True])
def test_errors_of_the_database_set_no_event_aside(error: Exception, is_its_own: bool, is_wrapped: bool) -> None:
    if is_wrapped:
        wrapped = DatabaseUnavailableError("the work failed")
        wrapped.__cause__ = error
        error = wrapped
    assert failures.is_its_own(error) is is_its_own


def test_worker_waits_during_an_outage(
    app: Flask,
    client: FlaskClient,
    headers: dict[str, str],
    order: dict[str, str],
    queue_worker: Worker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    placed = [place(client, headers, order, f"key-{number}") for number in range(3)]

    def broken(*_: object) -> None:
        raise OperationalError("INSERT", {}, StateError("53300"))

    with monkeypatch.context() as patch:
        patch.setitem(app.extensions["handlers"], "order.accepted", [broken])
        assert [queue_worker.step() for _ in range(4)] == [PAUSE_SECONDS] * 4
    assert (waiting(app), set_aside(app)) == (3, [])
    queue_worker.step()
    assert activity(client, headers) == placed[::-1]


def test_two_workers_set_an_event_aside_once(app: Flask) -> None:
    write(app, "{}")
    with Session(app.extensions["database"]) as session:
        assert failures.set_aside(session, ID, KeyError("trader_id"))
        assert not failures.set_aside(session, ID, KeyError("trader_id"))
        session.commit()
    assert len(set_aside(app)) == 1


def test_reason_is_short_and_printable(app: Flask) -> None:
    write(app, "{}")
    with Session(app.extensions["database"]) as session:
        failures.set_aside(session, ID, ValueError("\0" + "x" * 10_000))
        session.commit()
    ((_, _, reason),) = set_aside(app)
    assert reason.startswith("ValueError: xxx")
    assert len(reason) == failures.REASON_CHARACTERS


def test_count_of_failed_events_is_limited(app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "COUNTED", 2)
    for number in range(3):
        write(app, "{}", uuid.UUID(int=number))
        with Session(app.extensions["database"]) as session:
            failures.set_aside(session, uuid.UUID(int=number), KeyError())
            session.commit()
    assert client.get("/readyz").get_json()["outbox_failed"] == 2


class Clock:
    """Stands in for `time` in the outbox."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def query(app: Flask, backlog: Backlog) -> tuple[list[str], bool]:
    """Return which part of the outbox a query reads, and whether it finds anything."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append("recent" if ">=" in statement else "whole")

    engine = app.extensions["database"]
    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        with Session(engine) as session:
            found = backlog.oldest(session)
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)
    return seen, found is not None


def test_query_starts_where_the_last_one_found_nothing(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(outbox, "time", clock)
    backlog = Backlog()
    assert query(app, backlog) == (["whole"], False)
    assert query(app, backlog) == (["recent"], False)
    write(app, GOOD)
    assert query(app, backlog) == (["recent"], True)
    # An event that arrived late, or that a failed worker held, is found within a minute.
    with app.extensions["database"].begin() as connection:
        connection.execute(sa.delete(Event))
    query(app, backlog)
    write(app, GOOD, seconds_ago=LATE.total_seconds() + 10)
    assert query(app, backlog) == (["recent"], False)
    clock.now += WHOLE_SECONDS
    assert query(app, backlog) == (["whole"], True)
    # It remains visible while another worker holds it.
    assert query(app, backlog) == (["recent"], True)


def test_query_that_takes_too_long_is_not_repeated_at_once(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(outbox, "time", clock)
    backlog = Backlog()
    with Session(app.extensions["database"]) as session, monkeypatch.context() as patch:
        patch.setattr(Session, "scalar", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            backlog.oldest(session)
        assert not backlog.is_whole
    with Session(app.extensions["database"]) as session:
        assert query(app, backlog) == (["recent"], False)
        assert outbox.waiting(backlog, session) == (None, None)
        clock.now += WHOLE_SECONDS
        assert outbox.waiting(backlog, session) == (0, 0)


def test_readiness_does_not_depend_on_the_outbox(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: object) -> float:
        raise OperationalError("SELECT", {}, StateError("57014"))

    monkeypatch.setattr(outbox, "waiting", slow)
    answer = client.get("/readyz")
    document = answer.get_json()
    assert (answer.status_code, document["status"], document["outbox_seconds"], document["outbox_failed"]) == (
        200,
        "ready",
        None,
        None,
    )
