"""Access to the hosts of the Redis scenarios: from inside as operators, over TLS as clients."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import pytest
import yaml
from inside import into
from redis import RedisError
from scenario import PROJECT, SCENARIO


def _inventory(path: str) -> dict[str, Any]:
    return cast(dict[str, Any], yaml.safe_load((SCENARIO / "inventory" / path).read_text()))


_VARIABLES = _inventory("group_vars/all/redis.yml")
HOSTS: dict[str, str] = {
    host["ansible_host"]: name for name, host in _inventory("hosts.yml")["all"]["children"]["redis"]["hosts"].items()
}
ADDRESSES = list(HOSTS)
PORTS = {"state": int(_VARIABLES.get("redis_port", 6379)), "cache": int(_VARIABLES.get("redis_cache_port", 6380))}
DOORS = {**PORTS, "sentinel": 26379}
# Commands that the application's user is allowed to use: it has no PING.
KNOCK = {**dict.fromkeys(PORTS, ("GET", "tradefleet:knock")), "sentinel": ("SENTINEL", "MASTERS")}
PASSWORDS = {"state": "molecule-app", "cache": "molecule-cache-app"}
CA = PROJECT / ".lab/molecule" / SCENARIO.name / "pki/ca.crt"
TLS = ("--tls", "--cacert", "/etc/ssl/tradefleet/ca.crt", "-e", "-t", "2")


def podman(*arguments: str) -> str:
    """Run podman with the lab's settings and return its output."""
    environment = os.environ | {"CONTAINERS_CONF": str(PROJECT / ".lab/containers.conf")}
    run = subprocess.run(
        ["podman", *arguments], check=True, capture_output=True, text=True, timeout=30, env=environment
    )
    return run.stdout.strip()


def on(address: str, *command: str) -> str:
    """Run a command on a host and return its output."""
    argv = [*into(f"tf-{HOSTS[address]}"), *command]
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=30).stdout.strip()


class Answer(NamedTuple):
    """Exit status and output of a command."""

    status: int
    stdout: str
    stderr: str


# Runs the commands that a host receives together; some wait, so they run in parallel.
_TOGETHER = """
import json, subprocess, sys
from concurrent.futures import ThreadPoolExecutor
def run(argv):
    done = subprocess.run(argv, capture_output=True, text=True)
    return done.returncode, done.stdout.strip(), done.stderr.strip()
print(json.dumps(list(ThreadPoolExecutor(8).map(run, json.loads(sys.argv[1])))))
"""


Case = TypeVar("Case", bound=Hashable)


def together(address: str, cases: Mapping[Case, Sequence[str]]) -> dict[Case, Answer]:
    """Run many commands on a host in one call, because the call takes the time, and return their answers."""
    answers = json.loads(on(address, "python3", "-c", _TOGETHER, json.dumps(list(cases.values()))))
    return {case: Answer(*answer) for case, answer in zip(cases, answers, strict=True)}


def query(address: str, *command: str, service: str = "state") -> str:
    """Return the response of a host's own Redis to its operator."""
    return on(address, f"redis-cli-{service}", *command)


def query_sentinel(address: str, *command: str) -> str:
    """Return the response of a host's own Sentinel to its operator."""
    return on(address, "sentinel-cli-state", "SENTINEL", *command)


def role(address: str, service: str = "state") -> list[str]:
    """Return a host's role, and for a replica its primary and the state of the link."""
    answer = json.loads(query(address, "--json", "ROLE", service=service))
    return ["primary"] if answer[0] == "master" else ["replica", answer[1], answer[3]]


def primary(queried: str, service: str = "state") -> str:
    """Return the address of the primary according to the Sentinel of one host."""
    return query_sentinel(queried, "GET-MASTER-ADDR-BY-NAME", service).splitlines()[0]


def healthy(service: str = "state") -> bool:
    """Return whether all Sentinels name the same primary, and all other hosts follow it."""
    primaries = {primary(address, service) for address in ADDRESSES}
    roles = sorted(role(address, service) for address in ADDRESSES)
    return len(primaries) == 1 and roles == [
        ["primary"],
        *[["replica", *primaries, "connected"]] * (len(ADDRESSES) - 1),
    ]


def processes(service: str = "state") -> dict[str, str]:
    """Return the process ids of each host's instance and Sentinel."""
    units = (f"redis-server@{service}", "redis-sentinel@state")
    return {each: on(each, "systemctl", "show", "--property=MainPID", "--value", *units) for each in ADDRESSES}


def settings(address: str, *names: str, service: str = "state") -> dict[str, str]:
    """Return settings as the running server reports them."""
    found: dict[str, str] = json.loads(query(address, "--json", "CONFIG", "GET", *names, service=service))
    return found


def refusal(via: str, address: str, *command: str, **who: Any) -> str:
    """Return the error that a client gets; fail if it is served."""
    with pytest.raises(subprocess.CalledProcessError) as error:
        as_client(via, address, *command, **who)
    return str(error.value.stderr)


def as_client(
    via: str, address: str, *command: str, password: str, port: int = PORTS["state"], user: str = "app"
) -> str:
    """Run a command as a user on a server, from another host; an error is an exception."""
    return on(via, *client_line(address, *command, password=password, port=port, user=user))


def client_line(
    address: str, *command: str, password: str, port: int = PORTS["state"], user: str = "app"
) -> tuple[str, ...]:
    """Return the command line that runs a command as a user from any host."""
    who = ("-h", address, "-p", str(port), "--user", user, "--no-auth-warning")
    return ("env", f"REDISCLI_AUTH={password}", "redis-cli", *TLS, *who, *command)


def as_app(via: str, address: str, *command: str, service: str = "state") -> str:
    """Run a command as the application's user on one instance, from another host; an error is an exception."""
    return as_client(via, address, *command, port=PORTS[service], password=PASSWORDS[service])


def spread(key: str, value: str) -> None:
    """Write to `state`, and wait until every host has the value."""
    leads = primary(ADDRESSES[0])
    as_app(leads, leads, "SET", key, value)
    wait(5, lambda: all(as_app(address, address, "GET", key) == value for address in ADDRESSES))


def wait(seconds: float, what: Callable[[], bool]) -> float:
    """Wait until a condition holds, and return the seconds that it took; an error counts as "not yet"."""
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        try:
            if what():
                return time.monotonic() - start
        except (subprocess.SubprocessError, ValueError, RedisError):
            pass
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s")
