# ruff: noqa: D102, D103  # the name of a test states what it asserts
"""Authentication: keys, their cache, and public routes."""

import json
import time
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from tradefleet.domains.identity import keys, services
from tradefleet.domains.identity.models import ApiKey
from tradefleet.domains.identity.services import digest
from tradefleet.platform.extensions import db
from tradefleet.platform.http.guard import public_endpoints
from tradefleet.platform.redis.store import RedisStore

from .conftest import KEYS


class Memory:
    """Stands in for Redis with a dictionary: the methods of a client that `RedisStore` uses."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.seconds: float | None = None

    def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    def set(self, key: str, value: bytes, px: int, nx: bool = False) -> bool | None:
        if nx and key in self.values:
            return None
        self.values[key], self.seconds = value, px / 1000
        return True


@pytest.fixture
def memory(app: Flask) -> Memory:
    memory = Memory()
    client: Any = memory
    app.extensions["cache"] = RedisStore("cache", client)
    return memory


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Basic YTpi",
        f"Token {KEYS['alice']}",
        "Bearer é",
        "Bearer a b",
        f"Bearer\t{KEYS['alice']}",
        f"Bearer \t{KEYS['alice']}",
        f"Bearer\xa0{KEYS['alice']}",
        f"Bearer{KEYS['alice']}",
        f"Bearer {KEYS['alice']} x",
        f"Bearer {KEYS['alice']},Bearer {KEYS['alice']}",
        f"Bearer token={KEYS['alice']}",
        f'Bearer "{KEYS["alice"]}"',
        f"Bearer {KEYS['alice']}=",
    ],
)
def test_missing_or_invalid_key_is_rejected(client: FlaskClient, authorization: str | None) -> None:
    answer = client.get("/v1/orders", headers={"Authorization": authorization} if authorization is not None else {})
    assert answer.status_code == 401
    assert answer.mimetype == "application/problem+json"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("before", ["Bearer ", "bearer ", "BEARER ", "bEaReR   ", " Bearer "])
def test_scheme_is_case_insensitive_with_any_number_of_spaces(client: FlaskClient, before: str) -> None:
    assert client.get("/v1/orders", headers={"Authorization": f"{before}{KEYS['alice']}"}).status_code == 200


KEYS_AT_THE_EDGE = ["k" * 32, "k" * 256, "-._~+/" * 6, f"{'k' * 32}=", f"{'k' * 32}=="]


@pytest.mark.parametrize("key", KEYS_AT_THE_EDGE)
def test_each_key_that_can_be_stored_is_accepted(app: Flask, key: str) -> None:
    with app.app_context():
        assert db.transact(lambda session: keys.add(session, "alice", key)) is not None
    assert app.test_client().get("/v1/orders", headers={"Authorization": f"Bearer {key}"}).status_code == 200


@pytest.mark.parametrize(
    "key",
    ["k" * 31, "k" * 257, f"{'k' * 20}={'k' * 20}", "=" * 40, f"{'k' * 32} ", f"{'k' * 32}\n", "é" * 32, "!" * 32],
)
def test_unacceptable_key_is_not_stored(app: Flask, key: str) -> None:
    with app.app_context(), pytest.raises(keys.InvalidKeyError, match="openssl rand -hex 32"):
        db.transact(lambda session: keys.add(session, "alice", key))


def test_every_route_requires_a_key_or_is_public(app: Flask) -> None:
    for rule in app.url_map.iter_rules():
        path = rule.rule.replace("<uuid:order_id>", "00000000-0000-0000-0000-000000000000")
        path = path.replace("<path:filename>", "file")
        for method in (rule.methods or set()) - {"OPTIONS"}:
            status = app.test_client().open(path, method=method).status_code
            assert (status == 401) is (rule.endpoint not in public_endpoints(app)), f"{method} {path} gave {status}"


def test_public_routes_are_the_intended_ones(app: Flask) -> None:
    assert {
        "system.healthz",
        "system.readyz",
        "system.version",
        "openapi.document",
        "instruments.list_instruments",
        "pages.index",
        "pages.asset",
    } == public_endpoints(app)


def test_responses_mark_authenticated_and_public_requests_for_the_edge(
    client: FlaskClient, headers: dict[str, str]
) -> None:
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


def test_principal_is_read_from_the_cache(app: Flask, memory: Memory, headers: dict[str, str]) -> None:
    assert app.test_client().get("/v1/orders", headers=headers).status_code == 200
    assert memory.seconds is not None
    assert 0 < memory.seconds <= 0.5
    ((name, value),) = memory.values.items()
    assert KEYS["alice"] not in name
    memory.values[name] = json.dumps(json.loads(value) | {"trader_id": "00000000-0000-0000-0000-000000000000"}).encode()
    with app.app_context():
        db.transact(lambda session: session.query(ApiKey).delete())
    assert app.test_client().get("/v1/orders", headers=headers).status_code == 200


@pytest.mark.parametrize("junk", [b"", b"\xff", b"[]", b"null", b'{"trader_id": "x", "name": "y"}', b'"text"'])
def test_malformed_cache_entry_is_a_miss(app: Flask, memory: Memory, headers: dict[str, str], junk: bytes) -> None:
    memory.values[f"tradefleet:principal:2:{digest(KEYS['alice'])}"] = junk
    assert app.test_client().get("/v1/orders", headers=headers).status_code == 200


def test_cached_principal_expires_with_its_validity(
    app: Flask, memory: Memory, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = services.find_principal

    def slow(*arguments: Any) -> Any:
        found = find(*arguments)
        time.sleep(0.6)
        return found

    monkeypatch.setattr(services, "find_principal", slow)
    assert app.test_client().get("/v1/orders", headers=headers).status_code == 200
    assert memory.values == {}


def test_revoked_key_is_rejected_after_its_cache_entry_expires(
    app: Flask, memory: Memory, headers: dict[str, str]
) -> None:
    client = app.test_client()
    assert client.get("/v1/orders", headers=headers).status_code == 200
    with app.app_context():
        db.transact(lambda session: keys.revoke_key(session, KEYS["alice"], "test"))
    memory.values.clear()
    answer = client.get("/v1/orders", headers=headers)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Bearer error="invalid_token"')
    assert memory.values == {}


def test_longer_cached_entry_of_an_older_release_is_ignored(
    app: Flask, memory: Memory, headers: dict[str, str]
) -> None:
    content = {"trader_id": "00000000-0000-0000-0000-000000000000", "name": "alice"}
    memory.values[f"tradefleet:principal:{digest('r' * 32)}"] = json.dumps(content).encode()
    headers["Authorization"] = f"Bearer {'r' * 32}"
    assert app.test_client().get("/v1/orders", headers=headers).status_code == 401
