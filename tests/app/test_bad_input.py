# ruff: noqa: D103  # the name of a test states what it asserts
"""Invalid requests: the response is a problem document, and nothing is stored."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

GOOD = {"symbol": "AAPL", "side": "buy", "type": "limit", "quantity": "1", "limit_price": "10"}


def without(name: str) -> dict[str, str]:
    return {field: value for field, value in GOOD.items() if field != name}


def assert_refused(client: FlaskClient, headers: dict[str, str], status: int, **request: Any) -> None:
    answer = client.post("/v1/orders", headers=headers, **request)
    assert answer.status_code == status, answer.text
    assert answer.mimetype == "application/problem+json"
    assert {"type", "title", "status", "detail", "instance", "request_id"} <= answer.get_json().keys()
    assert answer.get_json()["status"] == status
    assert answer.get_json()["request_id"] == answer.headers["X-Request-Id"]
    if status == 422:
        assert answer.get_json()["errors"]
    listed = client.get("/v1/orders", headers={"Authorization": headers["Authorization"]})
    assert listed.get_json()["items"] == []


AMOUNTS: tuple[object, ...] = (
    1, 1.5, True, None, [], {}, "", " ", "-1", "+1", "0", "0.0", "1000000000.00000001", "1000000001", "9" * 5000,
    "0.123456789", "NaN", "Infinity", "-Infinity", "1e3", "1E-3", "1_000", "1,5", ".5", "1.", " 1", "1\n", "0x10",
    "\u0661",
)  # fmt: skip


@pytest.mark.parametrize("amount", AMOUNTS, ids=lambda amount: repr(amount)[:20])
def test_invalid_amount_is_rejected(client: FlaskClient, headers: dict[str, str], amount: object) -> None:
    assert_refused(client, headers, 422, json=GOOD | {"quantity": amount})
    if amount is not None:  # a limit order without a price is below
        assert_refused(client, headers, 422, json=GOOD | {"limit_price": amount})


@pytest.mark.parametrize(
    "order",
    [
        *[without(name) for name in GOOD],
        GOOD | {"type": "market"},
        GOOD | {"limit_price": None},
        GOOD | {"symbol": "NOPE"},
        GOOD | {"symbol": ""},
        GOOD | {"symbol": "aapl"},
        GOOD | {"symbol": "AAPL\x00"},
        GOOD | {"symbol": "\ud800"},
        GOOD | {"symbol": "A" * 21},
        GOOD | {"symbol": 7},
        GOOD | {"symbol": None},
        GOOD | {"side": "BUY"},
        GOOD | {"side": ["buy"]},
        GOOD | {"type": "stop"},
        GOOD | {"note": "?"},
        GOOD | {"id": "00000000-0000-0000-0000-000000000000"},
        {},
        [],
        [GOOD],
        "text",
        1,
    ],
    ids=lambda order: repr(order)[:60],
)
def test_invalid_body_is_rejected(client: FlaskClient, headers: dict[str, str], order: object) -> None:
    assert_refused(client, headers, 422, json=order)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"{'symbol': 'AAPL'}", 400),
        (b"\xff\xfe\xfa", 400),
        (json.dumps(GOOD).encode().replace(b"AAPL", b"\xc3\x28"), 400),
        (b"[" * 60_000, 400),
        (b"null", 422),
        (b'{"quantity": NaN}', 422),
        (b'{"quantity": ' + b"9" * 5000 + b"}", 400),
        (b" " * (64 * 1024 + 1), 413),
        (b"x" * 2_000_000, 413),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_malformed_body_is_rejected(client: FlaskClient, headers: dict[str, str], body: bytes, status: int) -> None:
    assert_refused(client, headers, status, data=body, content_type="application/json")


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_wrong_content_type_is_rejected(client: FlaskClient, headers: dict[str, str], content_type: str | None) -> None:
    assert_refused(client, headers, 415, data=json.dumps(GOOD), content_type=content_type)


@pytest.mark.parametrize("key", [None, "", "k" * 129, "two words", "tab\tkey", "bell\x07", "kéy"])
def test_invalid_idempotency_key_is_rejected(client: FlaskClient, headers: dict[str, str], key: str | None) -> None:
    del headers["Idempotency-Key"]
    if key is not None:
        headers["Idempotency-Key"] = key
    assert_refused(client, headers, 422, json=GOOD)


def test_longest_idempotency_key_is_accepted(client: FlaskClient, headers: dict[str, str]) -> None:
    assert client.post("/v1/orders", json=GOOD, headers=headers | {"Idempotency-Key": "k" * 128}).status_code == 201


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nope", 404), ("DELETE", "/v1/orders", 405)])
def test_unknown_route_is_not_found(client: FlaskClient, method: str, path: str, status: int) -> None:
    answer = client.open(path, method=method)
    assert answer.status_code == status
    assert answer.mimetype == "application/problem+json"
    assert status != 405 or "POST" in answer.headers["Allow"]
