# ruff: noqa: D103  # the name of a test states what it asserts
"""Reads on replicas: traders always read their own writes. The replica is a second SQLite file."""

import shutil
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, delete, event
from tradefleet.domains.identity.models import ApiKey
from tradefleet.domains.orders import services
from tradefleet.platform import deadline
from tradefleet.platform.breaker import Breaker
from tradefleet.platform.extensions import db
from tradefleet.platform.postgres.database import make_engine, make_replica_engine
from tradefleet.platform.postgres.replicas import HEADER, MARK_SECONDS, PRIMARY_SECONDS
from tradefleet.platform.redis.store import RedisStore
from tradefleet.platform.settings import Address, DatabaseSettings

from .test_auth import Memory


class Server:
    """The server functions of PostgreSQL. SQLite compares the part of a position before the slash."""

    def __init__(self, engine: Engine) -> None:
        self.position, self.replays, self.queries = 5, False, 0
        event.listen(engine, "connect", self._teach)

    def _teach(self, connection: Any, _: object) -> None:
        connection.create_function("pg_current_wal_lsn", 0, lambda: f"{self.position}/0")
        connection.create_function("pg_last_wal_replay_lsn", 0, lambda: self.position)
        connection.create_function("pg_is_in_recovery", 0, self._recovers)

    def _recovers(self) -> bool:
        self.queries += 1
        return self.replays


@pytest.fixture
def memory(app: Flask) -> Memory:
    """The application's store in which nothing is evicted."""
    memory = Memory()
    client: Any = memory
    app.extensions["state"] = RedisStore("state", client)
    return memory


@pytest.fixture
def primary(app: Flask) -> Server:
    """The primary, at position 5."""
    engine: Engine = app.extensions["database"]
    engine.dispose()
    return Server(engine)


@pytest.fixture
def replica(app: Flask, primary: Server, tmp_path: Path) -> Iterator[Server]:
    """A replica with all present data of the primary."""
    (tmp_path / "replica").mkdir()
    shutil.copy(tmp_path / "tradefleet.sqlite3", tmp_path / "replica")
    engine = make_engine(DatabaseSettings(), tmp_path / "replica")
    app.extensions["replica"] = engine
    server = Server(engine)
    server.replays = True
    yield server
    engine.dispose()


def source(client: FlaskClient, headers: dict[str, str], path: str = "/v1/orders") -> str:
    return client.get(path, headers=headers).headers[HEADER]


def positions(memory: Memory) -> dict[str, bytes]:
    return {name: value for name, value in memory.values.items() if ":position:" in name}


@pytest.mark.usefixtures("memory", "replica")
def test_replica_answers_if_the_position_is_known(client: FlaskClient, headers: dict[str, str]) -> None:
    assert [source(client, headers) for _ in range(3)] == ["primary", "replica", "replica"]


@pytest.mark.parametrize("mark", [b"", b"written 2", b'{"position": "5/0"}', b"5/0 synchronous", b"\xff"])
@pytest.mark.usefixtures("replica")
def test_note_of_another_release_leads_to_the_primary(
    client: FlaskClient, headers: dict[str, str], memory: Memory, mark: bytes
) -> None:
    source(client, headers)
    (key,) = positions(memory)
    memory.values[key] = mark
    assert [source(client, headers) for _ in range(2)] == ["primary", "primary"]
    assert memory.values[key] == mark


@pytest.mark.usefixtures("replica")
def test_write_keeps_its_trader_at_the_primary(
    client: FlaskClient, headers: dict[str, str], order: dict[str, str], memory: Memory
) -> None:
    source(client, headers)
    placed = client.post("/v1/orders", json=order, headers=headers)
    assert memory.seconds == MARK_SECONDS
    assert client.get(placed.headers["Location"], headers=headers).status_code == 200
    assert [source(client, headers) for _ in range(2)] == ["primary", "primary"]


