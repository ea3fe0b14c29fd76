"""Each hop refuses what it must: plain text, another CA, another name, no user, the wrong user, too many rights."""

import itertools
import json
import re
import socket
import ssl

import pytest
from redis_fleet import ADDRESSES, CA, DOORS, KNOCK, PORTS, TLS, Answer, Case, ask, client_line, primary, role, together

EVERY_DOOR = list(itertools.product(ADDRESSES, DOORS))
APP = {"state": "molecule-app", "cache": "molecule-cache-app", "sentinel": "molecule-sentinel-app"}


def line(door: str, user: str, *command: str, password: str = "", address: str = ADDRESSES[1]) -> tuple[str, ...]:
    """Return the command line with which a user, with its own password if no other is given, asks at a door."""
    password = password or (APP[door] if user == "app" else f"molecule-{user}")
    return client_line(address, *command, port=DOORS[door], user=user, password=password)


def nameless(*options: str) -> dict[tuple[str, str], Answer]:
    """Return what each door of each host answers to a client that gives no name."""
    return together(
        ADDRESSES[0],
        {
            (address, door): ("redis-cli", *options, "-e", "-t", "2", "-h", address, "-p", str(DOORS[door]), "PING")
            for address, door in EVERY_DOOR
        },
    )


def let_in(answers: dict[Case, Answer], refusal: str) -> dict[Case, Answer]:
    """Return those that were not refused in these words."""
    assert answers
    return {
        case: answer for case, answer in answers.items() if answer.status == 0 or not re.search(refusal, answer.stderr)
    }


def test_plain_text_is_refused() -> None:
    """No port answers a client that does not speak TLS, not even with an error."""
    answers = nameless()
    assert let_in(answers, "I/O error|Server closed the connection|reset") == {}
    assert {answer.stdout for answer in answers.values()} == {""}


def test_nobody_gets_in_without_a_user() -> None:
    """The default user is off: a connection without a name may not even ping, nor is any password its."""
    assert let_in(nameless(*TLS[:3]), "NOAUTH") == {}
    default = {
        (address, door): line(door, "default", "PING", password=APP[door], address=address)
        for address, door in EVERY_DOOR
    }
    assert let_in(together(ADDRESSES[0], default), "WRONGPASS") == {}


def test_another_authority_is_not_trusted() -> None:
    """The certificate is signed by the fleet's CA and by no public one."""
    public = ("--tls", "--cacert", "/etc/ssl/certs/ca-certificates.crt")
    assert let_in(nameless(*public), "certificate verify failed") == {}


@pytest.mark.parametrize("door", DOORS)
def test_an_older_tls_is_refused(door: str) -> None:
    """TLS 1.3 alone: every client here speaks it."""
    context = ssl.create_default_context(cafile=CA)
    assert greet(context, door, ADDRESSES[0]) == "TLSv1.3"
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
        greet(context, door, ADDRESSES[0])


def greet(context: ssl.SSLContext, door: str, name: str) -> str | None:
    """Open a session at a door of the first host, as if the name were its, and return the version of TLS."""
    with (
        socket.create_connection((ADDRESSES[0], DOORS[door]), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=name) as session,
    ):
        return session.version()


@pytest.mark.parametrize("door", DOORS)
def test_another_name_is_not_trusted(door: str) -> None:
    """A client that compares names, as the application does, takes the host for no other."""
    context = ssl.create_default_context(cafile=CA)
    greet(context, door, ADDRESSES[0])
    for name in (ADDRESSES[1], "redis.example"):
        with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|not valid for"):
            greet(context, door, name)


def test_one_doors_password_opens_no_other() -> None:
    """The application has three."""
    pairs = {(door, own): line(door, "app", *KNOCK[door], password=APP[own]) for door in DOORS for own in DOORS}
    answers = together(ADDRESSES[0], pairs)
    assert {door: answers.pop((door, door)).status for door in DOORS} == dict.fromkeys(DOORS, 0)
    assert let_in(answers, "WRONGPASS") == {}


def test_application_may_do_nothing_beyond_its_keys() -> None:
    """GET and SET below its prefix are all that it needs; administration and everybody else's keys are refused."""
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
    """Who replicates, watches or backs up does nothing else."""
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


def test_sentinels_clients_ask_and_order_nothing() -> None:
    """The application finds the primary of either service, and may not move it; nor may the other Sentinels."""
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


# Servers that somebody starts to follow the others: what is wrong with their options, and what they log then.
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
    """Run them side by side for a moment, and «none» with nothing wrong; «followers»: what the server saw."""
    # A replica: Sentinel hears of whoever follows the primary, and would remember.
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
            # Whoever starts with what it was sent before asks for the rest alone.
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


def test_a_replica_syncs_over_tls_with_the_fleets_authority_and_a_password(rogues: dict[str, Answer]) -> None:
    """With all three it is served, and it alone is counted; the next test takes one away at a time."""
    assert SYNCED in rogues["none"].stdout
    assert "connected_slaves:1" in rogues["followers"].stdout.split()


@pytest.mark.parametrize("name", ROGUES)
def test_a_replica_without_one_of_them_gets_nothing(rogues: dict[str, Answer], name: str) -> None:
    """Nothing is synced."""
    log = rogues[name].stdout
    assert "REPLICA sync started" in log
    assert SYNCED not in log
    assert ROGUES[name][1] in log


def test_a_sentinel_shows_its_password_to_nobody_of_another_authority() -> None:
    """Two that nobody knows, each with a user of its own that Redis does not know either: it hears of one of them."""
    asked = ADDRESSES[0]
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
            sentinel monitor state {asked} {PORTS["state"]} 9
            sentinel auth-user state {user}
            sentinel auth-pass state x"""
        run = f"echo '{settings}' > /run/{user}.conf; timeout 3 redis-sentinel /run/{user}.conf"
        lines[user] = ("sh", "-c", run)
    together(ADDRESSES[1], lines)
    refused = {entry["username"] for entry in json.loads(ask(asked, "--json", "ACL", "LOG"))}
    assert refused & {*authorities} == {"trusts"}
