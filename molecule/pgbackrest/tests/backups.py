"""Access to the scenario: SQL on the primary, commands on the repository, and the state that it reports."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import testinfra
from testinfra.host import Host

MEMBERS = {"bk1": "10.203.0.163", "bk2": "10.203.0.164"}
REPOSITORY: Host = testinfra.get_host("podman://tf-repo1")
STORE: Host = testinfra.get_host("podman://tf-store1")
FOLDER = "/var/lib/pgbackrest"
SECOND = "runuser -u postgres -- pgbackrest --config-include-path=/etc/pgbackrest/second.d --repo=2 --stanza=tradefleet"
FILES = f"{SECOND} repo-ls --recurse archive/tradefleet"
LOCK = ("-e", "fleet_lock_host=")  # for playbooks: the scenario has neither lock nor journal
CONFIG = "/etc/pgbackrest/pgbackrest.conf"


def member(name: str) -> Host:
    """Return the host of a member."""
    return testinfra.get_host(f"podman://tf-{name}")


def leader() -> str:
    """Return the name of the primary."""
    listed = member("bk1").check_output("patronictl -c /etc/patroni/config.yml list --format json")
    return str(next(each["Member"] for each in json.loads(listed) if each["Role"] == "Leader"))


def sql(query: str, database: str = "trading") -> str:
    """Run SQL as the superuser on the primary."""
    command = "runuser -u postgres -- psql --no-psqlrc --tuples-only --no-align --dbname %s --command %s"
    return str(member(leader()).check_output(command, database, query))


def ledger() -> None:
    """Create the table that has the newest row of clients for drills, if it is missing."""
    sql("CREATE TABLE IF NOT EXISTS ledger (id bigserial, note text, written timestamptz DEFAULT now())")
    sql("CREATE INDEX IF NOT EXISTS ledger_note ON ledger (note)")


def command(name: str) -> str:
    """Return the line that runs one command of the program on the repository."""
    return f"runuser -u postgres -- tradefleet-backups {name}"


def run(name: str) -> dict[str, Any]:
    """Run a command of the program and return its figures."""
    found: dict[str, Any] = json.loads(REPOSITORY.check_output(command(name)))
    return found


def problems() -> list[str]:
    """Return the problems that the repository reports."""
    found: list[str] = run("report")["problems"]
    return found


def metric(name: str) -> float:
    """Return the value of a metric."""
    lines = REPOSITORY.check_output("cat /var/lib/tradefleet-backups/backups.prom").splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def newest_segment() -> str:
    """Return the newest segment of the first repository."""
    found = f"find {FOLDER}/archive -name '*-*.zst' -printf '%T@ %f\\n' | sort -n | tail -1"
    return str(REPOSITORY.check_output(found)).split()[1][:24]


def copied() -> None:
    """Wait until the second repository contains the WAL of the first one."""
    segment = newest_segment()
    wait(lambda: segment in REPOSITORY.check_output(FILES), 20)


@contextmanager
def first_lost() -> Iterator[None]:
    """Let the first repository be empty for the length of the block."""
    REPOSITORY.check_output(f"mkdir {FOLDER}/lost && mv {FOLDER}/archive {FOLDER}/backup {FOLDER}/lost/")
    try:
        yield
    finally:
        REPOSITORY.check_output(f"mv {FOLDER}/lost/* {FOLDER}/ && rmdir {FOLDER}/lost")


@contextmanager
def changed(host: Host, path: str, expression: str) -> Iterator[None]:
    """Change a file by an expression of sed for the length of the block."""
    host.check_output("cp --preserve=all %s %s", path, f"{path}.kept")
    try:
        host.check_output("sed --in-place %s %s", expression, path)
        yield
    finally:
        host.check_output("mv %s %s", f"{path}.kept", path)


def wait(condition: Callable[[], bool], seconds: float) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.5)
