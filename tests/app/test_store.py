# ruff: noqa: D103  # the name of a test states what it asserts
"""Failures of Redis: the client's behavior, tested with a stand-in that speaks the Redis protocol over TLS."""

import ipaddress
import re
import socketserver
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tradefleet.platform import deadline
from tradefleet.platform.breaker import Breaker
from tradefleet.platform.redis.store import CALL_SECONDS, SENTINEL_SECONDS, RedisStore, _connect
from tradefleet.platform.settings import Address, RedisSettings, Settings

from .conftest import MakeApp

ROLES = Path(__file__).parents[2] / "roles"
# Commands whose permission depends on their subcommand.
CONTAINERS = (b"CLIENT", b"SENTINEL")


class StandIn(socketserver.ThreadingTCPServer):
    """Sentinel and its primary in one. `says` is the response to SET and GET; None means silence."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.port = self.primary_port = self.server_address[1]
        self.seen: set[str] = set()
        # Errors of clients that disconnected before their first command.
        self.left: list[str] = []
        self.says: bytes | None = b"+OK\r\n"
        self.seconds = 0.0
        self.sessions = 0
        self.calls = 0
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(folder / "tls.pem")

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Record a client that disconnected during the handshake."""
        error = sys.exception()
        if isinstance(error, ssl.SSLError):
            self.left.append(str(error.reason))
        else:
            super().handle_error(request, client_address)


class _Session(socketserver.StreamRequestHandler):
    server: StandIn

    def setup(self) -> None:
        self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        super().setup()

    def finish(self) -> None:
        super().finish()
        self.request.close()

    def handle(self) -> None:
        asks = False
        while head := self.rfile.readline():
            words = []
            for _ in range(int(head[1:])):
                words.append(self.rfile.read(int(self.rfile.readline()[1:]) + 2)[:-2].upper())
            self.server.seen.add("|".join(word.decode().lower() for word in words[: 1 + (words[0] in CONTAINERS)]))
            if words[0] in (b"SET", b"GET"):
                self.server.sessions += not asks
                asks = True
                self.server.calls += 1
                if self.server.says is None:
                    time.sleep(3)
                    return
                self.wfile.write(self.server.says)
            elif words[0] == b"SENTINEL":
                time.sleep(self.server.seconds)
                port = str(self.server.primary_port)
                fields = [
                    "name",
                    "state",
                    "ip",
                    "127.0.0.1",
                    "port",
                    port,
                    "flags",
                    "master",
                    "num-other-sentinels",
                    "2",
                ]
                body = "".join(f"${len(field)}\r\n{field}\r\n" for field in fields)
                self.wfile.write(f"*1\r\n*{len(fields)}\r\n{body}".encode())
            else:
                self.wfile.write(b"+OK\r\n")


def self_signed(folder: Path, address: str) -> Path:
    """Create a key and a self-signed certificate in a folder, and return the folder."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"stand-in {address}")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(exist_ok=True)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "tls.pem").write_bytes(private + made.public_bytes(pem))
    (folder / "ca.pem").write_bytes(made.public_bytes(pem))
    return folder


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate of the stand-in."""
    return self_signed(tmp_path_factory.mktemp("tls"), "127.0.0.1")


@contextmanager
def serving(folder: Path) -> Iterator[StandIn]:
    """Run a stand-in with the certificate in a folder."""
    with StandIn(folder) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@contextmanager
def asking(sentinel: StandIn, ca_file: Path) -> Iterator[RedisStore]:
    """Yield a store that queries one Sentinel and trusts one file."""
    address = Address("127.0.0.1", sentinel.port)
    client = _connect(RedisSettings(sentinels=(address,), ca_file=str(ca_file)), "state", "")
    yield RedisStore("state", client)
    pool: Any = client.connection_pool
    for each in (client, *pool.sentinel_manager.sentinels):
        each.close()


