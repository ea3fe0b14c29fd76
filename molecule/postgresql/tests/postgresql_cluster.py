"""Access to the cluster: SQL through psql on a member, Patroni over the network."""

import base64
import functools
import http.client
import json
import ssl
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import testinfra
from testinfra.backend.base import CommandResult
from testinfra.host import Host

ADDRESSES = {"pg1": "10.203.0.114", "pg2": "10.203.0.115", "pg3": "10.203.0.116"}
PASSWORDS = {
    "app": "31415926535897",  # only digits, but still a string
    "desk": "molecule-desk",
    "other_owner": "molecule-other",
    "pgbouncer": 'molecule-pooler "quoted"',
    "postgres": "molecule-superuser",
    "replicator": "molecule-replication: 'quoted' \"twice\" #",
    "report": "molecule-report",
    "rewinder": "molecule-rewind",
    "trading_owner": "molecule-owner",
}
REST_PASSWORD = "molecule-rest"  # noqa: S105 (this scenario's input)


def member(name: str) -> Host:
    """Return the host of a member."""
    return testinfra.get_host(f"podman://tf-{name}")


def psql(host: Host, role: str, sql: str, /, **settings: str) -> CommandResult:
    """Run SQL as a role over the network, by default on the member that accepts writes."""
    connection = {
        "host": ",".join(ADDRESSES.values()),
        "dbname": "trading",
        "sslmode": "verify-full",
        "sslrootcert": "/etc/ssl/tradefleet/ca.crt",
        "connect_timeout": "2",
        "target_session_attrs": "read-write",
        "password": PASSWORDS[role],
        **settings,
    }
    words = " ".join(f"{key}='{quote(value)}'" for key, value in connection.items())
    return host.run("timeout 10 psql --no-psqlrc --tuples-only --no-align --command %s %s", sql, f"user={role} {words}")


def quote(value: str) -> str:
    """Return a value quoted for a connection string of libpq."""
    return value.replace("\\", "\\\\").replace("'", "\\'")


def local(host: Host, sql: str, database: str = "postgres") -> str:
    """Run SQL as the superuser on this member, through its socket."""
    command = "runuser -u postgres -- psql --no-psqlrc --tuples-only --no-align --dbname %s --command %s"
    return str(host.check_output(command, database, sql))


@functools.cache
def authority() -> ssl.SSLContext:
    """Return a context that trusts only the fleet's CA."""
    return ssl.create_default_context(cadata=member("pg1").file("/etc/ssl/tradefleet/ca.crt").content_string)


def rest(
    address: str, path: str, method: str = "GET", body: object = None, password: str | None = None
) -> tuple[int, Any]:
    """Send a request to a member's Patroni; return status and document."""
    headers = {"Content-Type": "application/json"}
    if password is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(f"patroni:{password}".encode()).decode()
    with closing(http.client.HTTPSConnection(address, 8008, timeout=5, context=authority())) as connection:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        text = response.read().decode()
        return response.status, json.loads(text) if text.startswith("{") else text


def roles(address: str) -> dict[str, str]:
    """Return the role of each member that leads or streams."""
    members = rest(address, "/cluster")[1]["members"]
    return {each["name"]: each["role"] for each in members if each["state"] in ("running", "streaming")}


def leader(address: str) -> str:
    """Return the name of the leader according to this member's Patroni."""
    return next(name for name, role in roles(address).items() if role == "leader")


def wait_until(condition: Callable[[], bool], seconds: float) -> float:
    """Wait for a condition, ignoring network errors; return how long that took."""
    start = time.monotonic()
    while True:
        try:
            if condition():
                return time.monotonic() - start
        except OSError:
            pass
        assert time.monotonic() - start < seconds, f"not within {seconds} s"
        time.sleep(0.5)
