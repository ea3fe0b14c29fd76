"""Each hop refuses what it must: plain text, another CA, another name, no user, the wrong user, too many rights."""

import shlex
import socket
import ssl

import pytest
from redis_fleet import ADDRESSES, CA, PORTS, TLS, as_client, ask, on, primary, refusal
from testinfra.host import Host

SENTINEL = 26379
DOORS = {"state": PORTS["state"], "cache": PORTS["cache"], "sentinel": SENTINEL}
door = pytest.mark.parametrize("port", DOORS.values(), ids=DOORS.keys())
APP = {
    PORTS["state"]: "molecule-app",
    PORTS["cache"]: "molecule-cache-app",
    SENTINEL: "molecule-sentinel-app",
}


def address_of(host: Host) -> str:
    """Return the address on which the host's servers listen."""
    return str(host.check_output("hostname -I")).split()[0]


@door
def test_plain_text_is_refused(host: Host, port: int) -> None:
    """No port answers a client that does not speak TLS, not even with an error."""
    plain = host.run(f"redis-cli -e -t 2 -h {address_of(host)} -p {port} PING")
    assert plain.rc != 0
    assert not plain.stdout
    assert "I/O error" in plain.stderr or "Server closed the connection" in plain.stderr or "reset" in plain.stderr


@door
def test_nobody_gets_in_without_a_user(host: Host, port: int) -> None:
    """The default user is off: a connection without a name may not even ping, nor is any password its."""
    anonymous = host.run(f"redis-cli {' '.join(TLS)} -h {address_of(host)} -p {port} PING")
    assert anonymous.rc != 0
    assert "NOAUTH" in anonymous.stderr
    assert "WRONGPASS" in refusal(ADDRESSES[0], address_of(host), "PING", port=port, user="default", password=APP[port])


@door
def test_another_authority_is_not_trusted(host: Host, port: int) -> None:
    """The certificate is signed by the fleet's CA and by no public one."""
    other = "--tls --cacert /etc/ssl/certs/ca-certificates.crt"
    stranger = host.run(f"redis-cli {other} -e -t 2 -h {address_of(host)} -p {port} PING")
    assert stranger.rc != 0
    assert "certificate verify failed" in stranger.stderr


@door
def test_another_name_is_not_trusted(port: int) -> None:
    """A client that compares names, as the application does, takes the host for no other."""
    context = ssl.create_default_context(cafile=CA)

    def greet(name: str) -> None:
        with (
            socket.create_connection((ADDRESSES[0], port), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname=name),
        ):
            pass

    greet(ADDRESSES[0])
    for name in (ADDRESSES[1], "redis.example"):
        with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|not valid for"):
            greet(name)


@door
def test_one_doors_password_opens_no_other(port: int) -> None:
    """The application has three."""
    assert as_client(ADDRESSES[0], ADDRESSES[1], "PING", port=port, password=APP[port]) == "PONG"
    for password in set(APP.values()) - {APP[port]}:
        assert "WRONGPASS" in refusal(ADDRESSES[0], ADDRESSES[1], "PING", port=port, password=password)


@pytest.mark.parametrize("service", ["state", "cache"])
@pytest.mark.parametrize(
    "command",
    [
        ("CONFIG", "GET", "maxmemory"),
        ("FLUSHALL",),
        ("KEYS", "*"),
        ("SCAN", "0"),
        ("GET", "other:key"),
        ("PUBLISH", "other:channel", "x"),
        ("ACL", "LIST"),
        ("SHUTDOWN", "NOSAVE"),
        ("REPLICAOF", "NO", "ONE"),
        ("PSYNC", "?", "-1"),
        ("CLIENT", "PAUSE", "1", "WRITE"),
        ("EVAL", "return redis.call('get', KEYS[1])", "1", "other:key"),
        ("EVAL", "return redis.call('get', 'other:key')", "0"),
    ],
    ids=" ".join,
)
def test_application_may_do_nothing_beyond_its_keys(service: str, command: tuple[str, ...]) -> None:
    """Administration, the key space as a whole and everybody else's keys are refused."""
    port = PORTS[service]
    assert "permission" in refusal(ADDRESSES[0], ADDRESSES[1], *command, port=port, password=APP[port]).lower()


@pytest.mark.parametrize("command", [("EVAL", "return 1", "0"), ("XADD", "tradefleet:x", "*", "a", "b")], ids=" ".join)
def test_the_cache_takes_less_than_state(command: tuple[str, ...]) -> None:
    """No scripts, no streams."""
    said = refusal(ADDRESSES[0], ADDRESSES[1], *command, port=PORTS["cache"], password=APP[PORTS["cache"]])
    assert "NOPERM" in said


