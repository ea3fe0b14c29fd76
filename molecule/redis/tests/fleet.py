"""How the tests of this scenario speak to its hosts: through podman, and to Redis as clients do."""

import json
import os
import subprocess
import time
from collections.abc import Callable

import pytest
from scenario import PROJECT

HOSTS = {"10.203.0.117": "redis1", "10.203.0.118": "redis2", "10.203.0.119": "redis3"}
TLS = ("--tls", "--cacert", "/etc/ssl/tradefleet/ca.crt", "-e", "-t", "2")


def podman(*arguments: str) -> str:
    """Run podman as the lab does and return what it printed."""
    environment = os.environ | {"CONTAINERS_CONF": str(PROJECT / ".lab/containers.conf")}
    run = subprocess.run(
        ["podman", *arguments], check=True, capture_output=True, text=True, timeout=30, env=environment
    )
    return run.stdout.strip()


def ask(address: str, *command: str, client: str = "redis-cli-state") -> str:
    """Return what a host's own Redis (or Sentinel) answers its operator."""
    return podman("exec", f"tf-{HOSTS[address]}", client, *command)


def role(address: str) -> list[str]:
    """Return a host's role, and for a replica whom it follows and whether the link is up."""
    answer = json.loads(ask(address, "--json", "ROLE"))
    return ["primary"] if answer[0] == "master" else ["replica", answer[1], answer[3]]


def primary(asked: str) -> str:
    """Return the address that the Sentinel of one host gives to clients."""
    command = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "state")
    return ask(asked, *command, client="sentinel-cli-state").splitlines()[0]


def refusal(via: str, address: str, *command: str, sentinel: bool = False) -> str:
    """Return the error that the application's user gets; being served is a failure."""
    with pytest.raises(subprocess.CalledProcessError) as error:
        as_app(via, address, *command, sentinel=sentinel)
    return str(error.value.stderr)


def as_app(via: str, address: str, *command: str, sentinel: bool = False) -> str:
    """Let the application's user talk to one Redis (or Sentinel) from another host; an error is an exception."""
    port, password = ("26379", "molecule-sentinel-app") if sentinel else ("6379", "molecule-app")
    environment = ("--env", f"REDISCLI_AUTH={password}")
    user = ("-h", address, "-p", port, "--user", "app", "--no-auth-warning")
    return podman("exec", *environment, f"tf-{HOSTS[via]}", "redis-cli", *TLS, *user, *command)


def wait(seconds: float, what: Callable[[], bool]) -> float:
    """Wait until something is so and return the seconds it took; errors count as «not yet»."""
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        try:
            if what():
                return time.monotonic() - start
        except (subprocess.SubprocessError, ValueError):
            pass
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s")
