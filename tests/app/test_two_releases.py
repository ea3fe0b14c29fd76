# ruff: noqa: D103  # the name of a test states what it asserts
"""Data that two releases share during a cutover: each reads what the other wrote, even with unknown fields."""

import base64
import json
import uuid
from dataclasses import MISSING, dataclass, fields, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update
from tradefleet.domains.identity.models import Trader
from tradefleet.domains.identity.services import digest
from tradefleet.domains.orders.models import Order
from tradefleet.domains.orders.services import NewOrder
from tradefleet.platform.events.outbox import Event
from tradefleet.platform.events.worker import Worker
from tradefleet.platform.extensions import db
from tradefleet.platform.paging import Position, encode_cursor

from .conftest import KEYS
from .test_auth import Memory, memory  # noqa: F401  # a fixture

LIMIT = NewOrder("AAPL", "buy", "limit", Decimal("1.50"), Decimal("187.25"))
MARKET = NewOrder("BTC-USD", "sell", "market", Decimal("0.00000001"), None)
# Releases up to 0.1.0 stored these.
STORED = {
    LIMIT: "85c3ad5b909dfc5d14f376fb46d4b785ca1938b4e063aa02e3ccbf06870bb630",
    MARKET: "b1d10ef89ba50e5ad4fbca5d961512ddbe8edbc10bbe26bc86975a5f95bd1535",
}


@dataclass(frozen=True)
class NewerOrder(NewOrder):
    """An order of a later release."""

    time_in_force: str = "day"
    stop_price: Decimal | None = None


def newer(order: NewOrder, **more: Any) -> NewerOrder:
    return NewerOrder(order.symbol, order.side, order.type, order.quantity, order.limit_price, **more)


@pytest.mark.parametrize("order", STORED, ids=["limit", "market"])
def test_fingerprint_is_the_same_in_every_release(order: NewOrder) -> None:
    assert order.fingerprint() == STORED[order]
    assert newer(order).fingerprint() == STORED[order]
    # The client may also send the default: it is the same order.
    assert newer(order, time_in_force="day", stop_price=None).fingerprint() == STORED[order]


def test_different_orders_have_different_fingerprints() -> None:
    first = newer(LIMIT)
    others = [
        replace(first, symbol="MSFT"),
        replace(first, side="sell"),
        replace(first, type="market"),
        replace(first, quantity=Decimal("1.51")),
        replace(first, limit_price=None),
        replace(first, time_in_force="gtc"),
        replace(first, stop_price=Decimal(1)),
        replace(first, stop_price=Decimal(2)),
    ]
    assert len({first.fingerprint(), *(each.fingerprint() for each in others)}) == 1 + len(others)


def test_later_field_of_an_order_has_a_default() -> None:
    first = {"symbol", "side", "type", "quantity", "limit_price"}
    assert {each.name for each in fields(NewOrder) if each.default is MISSING} == first


def test_order_of_the_former_release_is_replayed(
    app: Flask, client: FlaskClient, headers: dict[str, str], order: dict[str, str]
) -> None:
    placed = client.post("/v1/orders", json=order, headers=headers).get_json()
    with app.app_context():
        db.transact(lambda session: session.execute(update(Order).values(fingerprint=STORED[LIMIT])))
    again = client.post("/v1/orders", json=order, headers=headers)
    assert (again.status_code, again.get_json()["id"]) == (201, placed["id"])
    assert again.headers["Idempotency-Replayed"] == "true"


POSITION = Position(datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC), uuid.UUID(int=7))
CURSOR = "MjAyNi0wMS0wMlQwMzowNDowNS42Nzg5MDFaIDAwMDAwMDAwLTAwMDAtMDAwMC0wMDAwLTAwMDAwMDAwMDAwNw"


@pytest.mark.parametrize("more", ["", " filled", " filled desc"])
def test_cursor_is_valid_in_another_release(client: FlaskClient, headers: dict[str, str], more: str) -> None:
    assert encode_cursor(POSITION) == CURSOR
    content = base64.urlsafe_b64decode(CURSOR + "==").decode() + more
    cursor = base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")
    for path in ("/v1/orders", "/v1/activity"):
        assert client.get(path, query_string={"cursor": cursor}, headers=headers).status_code == 200


def test_event_with_unknown_fields_is_processed(
    app: Flask, client: FlaskClient, headers: dict[str, str], queue_worker: Worker
) -> None:
    with app.app_context():
        trader_id = db.read(lambda session: session.scalars(select(Trader.id).where(Trader.name == "alice")).one())
        payload = {"order_id": str(uuid.uuid4()), "trader_id": str(trader_id), "venue": "XNAS", "version": 2}
        event = Event(id=uuid.uuid4(), kind="order.accepted", payload=payload, created_at=datetime.now(UTC))
        db.transact(lambda session: session.add(event))
    queue_worker.step()
    (item,) = client.get("/v1/activity", headers=headers).get_json()["items"]
    assert item["order_id"] == payload["order_id"]


@pytest.mark.parametrize("known", [True, False])
def test_cached_key_may_have_unknown_fields_and_is_a_miss_without_known_ones(
    client: FlaskClient,
    memory: Memory,  # noqa: F811  # the fixture
    headers: dict[str, str],
    known: bool,
) -> None:
    assert client.get("/v1/orders", headers=headers).status_code == 200
    ((key, value),) = ((key, value) for key, value in memory.values.items() if digest(KEYS["alice"]) in key)
    content = json.loads(value) | {"scopes": ["trade"], "version": 2}
    if not known:
        content = {"version": 2, "subject": content["trader_id"]}
    memory.values[key] = json.dumps(content).encode()
    assert client.get("/v1/orders", headers=headers).status_code == 200
    assert memory.values[key] == (json.dumps(content).encode() if known else value)
