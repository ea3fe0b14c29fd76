"""Requests to the edge, from outside and from other hosts of the scenario."""

import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from inside import on
from testinfra.host import Host

EDGE = "10.203.0.104"
CA = f"{os.environ['MOLECULE_PROJECT_DIRECTORY']}/.lab/molecule/nginx/pki/ca.crt"


def curl(*arguments: str, path: str = "/") -> subprocess.CompletedProcess[str]:
    """Send a request from outside; the last line of the output is the status and the color."""
    command = ["curl", "-sS", "--max-time", "15", "--cacert", CA, "--resolve", f"scenario.test:443:{EDGE}"]
    command += ["--write-out", "\n%{http_code} %header{x-color}", *arguments, f"https://scenario.test{path}"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def color() -> str:
    """Return the color that answers now."""
    return curl().stdout.split()[-1]


def flip(host: Host, to: str) -> None:
    """Rename the link as the role does."""
    host.check_output(f"ln -s traffic-sets/{to} /etc/nginx/new && mv -T /etc/nginx/new /etc/nginx/traffic")


def inside_status(name: str, path: str, *headers: str) -> tuple[int, str]:
    """Return the edge's response to another host of the scenario: status and body."""
    words = "".join(f" -H '{header}'" for header in headers)
    where = f"--resolve scenario.test:443:{EDGE} https://scenario.test{path}"
    query = f"curl -sk --max-time 5 --write-out '\\n%{{http_code}}'{words} {where}"
    body, status = on(name, query).rsplit("\n", 1)
    return int(status), body


def requests(upstream: str) -> list[str]:
    """Return the paths that an upstream has received."""
    return on(upstream, "curl -sk https://127.0.0.1:8443/requests").splitlines()


def matched_rules(host: Host, request_id: str) -> set[str]:
    """Return the IDs of the rules that the firewall's log contains for a request."""
    lines = host.file("/var/log/nginx/waf.log").content_string.splitlines()
    own = [line for line in lines if f'[unique_id "{request_id}"]' in line]
    return {found for line in own for found in re.findall(r'\[id "(\d+)"\]', line)}


@contextmanager
def draining(*names: str) -> Iterator[None]:
    """Make these hosts refuse requests."""
    for name in names:
        on(name, "touch /run/draining")
    try:
        yield
    finally:
        for name in names:
            on(name, "rm /run/draining")
        time.sleep(2.1)  # they count as failed for a second, and the clock of nginx has whole seconds


class Answer:
    """A response: status, headers by lowercase name, body."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        """Read the whole response."""
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read().decode()

    def problem(self) -> dict[str, Any]:
        """Return the problem document."""
        assert self.headers["content-type"] == "application/problem+json"
        found: dict[str, Any] = json.loads(self.body)
        return found


class Session:
    """One connection that is kept open, like that of a trading client."""

    def __init__(self, connection: http.client.HTTPSConnection) -> None:
        """Use an open connection."""
        self._connection = connection

    def request(self, path: str = "/", method: str = "GET", body: str | None = None, **headers: str) -> Answer:
        """Send a request; header names are written with underscores."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, path, body=body, headers=sent)
        return Answer(self._connection.getresponse())


@contextmanager
def session(address: str = EDGE, name: str = "scenario.test", port: int = 443, ca: str = CA) -> Iterator[Session]:
    """Connect once for many requests."""
    context = ssl.create_default_context(cafile=ca)
    connection = http.client.HTTPSConnection(name, port, timeout=15, context=context)
    connection.sock = context.wrap_socket(socket.create_connection((address, port), 15), server_hostname=name)
    try:
        yield Session(connection)
    finally:
        connection.close()
