"""Each hop rejects plain text, another CA, another name, a missing or wrong user, and too many permissions."""

import itertools
import json
import re
import socket
import ssl

import pytest
from redis_fleet import (
    ADDRESSES,
    CA,
    DOORS,
    KNOCK,
    PORTS,
    TLS,
    Answer,
    Case,
    client_line,
    primary,
    query,
    role,
    together,
)

EVERY_DOOR = list(itertools.product(ADDRESSES, DOORS))
APP = {"state": "molecule-app", "cache": "molecule-cache-app", "sentinel": "molecule-sentinel-app"}


def line(door: str, user: str, *command: str, password: str = "", address: str = ADDRESSES[1]) -> tuple[str, ...]:
    """Return the command line of a user at a door, with the user's own password by default."""
    password = password or (APP[door] if user == "app" else f"molecule-{user}")
    return client_line(address, *command, port=DOORS[door], user=user, password=password)


def nameless(*options: str) -> dict[tuple[str, str], Answer]:
    """Return the response of each door of each host to a client without a user name."""
    return together(
        ADDRESSES[0],
        {
            (address, door): ("redis-cli", *options, "-e", "-t", "2", "-h", address, "-p", str(DOORS[door]), "PING")
            for address, door in EVERY_DOOR
        },
    )


def let_in(answers: dict[Case, Answer], refusal: str) -> dict[Case, Answer]:
    """Return the cases that were not rejected with this message."""
    assert answers
    return {
        case: answer for case, answer in answers.items() if answer.status == 0 or not re.search(refusal, answer.stderr)
    }


def test_plain_text_is_rejected() -> None:
    """No port answers a client that does not use TLS, not even with an error."""
    answers = nameless()
    assert let_in(answers, "I/O error|Server closed the connection|reset") == {}
    assert {answer.stdout for answer in answers.values()} == {""}


def test_user_is_required() -> None:
    """The default user is off: a connection without a user may not even ping, and no password is valid for it."""
    assert let_in(nameless(*TLS[:3]), "NOAUTH") == {}
    default = {
        (address, door): line(door, "default", "PING", password=APP[door], address=address)
        for address, door in EVERY_DOOR
    }
    assert let_in(together(ADDRESSES[0], default), "WRONGPASS") == {}


def test_public_cas_do_not_verify_the_certificate() -> None:
    """The fleet's CA issued the certificate, and no public one did."""
    public = ("--tls", "--cacert", "/etc/ssl/certs/ca-certificates.crt")
    assert let_in(nameless(*public), "certificate verify failed") == {}


@pytest.mark.parametrize("door", DOORS)
def test_older_tls_is_rejected(door: str) -> None:
    """TLS 1.3 is the only version: every client here supports it."""
    context = ssl.create_default_context(cafile=CA)
    assert greet(context, door, ADDRESSES[0]) == "TLSv1.3"
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
        greet(context, door, ADDRESSES[0])


def greet(context: ssl.SSLContext, door: str, name: str) -> str | None:
    """Open a session at a door of the first host, expecting this name, and return the TLS version."""
    with (
        socket.create_connection((ADDRESSES[0], DOORS[door]), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=name) as session,
    ):
        return session.version()


@pytest.mark.parametrize("door", DOORS)
def test_another_name_is_not_trusted(door: str) -> None:
    """A client that verifies names, like the application, does not accept the host under another name."""
    context = ssl.create_default_context(cafile=CA)
    greet(context, door, ADDRESSES[0])
    for name in (ADDRESSES[1], "redis.example"):
        with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|not valid for"):
            greet(context, door, name)


def test_password_of_one_door_is_rejected_at_the_others() -> None:
    """The application has three passwords."""
    pairs = {(door, own): line(door, "app", *KNOCK[door], password=APP[own]) for door in DOORS for own in DOORS}
    answers = together(ADDRESSES[0], pairs)
    assert {door: answers.pop((door, door)).status for door in DOORS} == dict.fromkeys(DOORS, 0)
    assert let_in(answers, "WRONGPASS") == {}


def test_application_has_access_only_to_its_keys() -> None:
    """It needs only GET and SET below its prefix; administration and other keys are rejected."""
    commands = [
        ("GET", "other:key"),
        ("SET", "other:key", "x"),
        ("DEL", "tradefleet:key"),
        ("HSET", "tradefleet:key", "a", "b"),
        ("XADD", "tradefleet:key", "*", "a", "b"),
        ("EVAL", "return redis.call('get', KEYS[1])", "1", "tradefleet:key"),
        ("PUBLISH", "tradefleet:channel", "x"),
        ("CONFIG", "GET", "maxmemory"),
        ("INFO",),
        ("FLUSHALL",),
        ("KEYS", "*"),
        ("SCAN", "0"),
        ("ACL", "LIST"),
        ("SHUTDOWN", "NOSAVE"),
        ("REPLICAOF", "NO", "ONE"),
        ("PSYNC", "?", "-1"),
        ("CLIENT", "PAUSE", "1", "WRITE"),
    ]
    cases = {(service, *command): line(service, "app", *command) for service in PORTS for command in commands}
    assert let_in(together(ADDRESSES[0], cases), "(?i)permission") == {}


