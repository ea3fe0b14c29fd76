# ruff: noqa: D103  # the name of a test states what it asserts
"""From an order to its effects: exactly once, despite failures."""

import os
import signal
import uuid
from datetime import UTC, datetime

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from tradefleet.entrypoints import worker
from tradefleet.platform.events import outbox
from tradefleet.platform.events.outbox import Event
from tradefleet.platform.events.worker import BATCH, IDLE_SECONDS, PAUSE_SECONDS, Worker
from tradefleet.platform.extensions import db

from .conftest import KEYS, activity, place, waiting


def test_order_leads_to_one_activity(
    app: Flask, client: FlaskClient, headers: dict[str, str], order: dict[str, str], queue_worker: Worker
) -> None:
    placed = place(client, headers, order, "one")
    assert place(client, headers, order, "one") == placed  # a replay creates no event
    refused = client.post("/v1/orders", json=order | {"symbol": "NOPE"}, headers=headers | {"Idempotency-Key": "no"})
    assert refused.status_code == 422
    assert waiting(app) == 1
    assert activity(client, headers) == []
    assert [queue_worker.step(), queue_worker.step()] == [IDLE_SECONDS, IDLE_SECONDS]
    assert waiting(app) == 0
    (item,) = client.get("/v1/activity", headers=headers).get_json()["items"]
    stored = client.get(f"/v1/orders/{placed}", headers=headers).get_json()
    assert (item["kind"], item["order_id"], item["created_at"]) == ("order.accepted", placed, stored["created_at"])
    assert activity(client, headers | {"Authorization": f"Bearer {KEYS['bob']}"}) == []


def test_activity_is_paged_with_the_latest_first(
    client: FlaskClient, headers: dict[str, str], order: dict[str, str], queue_worker: Worker
) -> None:
    placed = [place(client, headers, order, f"key-{number}") for number in range(5)]
    queue_worker.step()
    seen, query = [], "?limit=2"
    while True:
        page = client.get(f"/v1/activity{query}", headers=headers).get_json()
        seen += [item["order_id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        query = f"?limit=2&cursor={page['next_cursor']}"
    assert seen == placed[::-1]


@pytest.mark.parametrize("stores", [True, False])
def test_lost_commit_loses_and_duplicates_nothing(
    app: Flask,
    client: FlaskClient,
    headers: dict[str, str],
    order: dict[str, str],
    queue_worker: Worker,
    monkeypatch: pytest.MonkeyPatch,
    stores: bool,
) -> None:
    placed = [place(client, headers, order, f"key-{number}") for number in range(3)]
    commit = Session.commit

    def broken(session: Session) -> None:
        if stores:
            commit(session)
        raise OperationalError("COMMIT", {}, Exception("gone"), connection_invalidated=True)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "commit", broken)
        assert queue_worker.step() == PAUSE_SECONDS
    assert waiting(app) == (0 if stores else 3)
    queue_worker.step()
    assert waiting(app) == 0
    assert activity(client, headers) == placed[::-1]


def test_failing_effect_leaves_its_whole_batch(
    app: Flask,
    client: FlaskClient,
    headers: dict[str, str],
    order: dict[str, str],
    queue_worker: Worker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    placed = [place(client, headers, order, f"key-{number}") for number in range(3)]
    (effect,), calls = app.extensions["handlers"]["order.accepted"], []

    def broken(session: Session, event: Event) -> None:
        effect(session, event)
        calls.append(event)
        if len(calls) == 3:
            raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setitem(app.extensions["handlers"], "order.accepted", [broken])
        assert queue_worker.step() == PAUSE_SECONDS
    assert (waiting(app), activity(client, headers)) == (3, [])
    queue_worker.step()
    assert activity(client, headers) == placed[::-1]


def test_event_of_a_newer_release_waits_for_its_worker(
    app: Flask, client: FlaskClient, headers: dict[str, str], order: dict[str, str], queue_worker: Worker
) -> None:
    with app.app_context():
        db.transact(lambda session: outbox.add(session, "order.filled", datetime.now(UTC), order_id=uuid.uuid4()))
    placed = place(client, headers, order, "one")
    queue_worker.step()
    assert (waiting(app), activity(client, headers)) == (1, [placed])


def test_backlog_is_processed_without_pauses_and_reported(
    app: Flask, client: FlaskClient, queue_worker: Worker
) -> None:
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    ids = {"order_id": uuid.uuid4(), "trader_id": uuid.uuid4()}
    with app.app_context():
        for _ in range(BATCH + 1):
            db.transact(lambda session: outbox.add(session, "order.accepted", long_ago, **ids))
    expected = (datetime.now(UTC) - long_ago).total_seconds()
    assert abs(client.get("/readyz").get_json()["outbox_seconds"] - expected) < 60
    assert client.get("/readyz").get_json()["outbox_events"] == BATCH + 1
    assert [queue_worker.step(), queue_worker.step()] == [0, IDLE_SECONDS]
    ready = client.get("/readyz").get_json()
    assert (ready["outbox_seconds"], ready["outbox_events"]) == (0, 0)


def test_stopped_worker_finishes_its_batch(
    app: Flask,
    client: FlaskClient,
    headers: dict[str, str],
    order: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    placed = [place(client, headers, order, f"key-{number}") for number in range(3)]
    (effect,) = app.extensions["handlers"]["order.accepted"]

    def stop(session: Session, event: Event) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        effect(session, event)

    monkeypatch.setitem(app.extensions["handlers"], "order.accepted", [stop])
    monkeypatch.setattr(worker, "create_app", lambda: app)
    assert waiting(app) == 3  # without any event no handler would stop the worker
    before = signal.getsignal(signal.SIGTERM)
    try:
        worker.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (waiting(app), activity(client, headers)) == (0, placed[::-1])