@pytest.mark.usefixtures("replica")
def test_cache_that_evicts_everything_loses_no_mark(
    app: Flask, client: FlaskClient, headers: dict[str, str], order: dict[str, str], memory: Memory
) -> None:
    forgets: Any = Memory()
    app.extensions["cache"] = RedisStore("cache", forgets)
    client.post("/v1/orders", json=order, headers=headers)
    assert list(memory.values) == list(positions(memory))
    assert [name.split(":")[1] for name in forgets.values] == ["principal"]
    forgets.values.clear()
    assert source(client, headers) == "primary"
    assert list(positions(memory).values()) == [b"written"]


def test_mark_precedes_the_write(
    client: FlaskClient,
    headers: dict[str, str],
    order: dict[str, str],
    memory: Memory,
    replica: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def look(*_: object) -> None:
        assert list(positions(memory).values()) == [b"written"]
        raise ValueError("seen")

    monkeypatch.setattr("tradefleet.domains.orders.services.place", look)
    client.post("/v1/orders", json=order, headers=headers)
    assert len(positions(memory)) == 1


def test_lagging_replica_does_not_answer(
    client: FlaskClient, headers: dict[str, str], memory: Memory, primary: Server, replica: Server
) -> None:
    primary.position = 6
    assert source(client, headers) == "primary"
    assert list(positions(memory).values()) == [b"6/0"]
    assert source(client, headers) == "primary"
    replica.position = 6
    assert source(client, headers) == "replica"


def test_read_that_began_before_a_write_keeps_its_mark(
    client: FlaskClient,
    headers: dict[str, str],
    order: dict[str, str],
    memory: Memory,
    replica: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = services.page

    def slow(*arguments: Any) -> Any:
        found = page(*arguments)
        monkeypatch.setattr(services, "page", page)
        assert client.post("/v1/orders", json=order, headers=headers).status_code == 201
        return found

    monkeypatch.setattr(services, "page", slow)
    assert source(client, headers) == "primary"
    assert list(positions(memory).values()) == [b"written"]


@pytest.mark.usefixtures("memory")
def test_primary_as_the_last_resort_is_reported_as_the_primary(
    client: FlaskClient, headers: dict[str, str], replica: Server
) -> None:
    replica.replays = False
    assert [source(client, headers) for _ in range(2)] == ["primary", "primary"]
    assert replica.queries == 1


def test_without_positions_the_primary_answers(client: FlaskClient, headers: dict[str, str], replica: Server) -> None:
    assert [source(client, headers) for _ in range(2)] == ["primary", "primary"]
    assert replica.queries == 0


@pytest.mark.parametrize("junk", [b"", b"\xff", b"1", b"1/", b"1/0; DROP TABLE orders", b"1/0\n"])
def test_malformed_position_is_ignored(
    client: FlaskClient, headers: dict[str, str], memory: Memory, replica: Server, junk: bytes
) -> None:
    source(client, headers)
    memory.values |= dict.fromkeys(positions(memory), junk)
    assert source(client, headers) == "primary"
    assert replica.queries == 0


@pytest.mark.usefixtures("memory", "replica")
def test_missing_order_is_404_from_a_replica_too(app: Flask, client: FlaskClient, headers: dict[str, str]) -> None:
    source(client, headers)
    path = "/v1/orders/00000000-0000-0000-0000-000000000000"
    assert [client.get(path, headers=headers).status_code for _ in range(3)] == [404, 404, 404]
    assert app.extensions["replica_breaker"].allows()


@pytest.mark.usefixtures("memory", "replica")
def test_unreachable_replica_costs_one_read_per_pause(app: Flask, client: FlaskClient, headers: dict[str, str]) -> None:
    source(client, headers)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        address = Address("127.0.0.1", silent.getsockname()[1])
        # This is not a secret.
        settings = DatabaseSettings(hosts=(address,), replicas=(address,), ca_file="/nonexistent", password="x")  # noqa: S106
        app.extensions["replica"].dispose()
        app.extensions["replica"] = make_replica_engine(settings)
        app.extensions["replica_breaker"] = Breaker(60)
        began = time.monotonic()
        assert source(client, headers) == "primary"
        # A primary is waited for longer.
        assert 0.5 < time.monotonic() - began < 1.9
        assert source(client, headers) == "primary"
        silent.setblocking(False)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()


@pytest.fixture
def no_primary(app: Flask, closed: Address, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Make the primary refuse from the call on."""
    # This is not a secret.
    settings = DatabaseSettings(hosts=(closed,), ca_file="/nonexistent", password="x")  # noqa: S106
    engine = make_engine(settings, Path("/nonexistent"))
    return lambda: monkeypatch.setitem(app.extensions, "database", engine)


@pytest.mark.usefixtures("memory", "replica")
def test_known_trader_reads_without_a_primary(
    client: FlaskClient, headers: dict[str, str], no_primary: Callable[[], None]
) -> None:
    source(client, headers)
    no_primary()
    assert source(client, headers) == "replica"


@pytest.mark.usefixtures("replica")
def test_key_that_a_replica_lacks_is_not_rejected(client: FlaskClient, no_primary: Callable[[], None]) -> None:
    no_primary()
    assert client.get("/v1/orders", headers={"Authorization": f"Bearer {'n' * 32}"}).status_code == 503


@pytest.mark.usefixtures("replica")
def test_removed_key_is_rejected_even_if_a_replica_has_it(
    app: Flask, client: FlaskClient, headers: dict[str, str]
) -> None:
    assert client.get("/v1/orders", headers=headers).status_code == 200
    with app.app_context():
        db.transact(lambda session: session.execute(delete(ApiKey)))
    assert client.get("/v1/orders", headers=headers).status_code == 401


@pytest.mark.usefixtures("memory", "replica")
def test_known_keys_wait_only_once_for_a_silent_primary(
    app: Flask, client: FlaskClient, headers: dict[str, str], silent: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    source(client, headers)
    # This is not a secret.
    settings = DatabaseSettings(hosts=(silent,), ca_file="/nonexistent", password="x")  # noqa: S106
    monkeypatch.setitem(app.extensions, "database", make_engine(settings, Path("/nonexistent")))
    began = time.monotonic()
    assert source(client, headers) == "replica"
    assert 1.9 < time.monotonic() - began < 3
    began = time.monotonic()
    assert [source(client, headers) for _ in range(3)] == ["replica"] * 3
    assert time.monotonic() - began < 1


@pytest.mark.usefixtures("memory", "replica")
def test_request_waits_for_the_primary_while_no_server_answers(
    app: Flask, client: FlaskClient, headers: dict[str, str], closed: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    source(client, headers)
    # This is not a secret.
    settings = DatabaseSettings(hosts=(closed,), replicas=(closed,), ca_file="/nonexistent", password="x")  # noqa: S106
    monkeypatch.setitem(app.extensions, "replica", make_replica_engine(settings))
    engine: Engine = app.extensions["database"]
    engine.dispose()
    back_at = time.monotonic() + PRIMARY_SECONDS + 1

    def connect(*_: object) -> None:
        """Wait as for a PostgreSQL that is restarting."""
        while time.monotonic() < back_at:
            if not deadline.remaining(0):
                raise sqlite3.OperationalError
            time.sleep(0.05)

    event.listen(engine, "do_connect", connect)
    assert client.get("/v1/orders", headers=headers).status_code == 200


@pytest.mark.usefixtures("memory", "replica")
def test_recovered_primary_decides_about_keys_again(app: Flask, client: FlaskClient, headers: dict[str, str]) -> None:
    source(client, headers)
    breaker = app.extensions["primary_breaker"] = Breaker(0.2)
    breaker.failed()
    with app.app_context():
        db.transact(lambda session: session.execute(delete(ApiKey)))
    assert source(client, headers) == "replica"
    time.sleep(0.2)
    assert client.get("/v1/orders", headers=headers).status_code == 401


def test_without_replicas_they_have_no_engine() -> None:
    address = Address("127.0.0.1", 1)
    assert make_replica_engine(DatabaseSettings()) is None
    assert make_replica_engine(DatabaseSettings(replicas=(address,))) is None
    assert make_replica_engine(DatabaseSettings(hosts=(address,))) is None
