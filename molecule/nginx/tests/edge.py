"""How the tests ask the edge, from outside and from other hosts of the scenario."""

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
    """Ask the edge from outside; the first line of the output is the status, the second the colour."""
    command = ["curl", "-sS", "--max-time", "15", "--cacert", CA, "--resolve", f"scenario.test:443:{EDGE}"]
    command += ["--write-out", "\n%{http_code} %header{x-color}", *arguments, f"https://scenario.test{path}"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def color() -> str:
    """Return the colour that answers now."""
    return curl().stdout.split()[-1]


def flip(host: Host, to: str) -> None:
    """Rename the link as the role does."""
    host.check_output(f"ln -s traffic-sets/{to} /etc/nginx/new && mv -T /etc/nginx/new /etc/nginx/traffic")


def inside_status(name: str, path: str, *headers: str) -> tuple[int, str]:
    """Return what the edge answers another host of the scenario: status and body."""
    words = "".join(f" -H '{header}'" for header in headers)
    where = f"--resolve scenario.test:443:{EDGE} https://scenario.test{path}"
    ask = f"curl -sk --max-time 5 --write-out '\\n%{{http_code}}'{words} {where}"
    body, status = on(name, ask).rsplit("\n", 1)
    return int(status), body


def requests(upstream: str) -> list[str]:
    """Return the paths that an upstream has been asked for."""
    return on(upstream, "curl -sk https://127.0.0.1:8443/requests").splitlines()


def told(host: Host, request_id: str) -> set[str]:
    """Return the ids of the rules that the firewall's log has for a request."""
    lines = host.file("/var/log/nginx/waf.log").content_string.splitlines()
    own = [line for line in lines if f'[unique_id "{request_id}"]' in line]
    return {found for line in own for found in re.findall(r'\[id "(\d+)"\]', line)}


@contextmanager
def draining(*names: str) -> Iterator[None]:
    """Have these hosts refuse whatever comes."""
    for name in names:
        on(name, "touch /run/draining")
    try:
        yield
    finally:
        for name in names:
            on(name, "rm /run/draining")
        time.sleep(2.1)  # they have counted as failed for a second, and nginx' clock has whole ones


class Answer:
    """An answer: status, headers by name in small letters, body."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        """Read all of it."""
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read().decode()

    def problem(self) -> dict[str, Any]:
        """Return its problem document."""
        assert self.headers["content-type"] == "application/problem+json"
        found: dict[str, Any] = json.loads(self.body)
        return found


class Session:
    """One connection that is kept, as a trading client's is."""

    def __init__(self, connection: http.client.HTTPSConnection) -> None:
        """Use an open connection."""
        self._connection = connection

    def ask(self, path: str = "/", method: str = "GET", body: str | None = None, **headers: str) -> Answer:
        """Send a request; header names are written with underscores."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, path, body=body, headers=sent)
        return Answer(self._connection.getresponse())


@contextmanager
def session(address: str = EDGE, name: str = "scenario.test", port: int = 443, ca: str = CA) -> Iterator[Session]:
    """Connect once, for many requests."""
    context = ssl.create_default_context(cafile=ca)
    connection = http.client.HTTPSConnection(name, port, timeout=15, context=context)
    connection.sock = context.wrap_socket(socket.create_connection((address, port), 15), server_hostname=name)
    try:
        yield Session(connection)
    finally:
        connection.close()