@pytest.fixture
def stand_in(certificate: Path) -> Iterator[StandIn]:
    """The running stand-in."""
    with serving(certificate) as server:
        yield server


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set far longer timeouts than usual because machines may be busy, and a short pause."""
    for name, seconds in (("CALL_SECONDS", 6.0), ("SENTINEL_SECONDS", 5.0), ("PAUSE_SECONDS", 0.1)):
        monkeypatch.setattr(sys.modules["tradefleet.platform.redis.store"], name, seconds)


@pytest.fixture
def redis(stand_in: StandIn, certificate: Path) -> Iterator[RedisStore]:
    """A store that uses the stand-in."""
    with asking(stand_in, certificate / "ca.pem") as store:
        yield store


@pytest.mark.parametrize("door", ["sentinel", "primary"])
@pytest.mark.parametrize(("wrong", "alert"), [("authority", "UNKNOWN_CA"), ("name", "BAD_CERTIFICATE")])
def test_untrusted_server_receives_nothing(
    door: str, wrong: str, alert: str, certificate: Path, tmp_path: Path
) -> None:
    other = self_signed(tmp_path, "127.0.0.1" if wrong == "authority" else "127.0.0.2")
    trusted = tmp_path / "trusted.pem"
    trusts = [certificate] if wrong == "authority" else [certificate, other]
    trusted.write_text("".join((folder / "ca.pem").read_text() for folder in trusts))
    with serving(certificate) as good, serving(other) as bad:
        good.primary_port = bad.port
        with asking(good if door == "primary" else bad, trusted) as store:
            assert store.get("k") is None
            assert store.errors == 1
        ends_at = time.monotonic() + 2
        while not bad.left and time.monotonic() < ends_at:
            time.sleep(0.01)
        assert alert in bad.left[0]
        assert (bad.seen, "sentinel|masters" in good.seen) == (set(), door == "primary")


def test_permissions_are_the_commands_of_the_code(stand_in: StandIn, certificate: Path) -> None:
    uses: dict[str, Callable[[RedisStore], object]] = {
        "get": lambda store: store.get("k"),
        "put": lambda store: store.put("k", b"v", 1, only_if_new=True),
        "health": lambda store: store.health(),
    }
    assert uses.keys() == {name for name in vars(RedisStore) if not name.startswith("_")}
    with serving(certificate) as primary:
        stand_in.primary_port = primary.port
        with asking(stand_in, certificate / "ca.pem") as store:
            for use in uses.values():
                use(store)
            assert store.errors == 0
        # Authentication needs no permission.
        assert primary.seen - {"auth"} == granted("redis/templates/users.acl.j2")
        assert stand_in.seen - {"auth"} == granted("sentinel/templates/users-sentinel.acl.j2")


def granted(template: str) -> set[str]:
    """Return the commands that a role permits the application."""
    rights = (ROLES / template).read_text().partition("\nuser app ")[2].partition("\nuser ")[0]
    assert "-@all" in rights
    return set(re.findall(r"\+(\S+)", rights))


def test_demoted_primary_is_unhealthy_and_disconnected(redis: RedisStore, stand_in: StandIn) -> None:
    assert redis.health() == "ok"
    stand_in.says = b"-READONLY You can't write against a read only replica.\r\n"
    assert redis.health() == "down"
    stand_in.says = b"+OK\r\n"
    time.sleep(0.15)
    assert redis.health() == "ok"
    assert stand_in.sessions == 2


def test_each_service_has_its_name_and_password(make_app: MakeApp) -> None:
    settings = RedisSettings(sentinels=(Address("127.0.0.1", 1),), service="a", cache_service="b")
    app = make_app(Settings(redis=replace(settings, password="one", cache_password="two")))  # noqa: S106 (no secret)
    pools = [app.extensions[name]._client.connection_pool for name in ("state", "cache")]
    assert [pool.service_name for pool in pools] == ["a", "b"]
    assert [pool.connection_kwargs["password"] for pool in pools] == ["one", "two"]


def test_session_is_reused(redis: RedisStore, stand_in: StandIn) -> None:
    for _ in range(3):
        redis.put("k", b"v", 1)
    assert (redis.errors, stand_in.calls, stand_in.sessions) == (0, 3, 1)


@pytest.mark.parametrize(
    "refusal",
    [b"-READONLY You can't write against a read only replica.\r\n", b"-LOADING Redis is loading\r\n", b"-ERR no\r\n"],
)
def test_error_response_ends_the_session(redis: RedisStore, stand_in: StandIn, refusal: bytes) -> None:
    stand_in.says = refusal
    redis.put("k", b"v", 1)
    stand_in.says = b"$1\r\nv\r\n"
    time.sleep(0.15)
    assert redis.get("k") == b"v"
    assert (redis.errors, stand_in.sessions) == (1, 2)


def test_call_has_one_budget_for_all_its_steps(
    redis: RedisStore, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["tradefleet.platform.redis.store"], "CALL_SECONDS", 2.5)
    stand_in.says, stand_in.seconds = None, 1.0
    began = time.monotonic()
    assert redis.get("k") is None
    # A separate budget for each step would be 3.5 in total.
    assert 2.4 < time.monotonic() - began < 3.4
    assert stand_in.calls == 1


def test_call_takes_at_most_a_quarter_of_a_second() -> None:
    # These are the imported values: those of the fixture are longer.
    assert CALL_SECONDS <= 0.25
    assert 3 * SENTINEL_SECONDS <= CALL_SECONDS


def test_request_without_time_is_not_counted_as_a_failure_of_redis(redis: RedisStore, stand_in: StandIn) -> None:
    with deadline.budget(0.9):
        assert redis.get("k") is None
    assert (redis.errors, stand_in.calls) == (0, 0)


def test_threads_do_not_all_wait_for_an_unreachable_redis(
    redis: RedisStore, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["tradefleet.platform.redis.store"], "CALL_SECONDS", 1.5)
    breaker = redis._breaker = Breaker(60)
    stand_in.says = None
    assert redis.get("k") is None
    breaker._next_at = 0.0  # the pause is over
    with ThreadPoolExecutor(8) as threads:
        began = time.monotonic()
        waited = sorted(threads.map(lambda _: (redis.get("k"), time.monotonic() - began)[1], range(8)))
    # One thread retries; the others do not wait for it.
    assert waited[-2] < 1.4 < waited[-1]
    assert stand_in.calls == 2


def test_one_call_is_tried_after_each_pause_until_one_succeeds() -> None:
    breaker = Breaker(0.05)
    assert [breaker.allows() for _ in range(3)] == [True, True, True]
    breaker.failed()
    assert not breaker.allows()
    time.sleep(0.06)
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    time.sleep(0.06)  # that call had no result: it counts as failed
    assert [breaker.allows() for _ in range(2)] == [True, False]
    breaker.succeeded()
    assert [breaker.allows() for _ in range(3)] == [True, True, True]
