# ruff: noqa: D102, D103  # the name of a test says what it holds
"""Who is let in."""

import json
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from tradefleet.auth.guard import PUBLIC_ENDPOINTS
from tradefleet.auth.models import ApiKey
from tradefleet.auth.services import digest
from tradefleet.extensions import db
from tradefleet.store import RedisStore

from .conftest import KEYS


class Memory:
    """Stands in for Redis: what `RedisStore` uses of a client, kept in a dictionary."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.seconds: int | None = None

    def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    def set(self, key: str, value: bytes, ex: int, nx: bool = False) -> bool | None:
        if nx and key in self.values:
            return None
        self.values[key], self.seconds = value, ex
        return True


@pytest.fixture
def memory(app: Flask) -> Memory:
    memory = Memory()
    client: Any = memory
    app.extensions["cache"] = RedisStore("cache", client)
    return memory


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic YTpi", f"Token {KEYS['alice']}", "Bearer é", "Bearer a b"],
)
def test_no_or_wrong_key_is_refused(client: FlaskClient, authorization: str | None) -> None:
    answer = client.get("/v1/orders", headers={"Authorization": authorization} if authorization is not None else {})
    assert answer.status_code == 401
    assert answer.mimetype == "application/problem+json"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_every_route_needs_a_key_or_is_public(app: Flask) -> None:
    for rule in app.url_map.iter_rules():
        path = rule.rule.replace("<uuid:order_id>", "00000000-0000-0000-0000-000000000000")
        path = path.replace("<path:filename>", "file")
        for method in (rule.methods or set()) - {"OPTIONS"}:
            status = app.test_client().open(path, method=method).status_code
            assert (status == 401) is (rule.endpoint not in PUBLIC_ENDPOINTS), f"{method} {path} gave {status}"


def test_public_list_is_what_we_mean() -> None:
    assert {
        "system.healthz",
        "system.readyz",
        "system.version",
        "openapi.document",
        "orders.list_instruments",
        "pages.index",
        "pages.asset",
    } == PUBLIC_ENDPOINTS


def test_answers_say_to_the_edge_who_asked(client: FlaskClient, headers: dict[str, str]) -> None:
    def guard(path: str, **headers: str) -> str | None:
        return client.get(path, headers=headers).headers.get("X-Guard")

    assert (
        guard("/v1/orders", **headers) == guard("/v1/orders/00000000-0000-0000-0000-000000000000", **headers) == "key"
    )
    assert guard("/v1/instruments") == guard("/v1/instruments", **headers) == guard("/?x") == "public"
    for path in ("/v1/orders", "/v1/nothing", "/v1//instruments", "/v1/orders/7"):
        assert guard(path, Authorization="Bearer wrong") is guard(path) is None


def test_only_a_digest_is_stored(app: Flask) -> None:
    with app.app_context():
        stored = db.read(lambda session: {key.digest for key in session.query(ApiKey)})
    assert stored == {digest(key) for key in KEYS.values()}


def test_principal_comes_from_the_cache(app: Flask, memory: Memory, headers: dict[str, str]) -> None:
    assert app.test_client().get("/v1/orders", headers=headers).status_code == 200
    assert memory.seconds == 30
    ((name, value),) = memory.values.items()
    assert KEYS["alice"] not in name
    memory.values[name] = json.dumps(json.loads(value) | {"trader_id": "00000000-0000-0000-0000-000000000000"}).encode()
    with app.app_context():
        db.transact(lambda session: session.query(ApiKey).delete())
    assert app.test_client().get("/v1/orders", headers=headers).status_code == 200


@pytest.mark.parametrize("junk", [b"", b"\xff", b"[]", b"null", b'{"trader_id": "x", "name": "y"}', b'"text"'])
def test_junk_in_the_cache_is_a_miss(app: Flask, memory: Memory, headers: dict[str, str], junk: bytes) -> None:
    memory.values[f"tradefleet:principal:{digest(KEYS['alice'])}"] = junk
    assert app.test_client().get("/v1/orders", headers=headers).status_code == 200
