# ruff: noqa: D103  # the name of a test states what it asserts
"""Placing orders once, and reading them back."""

import base64
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from .conftest import KEYS


def place(client: FlaskClient, headers: dict[str, str], order: dict[str, str], key: str) -> str:
    answer = client.post("/v1/orders", json=order, headers=headers | {"Idempotency-Key": key})
    assert answer.status_code == 201, answer.text
    return str(answer.get_json()["id"])


def test_order_is_stored_as_sent(client: FlaskClient, headers: dict[str, str], order: dict[str, str]) -> None:
    answer = client.post("/v1/orders", json=order, headers=headers)
    assert answer.status_code == 201
    placed = answer.get_json()
    assert uuid.UUID(placed["id"])
    assert placed["created_at"].endswith("Z")
    assert datetime.fromisoformat(placed["created_at"]).utcoffset() == timedelta(0)
    assert (placed["quantity"], placed["limit_price"], placed["status"]) == ("1.5", "187.25", "accepted")
    assert answer.headers["Location"] == f"/v1/orders/{placed['id']}"
    assert client.get(answer.headers["Location"], headers=headers).get_json() == placed


@pytest.mark.parametrize(
    ("written", "answered"),
    [
        ("0.00000001", "0.00000001"),
        ("1000000000", "1000000000"),
        ("123456789.12345678", "123456789.12345678"),
        ("0010.50", "10.5"),
    ],
)
def test_amounts_are_exact(client: FlaskClient, headers: dict[str, str], written: str, answered: str) -> None:
    order = {"symbol": "BTC-USD", "side": "sell", "type": "market", "quantity": written}
    placed = client.post("/v1/orders", json=order, headers=headers).get_json()
    assert placed["quantity"] == answered
    assert client.get(f"/v1/orders/{placed['id']}", headers=headers).get_json() == placed


def test_replay_returns_the_first_response(client: FlaskClient, headers: dict[str, str], order: dict[str, str]) -> None:
    first = client.post("/v1/orders", json=order, headers=headers)
    again = client.post("/v1/orders", json=order | {"quantity": "1.5"}, headers=headers)
    assert (again.status_code, again.data) == (first.status_code, first.data)
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers


def test_key_with_another_order_is_rejected(
    client: FlaskClient, headers: dict[str, str], order: dict[str, str]
) -> None:
    place(client, headers, order, "k")
    answer = client.post("/v1/orders", json=order | {"quantity": "2"}, headers=headers | {"Idempotency-Key": "k"})
    assert answer.status_code == 422
    assert answer.get_json()["errors"][0]["field"] == "headers.Idempotency-Key"
    assert len(client.get("/v1/orders", headers=headers).get_json()["items"]) == 1


def test_key_belongs_to_its_trader(client: FlaskClient, headers: dict[str, str], order: dict[str, str]) -> None:
    bob = headers | {"Authorization": f"Bearer {KEYS['bob']}"}
    assert place(client, headers, order, "k") != place(client, bob, order, "k")


def test_threads_with_one_key_place_one_order(app: Flask, headers: dict[str, str], order: dict[str, str]) -> None:
    with ThreadPoolExecutor(16) as threads:
        ids = set(threads.map(lambda _: place(app.test_client(), headers, order, "same"), range(64)))
    assert len(ids) == 1
    assert len(app.test_client().get("/v1/orders", headers=headers).get_json()["items"]) == 1


def test_only_own_orders_are_visible(client: FlaskClient, headers: dict[str, str], order: dict[str, str]) -> None:
    order_id = place(client, headers, order, "k")
    bob = {"Authorization": f"Bearer {KEYS['bob']}"}
    assert client.get(f"/v1/orders/{order_id}", headers=bob).status_code == 404
    assert client.get("/v1/orders", headers=bob).get_json() == {"items": [], "next_cursor": None}
    assert client.get(f"/v1/orders/{uuid.uuid4()}", headers=headers).status_code == 404


def test_pages_are_stable_during_inserts(client: FlaskClient, headers: dict[str, str], order: dict[str, str]) -> None:
    placed = [place(client, headers, order, f"k{number}") for number in range(7)]
    seen: list[str] = []
    cursor: str | None = None
    for round_ in range(4):
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = client.get("/v1/orders", query_string=query, headers=headers).get_json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        place(client, headers, order, f"later{round_}")
    assert seen == placed[::-1]
    assert cursor is None


def test_full_last_page_has_no_cursor(client: FlaskClient, headers: dict[str, str], order: dict[str, str]) -> None:
    for number in range(2):
        place(client, headers, order, f"k{number}")
    assert client.get("/v1/orders?limit=2", headers=headers).get_json()["next_cursor"] is None


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=201", "limit=x", "limit=-1", "cursor=", "cursor=%00", "cursor=zzzz", "cursor=null", "page=1"],
)
def test_invalid_page_is_rejected(client: FlaskClient, headers: dict[str, str], query: str) -> None:
    answer = client.get(f"/v1/orders?{query}", headers=headers)
    assert answer.status_code == 422
    assert answer.mimetype == "application/problem+json"


@pytest.mark.parametrize("path", ["/v1/orders", "/v1/activity"])
@pytest.mark.parametrize(
    "position",
    [
        b"x" * 64,
        b"\xff" * 64,
        b"2026-02-30T00:00:00.000000Z 00000000-0000-0000-0000-000000000000",
        b"0001-01-01T00:00:00.000000+14:00 0000-0000-0000-0000-000000000000",
        b"2026-02-03T00:00:00.000000Z " + b"g" * 36,
    ],
)
def test_invalid_cursor_is_not_found(client: FlaskClient, headers: dict[str, str], path: str, position: bytes) -> None:
    cursor = base64.urlsafe_b64encode(position).decode().rstrip("=")
    answer = client.get(path, query_string={"cursor": cursor}, headers=headers)
    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")
