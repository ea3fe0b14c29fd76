"""Does each port accept the hosts, certificates and users that docs/install.md names, before any firewall exists?

One host of each kind sends queries to one host of each kind, with its own certificate and without a password.
"""

import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from inside import into, on
from lab import ADDRESSES, INVENTORY, PROJECT, traffic

PAGE = (PROJECT / "docs/install.md").read_text()
PROBE = (Path(__file__).parent / "access_probe.py").read_text()
Row = list[str]


def table(first_heading: str) -> list[Row]:
    """Return the rows of the page's table whose first column has this heading, as lists of cells."""
    lines = PAGE.split(f"\n| {first_heading} |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def ports(cell: str) -> set[int]:
    """Return the ports in a cell; VRRP has none."""
    return set() if "VRRP" in cell else {int(port) for port in re.findall(r"\b\d+\b", cell)}


@cache
def kinds() -> dict[frozenset[str], list[str]]:
    """Return the hosts that are in the same groups, for each such set of groups."""
    found: dict[str, set[str]] = {host: set() for host in ADDRESSES}

    def visit(name: str, group: dict[str, Any], parents: set[str]) -> None:
        for host in group.get("hosts") or {}:
            found[host] |= {*parents, name}
        for child, content in (group.get("children") or {}).items():
            visit(child, content or {}, {*parents, name})

    visit("all", yaml.safe_load((INVENTORY / "hosts.yml").read_text())["all"], set())
    grouped: dict[frozenset[str], list[str]] = {}
    for host, groups in found.items():
        grouped.setdefault(frozenset(groups), []).append(host)
    return grouped


def groups_in(cell: str) -> set[str]:
    """Return the groups in a cell; the controller, clients and external servers are in none."""
    return {"all"} if "all hosts" in cell else set(re.findall(r"`(\w+)`", cell)) - {"fleet_vip"}


# Without an ACME server, as in the lab, its ports are closed.
ALLOWED = [
    (groups_in(source), groups_in(target), ports(cell)) for source, target, cell in table("from") if "ACME" not in cell
]
DAEMONS = {
    port: {"certificate": certificate, "hosts": hosts, "open": answered}
    for numbers, _, certificate, hosts, answered in table("port")
    for port in ports(numbers)
}


def serves(groups: frozenset[str]) -> set[int]:
    """Return the ports on which hosts in these groups serve others; a color without a release serves none."""
    idle = any(f"app_{color}" in groups and not traffic()[f"release_{color}"] for color in ("blue", "green"))
    served = {port for _, target, numbers in ALLOWED if target & groups for port in numbers}
    return served - {8443, 9464} if idle else served


def http(method: str, path: str, body: str = "") -> str:
    """Return an HTTP request."""
    headers = f"Host: tradefleet.test\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return f"{method} {path} HTTP/1.1\r\n{headers}\r\nConnection: close\r\n\r\n{body}"


class Question(NamedTuple):
    """A query of one host to another, and the beginning of the expected response."""

    name: str
    how: str
    expected: str
    send: str = ""
    user: str = ""
    parameters: dict[str, str] = {}  # noqa: RUF012  # it is never changed
    # The file of the certificate, without a suffix; empty for none.
    certificate: str = "host"


SCRAPE = http("GET", "/metrics")
CLOSED = "closed"
ASKED = "asked for a password"
NO_CERTIFICATE = r"SSLError: .*CERTIFICATE_REQUIRED"
WRONG_CERTIFICATE = r"(?i)SSLError: .*bad.certificate"
NOT_FOR_THIS_HOST = r".*(no pg_hba\.conf entry|no authentication method|login rejected|no such user|not allowed)"
APPLICATION = {"database": "tradefleet"}
# Users of PostgreSQL and its pooler, with their hosts: the first table's rows in detail.
USERS: dict[int, dict[str, tuple[set[str], dict[str, str]]]] = {
    5432: {
        "tradefleet_owner": ({"app"}, APPLICATION),
        "tradefleet_monitor": ({"ops"}, APPLICATION),
        "tradefleet_backup": ({"ops"}, APPLICATION),
        "replicator": ({"postgres"}, {"replication": "true"}),
        "rewinder": ({"postgres"}, {"database": "postgres"}),
        # Only from their own host: through the pooler, or like operators.
        "tradefleet_app_blue": (set(), APPLICATION),
        "tradefleet_analytics": (set(), APPLICATION),
        "pgbouncer": (set(), {"database": "postgres"}),
        "postgres": (set(), {"database": "postgres"}),
    },
    6432: {
        "tradefleet_app_blue": ({"app"}, APPLICATION),
        "tradefleet_app_green": ({"app"}, APPLICATION),
        "tradefleet_analytics": ({"app"}, APPLICATION),
        "tradefleet_owner": (set(), APPLICATION),
        "postgres": (set(), {"database": "postgres"}),
        "pgbouncer": (set(), {"database": "pgbouncer"}),
    },
}
CHANGES = (
    ("PATCH", "/config"),
    ("PUT", "/config"),
    ("POST", "/failsafe"),
    ("POST", "/restart"),
    ("POST", "/switchover"),
)
API = [
    Question("open", "tls", "HTTP/1.1 200", http("GET", "/version"), certificate=""),
    Question("orders", "tls", "HTTP/1.1 401", http("GET", "/v1/orders"), certificate=""),
    Question("an order", "tls", "HTTP/1.1 401", http("POST", "/v1/orders", "{}")),
]
REDIS = [
    Question("a command", "tls", "-NOAUTH", "PING\r\n"),
    Question("a key", "tls", "-NOAUTH", "GET tradefleet:x\r\n", certificate=""),
    Question("its own users", "tls", "-NOAUTH", "ACL LIST\r\n"),
]


def questions(port: int, source: frozenset[str]) -> list[Question]:
    """Return the queries of a host in these groups to a port that serves, with the responses according to the page."""
    if port in USERS:
        return [
            Question(
                user,
                "postgres",
                ASKED if source & groups else NOT_FOR_THIS_HOST,
                user=user,
                parameters=parameters,
                # PgBouncer trusts no client certificate, and closes a connection that presents one.
                certificate="" if port == 6432 else "host",
            )
            for user, (groups, parameters) in USERS[port].items()
        ]
    peer = "HTTP/1.1 200" if "etcd" in source else WRONG_CERTIFICATE
    monitor = (
        [Question("as a monitor", "tls", "HTTP/1.0 200", SCRAPE, certificate="metrics")] if "ops" in source else []
    )
    return {
        22: [Question("no key", "ssh", r"debian@\S+: Permission denied \(publickey\)\.")],
        80: [Question("open", "text", "HTTP/1.1 301", http("GET", "/"))],
        443: API,
        2379: [
            Question("no certificate", "tls", NO_CERTIFICATE, http("GET", "/version"), certificate=""),
            Question("open", "tls", "HTTP/1.1 200", http("GET", "/version")),
            # 400 means "user name is empty".
            Question("keys", "tls", "HTTP/1.1 400", http("POST", "/v3/kv/range", '{"key": "Lw=="}')),
            Question("users", "tls", "HTTP/1.1 400", http("POST", "/v3/auth/user/list", "{}")),
        ],
        2380: [
            Question("no certificate", "tls", NO_CERTIFICATE, http("GET", "/members"), certificate=""),
            Question("members", "tls", peer, http("GET", "/members")),
        ],
        6379: REDIS,
        6380: REDIS,
        8008: [
            Question("open", "tls", "HTTP/1.0 200", http("GET", "/patroni"), certificate=""),
            *(
                Question(f"{method} {path}", "tls", "HTTP/1.0 401", http(method, path, "{}"))
                for method, path in CHANGES
            ),
        ],
        8432: [Question("open", "tls", r'\{"name":"pgBackRest"', certificate="")],
        8433: [Question("archives", "tls", "HTTP/1.1 401", http("GET", "/ops1/config"), certificate="")],
        8443: API,
        9464: [
            *monitor,
            Question("no certificate", "tls", NO_CERTIFICATE, SCRAPE, certificate=""),
            Question("a host", "tls", "HTTP/1.0 403", SCRAPE),
        ],
        26379: [
            Question("a command", "tls", "-NOAUTH", "PING\r\n"),
            Question("services", "tls", "-NOAUTH", "SENTINEL MASTERS\r\n", certificate=""),
        ],
    }[port]


PAIRS = [
    (sources[0], groups, targets[-1], target)
    for groups, sources in kinds().items()
    for target, targets in kinds().items()
]
EVERY_PORT = sorted(DAEMONS | dict.fromkeys((5000, 5001, 8080, 8402, 8403)))


def test_page_has_the_response_of_every_port() -> None:
    """Both tables have the same ports, and the second has the responses to the queries here."""
    assert set(DAEMONS) == {port for *_, numbers in ALLOWED for port in numbers}
    for port, row in DAEMONS.items():
        queries = questions(port, frozenset(["edge"]))
        assert (row["open"] != "nothing") == (port == 2380 or "open" in {question.name for question in queries}), port
        assert (row["hosts"] == "as above, for each user") == (port in USERS), port
        expected = {
            2379: "any of the fleet",
            2380: "of a member of etcd",
            9464: "for metrics, of a host of `ops`",
        }
        assert row["certificate"] == expected.get(port, "not needed"), port


@pytest.mark.parametrize(
    ("source", "groups"),
    [pytest.param(*pair, id=pair[0]) for pair in sorted({(s, g) for s, g, *_ in PAIRS}, key=lambda pair: pair[0])],
)
def test_host_gets_the_documented_responses(source: str, groups: frozenset[str]) -> None:
    """This covers every port of a host of each kind, including those that must be closed to others."""
    queries: list[tuple[str, Question]] = []
    lines: list[dict[str, Any]] = []
    for host, _, target, target_groups in PAIRS:
        for port in EVERY_PORT if host == source else []:
            closed = Question("closed", "text", CLOSED)
            for question in questions(port, groups) if port in serves(target_groups) else [closed]:
                # On their own hosts PostgreSQL and its pooler accept users that they reject from elsewhere.
                if source == target and port in USERS:
                    continue
                queries.append((f"{target}:{port} {question.name}", question))
                lines.append(question._asdict() | {"address": ADDRESSES[target], "port": port})
    argv = [*into(f"tf-{source}"), "python3", "-c", PROBE]
    done = subprocess.run(argv, input=json.dumps(lines), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    wrong = [
        f"{name}: {answer} (not {question.expected})"
        for (name, question), answer in zip(queries, answers, strict=True)
        if not re.match(question.expected, answer)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("host", ADDRESSES)
def test_no_undocumented_port_is_reachable(host: str) -> None:
    """Ports that the page does not name listen only on loopback; no daemon receives datagrams."""
    (groups,) = [groups for groups, hosts in kinds().items() if host in hosts]
    sockets = [line.split() for line in on(host, "ss -tulnpH").splitlines()]
    reachable = {
        (fields[0], int(fields[4].rpartition(":")[2]))
        for fields in sockets
        if not re.match(r"127\.|\[::1\]", fields[4])
    }
    assert reachable == {("tcp", port) for port in serves(groups)}, sockets
