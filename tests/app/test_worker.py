# ruff: noqa: D103  # the name of a test says what it holds
"""From an order to what happens after it: once, whatever breaks on the way."""

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


def test_an_order_leads_to_one_activity(
    app: Flask, client: FlaskClient, headers: dict[str, str], order: dict[str, str], hand: Worker
) -> None:
    placed = place(client, headers, order, "one")
    assert place(client, headers, order, "one") == placed  # a replay is no event
    refused = client.post("/v1/orders", json=order | {"symbol": "NOPE"}, headers=headers | {"Idempotency-Key": "no"})
    assert refused.status_code == 422
    assert waiting(app) == 1
    assert activity(client, headers) == []
    assert [hand.step(), hand.step()] == [IDLE_SECONDS, IDLE_SECONDS]
    assert waiting(app) == 0
    (item,) = client.get("/v1/activity", headers=headers).get_json()["items"]
    stored = client.get(f"/v1/orders/{placed}", headers=headers).get_json()
    assert (item["kind"], item["order_id"], item["created_at"]) == ("order.accepted", placed, stored["created_at"])
    assert activity(client, headers | {"Authorization": f"Bearer {KEYS['bob']}"}) == []


def test_activity_is_paged_and_the_latest_first(
    client: FlaskClient, headers: dict[str, str], order: dict[str, str], hand: Worker
) -> None:
    placed = [place(client, headers, order, f"key-{number}") for number in range(5)]
    hand.step()
    seen, query = [], "?limit=2"
    while True:
        page = client.get(f"/v1/activity{query}", headers=headers).get_json()
        seen += [item["order_id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        query = f"?limit=2&cursor={page['next_cursor']}"
    assert seen == placed[::-1]


@pytest.mark.parametrize("stores", [True, False])
def test_a_lost_commit_is_neither_lost_nor_doubled(
    app: Flask,
    client: FlaskClient,
    headers: dict[str, str],
    order: dict[str, str],
    hand: Worker,
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
        assert hand.step() == PAUSE_SECONDS
    assert waiting(app) == (0 if stores else 3)
    hand.step()
    assert waiting(app) == 0
    assert activity(client, headers) == placed[::-1]


def test_an_effect_that_fails_leaves_its_whole_batch(
    app: Flask,
    client: FlaskClient,
    headers: dict[str, str],
    order: dict[str, str],
    hand: Worker,
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
        assert hand.step() == PAUSE_SECONDS
    assert (waiting(app), activity(client, headers)) == (3, [])
    hand.step()
    assert activity(client, headers) == placed[::-1]


def test_what_a_newer_release_has_written_waits_for_its_worker(
    app: Flask, client: FlaskClient, headers: dict[str, str], order: dict[str, str], hand: Worker
) -> None:
    with app.app_context():
        db.transact(lambda session: outbox.add(session, "order.filled", datetime.now(UTC), order_id=uuid.uuid4()))
    placed = place(client, headers, order, "one")
    hand.step()
    assert (waiting(app), activity(client, headers)) == (1, [placed])


def test_a_backlog_is_worked_off_without_a_pause_and_told(app: Flask, client: FlaskClient, hand: Worker) -> None:
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    ids = {"order_id": uuid.uuid4(), "trader_id": uuid.uuid4()}
    with app.app_context():
        for _ in range(BATCH + 1):
            db.transact(lambda session: outbox.add(session, "order.accepted", long_ago, **ids))
    expected = (datetime.now(UTC) - long_ago).total_seconds()
    assert abs(client.get("/readyz").get_json()["outbox_seconds"] - expected) < 60
    assert [hand.step(), hand.step()] == [0, IDLE_SECONDS]
    assert client.get("/readyz").get_json()["outbox_seconds"] == 0


def test_told_to_stop_it_finishes_what_it_holds(
    app: Flask,
    client: FlaskClient,
    headers: dict[str, str],
    order: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    placed = [place(client, headers, order, f"key-{number}") for number in range(3)]
    (effect,) = app.extensions["handlers"]["order.accepted"]

    def told(session: Session, event: Event) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        effect(session, event)

    monkeypatch.setitem(app.extensions["handlers"], "order.accepted", [told])
    monkeypatch.setattr(worker, "create_app", lambda: app)
    assert waiting(app) == 3  # without any, nobody would tell it to stop
    before = signal.getsignal(signal.SIGTERM)
    try:
        worker.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (waiting(app), activity(client, headers)) == (0, placed[::-1])
