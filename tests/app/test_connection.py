# ruff: noqa: D103  # the name of a test states what it asserts
"""The parameters of a database connection, and the errors that end one."""

import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from tradefleet.platform import deadline
from tradefleet.platform.postgres import connection, database
from tradefleet.platform.postgres.connection import Connector
from tradefleet.platform.settings import Address, DatabaseSettings

from .test_store import self_signed

HOSTS = (Address("10.0.0.1", 5000), Address("10.0.0.2", 5000))
# This is no secret, nor a file that is read.
SETTINGS = DatabaseSettings(hosts=HOSTS, replicas=HOSTS[:1], ca_file="/ca", password="x")  # noqa: S106
# The errors for a server that cannot be trusted, and for one that disconnects after the first message.
SAID = {"": "unexpected eof", "authority": "certificate verify failed", "name": "does not match host name"}


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The parameters of each attempt to connect; all attempts fail, and there is no time for a second round."""
    attempts: list[dict[str, Any]] = []

    def refuse(conninfo: str, seconds: float) -> None:
        attempts.append(conninfo_to_dict(conninfo))
        raise psycopg.OperationalError("refused")

    monkeypatch.setattr(connection, "_open", refuse)
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 0.0)
    return attempts


def connect(connector: Connector) -> None:
    with pytest.raises(psycopg.OperationalError, match="refused"):
        connector()


def test_address_is_verified_unless_a_name_is_set(attempts: list[dict[str, Any]]) -> None:
    connect(Connector(SETTINGS, HOSTS, writes=True))
    named = DatabaseSettings(hosts=HOSTS[:1], tls_name="postgres.example", ca_file="/ca")
    connect(Connector(named, named.hosts, writes=True))
    seen = [(one["host"], one["hostaddr"], str(one["port"]), one["sslmode"]) for one in attempts]
    assert seen == [
        ("10.0.0.1", "10.0.0.1", "5000", "verify-full"),
        ("10.0.0.2", "10.0.0.2", "5000", "verify-full"),
        ("postgres.example", "10.0.0.1", "5000", "verify-full"),
    ]


@pytest.mark.parametrize(
    ("for_migrations", "expected"),
    [(True, "-c lock_timeout=1500ms -c client_connection_check_interval=5s"), (False, None)],
)
def test_only_migrations_set_their_own_limits(
    attempts: list[dict[str, Any]], for_migrations: bool, expected: str | None
) -> None:
    engine = database.make_engine(SETTINGS, Path("/nonexistent"), for_migrations=for_migrations)
    with pytest.raises(Exception, match="refused"):
        engine.connect()
    assert [(one.get("options"), one["target_session_attrs"]) for one in attempts] == [(expected, "read-write")] * 2


@pytest.mark.parametrize(("writes", "rounds"), [(True, 3), (False, 1)])
def test_connection_waits_for_a_primary(
    attempts: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, writes: bool, rounds: int
) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(connection, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(connection, "PAUSE_SECONDS", 0.2)
    connect(Connector(SETTINGS, HOSTS, writes=writes))
    assert len(attempts) == rounds * len(HOSTS)


@pytest.mark.parametrize("wrong", ["", "authority", "name"])
def test_untrusted_server_receives_nothing(wrong: str, tmp_path: Path) -> None:
    right = self_signed(tmp_path / "right", "127.0.0.1")
    shown = {"": right}.get(wrong) or self_signed(tmp_path / "shown", "127.0.0.2" if wrong == "name" else "127.0.0.1")
    trusted = tmp_path / "trusted.pem"
    trusted.write_text((shown if wrong == "name" else right).joinpath("ca.pem").read_text())
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(shown / "tls.pem")
    heard: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        plain, _ = listener.accept()
        with plain, suppress(ssl.SSLError):
            plain.recv(8)  # the request for TLS
            plain.sendall(b"S")
            with tls.wrap_socket(plain, server_side=True) as session:
                heard.append(session.recv(1024))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = Address("127.0.0.1", listener.getsockname()[1])
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        # This is not a secret.
        settings = DatabaseSettings(hosts=(host,), ca_file=str(trusted), password="x")  # noqa: S106
        with pytest.raises(psycopg.OperationalError, match=SAID[wrong]), deadline.budget(10):
            Connector(settings, (host,), writes=False)()
        server.join()
    # The user's name comes first.
    assert b"".join(heard) == b"" if wrong else b"tradefleet" in heard[0]


def test_single_address_is_not_queried_for_its_role(attempts: list[dict[str, Any]]) -> None:
    """A pooler would return the role of its first session, when its server may have been a replica."""
    connect(Connector(SETTINGS, HOSTS[:1], writes=True))
    assert [one["target_session_attrs"] for one in attempts] == ["any"]


def test_replica_need_not_accept_writes(attempts: list[dict[str, Any]]) -> None:
    engine = database.make_replica_engine(SETTINGS)
    assert engine
    with pytest.raises(Exception, match="refused"):
        engine.connect()
    assert [("options" in one, one["hostaddr"], one["target_session_attrs"]) for one in attempts] == [
        (False, "10.0.0.1", "any")
    ]


@pytest.mark.parametrize(
    ("state", "is_lost"),
    [("25006", True), ("57P01", True), ("57P03", True), ("08006", True), ("08P01", True), ("55000", True),
     ("23505", False), ("40001", False), ("57014", False), ("", False)],
)  # fmt: skip
def test_errors_of_an_unusable_server_drop_the_pool(state: str, is_lost: bool) -> None:
    context: Any = SimpleNamespace(original_exception=SimpleNamespace(sqlstate=state), is_disconnect=False)
    database._mark_lost_server(context)
    assert context.is_disconnect is is_lost