def test_each_user_has_one_purpose() -> None:
    """A user for replication, monitoring or backups has no other permissions."""
    cases = [
        ("state", "backup", "GET", "tradefleet:x"),
        ("state", "backup", "SET", "tradefleet:x", "1"),
        ("state", "backup", "REPLICAOF", "NO", "ONE"),
        ("state", "replica", "GET", "tradefleet:x"),
        ("cache", "replica", "SET", "tradefleet:x", "1"),
        ("state", "sentinel", "GET", "tradefleet:x"),
        ("cache", "sentinel", "CONFIG", "SET", "maxmemory", "1"),
    ]
    assert let_in(together(ADDRESSES[0], {case: line(*case) for case in cases}), "NOPERM") == {}


def test_clients_of_sentinel_can_only_query() -> None:
    """The application finds the primary of either service, but may not move it, and neither may other Sentinels."""
    find = ("--json", "SENTINEL", "MASTERS")
    orders = [("SENTINEL", "FAILOVER", service) for service in PORTS]
    cases = {
        (user, command): line("sentinel", user, *command, password=f"molecule-sentinel-{user}")
        for user in ("app", "peer")
        for command in (find, *orders)
    }
    answers = together(ADDRESSES[0], cases)
    found = {each["name"]: each["ip"] for each in json.loads(answers.pop(("app", find)).stdout)}
    assert found == {service: primary(ADDRESSES[0], service) for service in PORTS}
    assert let_in(answers, "NOPERM") == {}


# Rogue servers that try to follow the others: the defect in their options, and what they then log.
ROGUES: dict[str, tuple[dict[str, str], str]] = {
    "plain text": ({"--tls-replication": "no"}, ""),
    "another authority": (
        {"--tls-ca-cert-file": "/etc/ssl/certs/ca-certificates.crt"},
        "certificate verify failed",
    ),
    "wrong password": ({"--masterauth": "wrong"}, "WRONGPASS"),
    "the application": ({"--masteruser": "app", "--masterauth": "molecule-app"}, "NOPERM"),
    "sentinel": ({"--masteruser": "sentinel", "--masterauth": "molecule-sentinel"}, "NOPERM"),
}
SYNCED = "MASTER <-> REPLICA sync: Finished with success"


@pytest.fixture(scope="module")
def rogues() -> dict[str, Answer]:
    """Run them in parallel for a moment, also "none" without a defect; "followers" is what the server reports."""
    # A replica is followed, because Sentinel would record any follower of the primary.
    followed = next(address for address in ADDRESSES if role(address) != ["primary"])
    lines: dict[str, tuple[str, ...]] = {
        "followers": ("sh", "-c", f"sleep 3; redis-cli-state -h {followed} INFO replication")
    }
    for number, (name, (wrong, _)) in enumerate({"none": ({}, ""), **ROGUES}.items()):
        options = {
            "--port": "0",
            "--unixsocket": f"/run/rogue{number}.sock",
            "--dir": "/run",
            "--save": "",
            # A server that starts with earlier data requests only the rest.
            "--dbfilename": f"rogue{number}.rdb",
            "--rdb-del-sync-files": "yes",
            "--tls-replication": "yes",
            "--tls-ca-cert-file": "/etc/ssl/tradefleet/ca.crt",
            "--tls-cert-file": "/etc/ssl/tradefleet/host.crt",
            "--tls-key-file": "/etc/ssl/tradefleet/host.key",
            "--masteruser": "replica",
            "--masterauth": "molecule-replica",
            **wrong,
        }
        words = itertools.chain.from_iterable(options.items())
        lines[name] = ("timeout", "4", "redis-server", *words, "--replicaof", followed, str(PORTS["state"]))
    return together(ADDRESSES[1], lines)


def test_replica_syncs_over_tls_with_the_ca_and_a_password(rogues: dict[str, Answer]) -> None:
    """With all three it is served, and only it is counted; the next test removes one at a time."""
    assert SYNCED in rogues["none"].stdout
    assert "connected_slaves:1" in rogues["followers"].stdout.split()


@pytest.mark.parametrize("name", ROGUES)
def test_replica_without_one_of_them_gets_nothing(rogues: dict[str, Answer], name: str) -> None:
    """Nothing is synced."""
    log = rogues[name].stdout
    assert "REPLICA sync started" in log
    assert SYNCED not in log
    assert ROGUES[name][1] in log


def test_sentinel_sends_its_password_only_to_a_trusted_server() -> None:
    """Two unknown Sentinels use different users that Redis does not know either: it receives only one of them."""
    target = ADDRESSES[0]
    authorities = {"trusts": "/etc/ssl/tradefleet/ca.crt", "trusts-not": "/etc/ssl/certs/ca-certificates.crt"}
    lines = {}
    for user, authority in authorities.items():
        settings = f"""port 0
            unixsocket /run/{user}.sock
            dir /run
            tls-replication yes
            tls-ca-cert-file {authority}
            tls-cert-file /etc/ssl/tradefleet/host.crt
            tls-key-file /etc/ssl/tradefleet/host.key
            sentinel monitor state {target} {PORTS["state"]} 9
            sentinel auth-user state {user}
            sentinel auth-pass state x"""
        run = f"echo '{settings}' > /run/{user}.conf; timeout 3 redis-sentinel /run/{user}.conf"
        lines[user] = ("sh", "-c", run)
    together(ADDRESSES[1], lines)
    refused = {entry["username"] for entry in json.loads(query(target, "--json", "ACL", "LOG"))}
    assert refused & {*authorities} == {"trusts"}