@pytest.mark.parametrize(
    ("service", "user", "command"),
    [
        ("state", "backup", ("GET", "tradefleet:x")),
        ("state", "backup", ("SET", "tradefleet:x", "1")),
        ("state", "backup", ("REPLICAOF", "NO", "ONE")),
        ("state", "replica", ("GET", "tradefleet:x")),
        ("cache", "replica", ("SET", "tradefleet:x", "1")),
        ("state", "sentinel", ("GET", "tradefleet:x")),
        ("cache", "sentinel", ("CONFIG", "SET", "maxmemory", "1")),
    ],
)
def test_each_user_has_one_purpose(service: str, user: str, command: tuple[str, ...]) -> None:
    """Who replicates, watches or backs up does nothing else."""
    said = refusal(ADDRESSES[0], ADDRESSES[1], *command, port=PORTS[service], user=user, password=f"molecule-{user}")
    assert "NOPERM" in said


@pytest.mark.parametrize("service", ["state", "cache"])
def test_sentinels_clients_ask_and_order_nothing(service: str) -> None:
    """The application finds the primary of either service, and may not move it; nor may the other Sentinels."""
    sentinel = {"port": SENTINEL, "password": "molecule-sentinel-app"}
    found = as_client(ADDRESSES[0], ADDRESSES[1], "SENTINEL", "GET-MASTER-ADDR-BY-NAME", service, **sentinel)  # type: ignore[arg-type]  # (one value is a port)
    assert found.splitlines() == [primary(ADDRESSES[0], service), str(PORTS[service])]
    assert "NOPERM" in refusal(ADDRESSES[0], ADDRESSES[1], "SENTINEL", "FAILOVER", service, **sentinel)
    peer = {"port": SENTINEL, "user": "peer", "password": "molecule-sentinel-peer"}
    for command in (("FAILOVER", service), ("GET-MASTER-ADDR-BY-NAME", service)):
        assert "NOPERM" in refusal(ADDRESSES[0], ADDRESSES[1], "SENTINEL", *command, **peer)


def follower() -> str:
    """Return the address of a replica; Sentinel hears of whoever follows the primary, and would remember."""
    return next(address for address in ADDRESSES if address != primary(address))


def rogue(*options: str) -> str:
    """Return what a server says that somebody starts beside the others to follow them, with these options wrong."""
    right = {
        "--tls-replication": "yes",
        "--tls-ca-cert-file": "/etc/ssl/tradefleet/ca.crt",
        "--tls-cert-file": "/etc/ssl/tradefleet/host.crt",
        "--tls-key-file": "/etc/ssl/tradefleet/host.key",
        "--masteruser": "replica",
        "--masterauth": "molecule-replica",
    }
    right |= dict(zip(options[::2], options[1::2], strict=True))
    listen = (
        "--port",
        "0",
        "--unixsocket",
        "/run/rogue.sock",
        "--dir",
        "/run",
        "--save",
        "",
        "--replicaof",
        follower(),
        str(PORTS["state"]),
    )
    command = ("timeout", "2", "redis-server", *listen, *(word for pair in right.items() for word in pair))
    return on(ADDRESSES[1], "sh", "-c", f"{shlex.join(command)} || true")


def test_a_replica_syncs_over_tls_with_the_fleets_authority_and_a_password() -> None:
    """With all three it is served; the next test takes one away at a time."""
    assert "MASTER <-> REPLICA sync: Finished with success" in rogue()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--tls-replication", "no"), ""),
        (("--tls-ca-cert-file", "/etc/ssl/certs/ca-certificates.crt"), "certificate verify failed"),
        (("--masterauth", "wrong"), "WRONGPASS"),
        (("--masteruser", "app", "--masterauth", "molecule-app"), "NOPERM"),
        (("--masteruser", "sentinel", "--masterauth", "molecule-sentinel"), "NOPERM"),
    ],
    ids=["plain text", "another authority", "wrong password", "the application", "sentinel"],
)
def test_a_replica_without_one_of_them_gets_nothing(options: tuple[str, ...], said: str) -> None:
    """Nothing is synced, and nobody is counted as a replica."""
    log = rogue(*options)
    assert "sync: Finished with success" not in log
    assert said in log
    assert "connected_slaves:0" in ask(follower(), "INFO", "replication")
