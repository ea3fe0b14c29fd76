"""Actions on the lab: run the operator's playbooks, break hosts, query databases."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from inside import on

PROJECT = Path(__file__).resolve().parents[2]
LAB = PROJECT / ".lab"
MEASURED = LAB / "measured.txt"
INVENTORY = PROJECT / "inventories/lab"
TRAFFIC = INVENTORY / "group_vars/all/traffic.yml"
ADDRESSES = {
    "lb1": "10.203.0.11",
    "lb2": "10.203.0.12",
    "blue1": "10.203.0.21",
    "blue2": "10.203.0.22",
    "green1": "10.203.0.31",
    "green2": "10.203.0.32",
    "data1": "10.203.0.41",
    "data2": "10.203.0.42",
    "data3": "10.203.0.43",
    "ops1": "10.203.0.51",
}
DATA = ("data1", "data2", "data3")
EDGES = ("lb1", "lb2")
# The virtual IP, and the load balancers' own addresses.
VIP = "10.203.0.10"
BOTH = tuple(ADDRESSES[edge] for edge in EDGES)
APPS = ("blue1", "blue2", "green1", "green2")
# The time on a database host, as a target of a restore.
MOMENT = "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US+00:00')"
# Requests a second in tests where playbooks need most of this machine.
QUIET = 25


def play(playbook: str, *arguments: str, check: bool = True, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a playbook like an operator; with `check`, a failed run fails the test and shows its end."""
    argv = [*playbook_command(playbook, extra), *arguments]
    done = subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, timeout=600, check=False)
    if check and done.returncode != 0:
        raise AssertionError(f"{playbook} failed:\n{done.stdout[-6000:]}\n{done.stderr[-2000:]}")
    return done


def output(done: subprocess.CompletedProcess[str]) -> str:
    """Return the output of a playbook run as one line, because Ansible breaks long lines anywhere."""
    return " ".join((done.stdout + done.stderr).split())


def changes(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the changes of a playbook run as "host: task"."""
    found, task = [], ""
    for line in done.stdout.splitlines():
        if announced := re.match(r"(?:TASK|RUNNING HANDLER) \[(.*)\]", line):
            task = announced[1]
        elif changed := re.match(r"changed: \[([^\] ]+)", line):
            found.append(f"{changed[1]}: {task}")
    assert bool(found) == bool(re.search(r"changed=[1-9]", done.stdout)), done.stdout[-4000:]
    return found


def play_until(marker: str, playbook: str, **extra: str) -> None:
    """Run a playbook and kill all of its processes as soon as it announces the task `marker`.

    Then break its lock, as an operator must (unlock.yml, which calls the same program).
    """
    with subprocess.Popen(
        playbook_command(playbook, extra),
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        seen = []
        for line in process.stdout:
            seen.append(line)
            if marker in line:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                on("ops1", "tradefleet-operations unlock --who=test --reason='killed by a test'")
                return
    raise AssertionError(f"{playbook} never printed `{marker}`:\n{''.join(seen)[-4000:]}")


def playing(playbook: str, **extra: str) -> Iterator[str]:
    """Run a playbook and yield the lines of its output as they are printed; a failed run fails the test."""
    with subprocess.Popen(
        playbook_command(playbook, extra), cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        seen = []
        for line in process.stdout:
            seen.append(line)
            yield line
    assert process.returncode == 0, f"{playbook} failed:\n{''.join(seen)[-6000:]}"


def playbook_command(playbook: str, extra: dict[str, str]) -> list[str]:
    """Return the command that runs a playbook on the lab, with extra variables."""
    return [
        "ansible-playbook",
        "-i",
        str(INVENTORY),
        f"playbooks/{playbook}.yml",
        *(f"-e{k}={v}" for k, v in extra.items()),
    ]


def traffic() -> dict[str, str]:
    """Return the contents of traffic.yml."""
    content: dict[str, str] = yaml.safe_load(TRAFFIC.read_text())
    return content


def in_network(host: str) -> list[str]:
    """Return the beginning of a command that runs on this machine, as root, in a host's network."""
    argv = ["podman", "inspect", "--format", "{{.State.Pid}}", f"tf-{host}"]
    process = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout.strip()
    return ["nsenter", f"--target={process}", "--net"]


def power_off(host: str) -> None:
    """Cut the power: neither a process of the host nor its kernel closes a connection."""
    unplug = [*in_network(host), "ip", "link", "set", "eth0", "down"]
    subprocess.run(unplug, check=True, capture_output=True, timeout=60)
    subprocess.run(["podman", "kill", f"tf-{host}"], check=True, capture_output=True, timeout=60)


def power_on(host: str) -> None:
    """Start a host that was powered off."""
    subprocess.run(["podman", "start", f"tf-{host}"], check=True, capture_output=True, timeout=60)


def nginx_processes(edge: str) -> str:
    """Return the IDs of nginx's master and workers; a reload replaces workers, and a cache loader may come and go."""
    return on(edge, "pgrep -f 'nginx: (master|worker) process' | sort")


def workers() -> set[str]:
    """Return the hosts whose workers process events; only these start their worker at boot."""
    query = "systemctl is-active tradefleet-worker; systemctl is-enabled tradefleet-worker"
    states = {host: on(host, query, check=False).split() for host in APPS}
    assert set(map(tuple, states.values())) <= {("active", "enabled"), ("inactive", "disabled")}, states
    return {host for host, (state, _) in states.items() if state == "active"}


def sql_command(host: str) -> list[str]:
    """Return the command that reads SQL on standard input and runs it on a database host, over SSH."""
    options = [
        "-i",
        str(LAB / "ssh_key"),
        "-o",
        f"UserKnownHostsFile={LAB}/known_hosts/%h",
        "-o",
        "BatchMode=yes",
        "-o",
        "ConnectTimeout=5",
    ]
    return ["ssh", *options, f"debian@{ADDRESSES[host]}", "sudo -u postgres psql -AtX -d tradefleet"]


def sql(host: str, query: str, seconds: float = 30) -> str:
    """Return the result of a query on a database host, unaligned and without header."""
    return subprocess.run(
        sql_command(host), input=query, capture_output=True, text=True, timeout=seconds, check=True
    ).stdout.strip()


def leader() -> str:
    """Return the data host whose PostgreSQL accepts writes."""
    found = [
        host
        for host in DATA
        if on(host, "su postgres -c \"psql -Atc 'SELECT pg_is_in_recovery()'\"", check=False).strip() == "f"
    ]
    assert len(found) == 1, f"leaders: {found}"
    return found[0]


def cluster() -> dict[str, str]:
    """Return the state of each PostgreSQL member according to the first responding host: name -> "role state"."""
    for host in DATA:
        text = on(
            host,
            f"curl -sS --max-time 5 --cacert /etc/ssl/tradefleet/ca.crt https://{ADDRESSES[host]}:8008/cluster",
            check=False,
        )
        if text:
            return {member["name"]: f"{member['role']} {member['state']}" for member in json.loads(text)["members"]}
    return {}


def wait(condition: Any, seconds: float, what: str) -> float:
    """Wait until `condition()` is true and return the seconds that took; fail after the given time."""
    start = time.monotonic()
    while True:
        queried = time.monotonic()
        if condition():
            return time.monotonic() - start
        now = time.monotonic()
        if now - start > seconds:
            raise AssertionError(f"not within {seconds} s: {what}")
        # Long queries must not slow down what they wait for.
        time.sleep(max(0.25, now - queried))


def measured(sentence: str) -> None:
    """Print a figure, and append it to .lab/measured.txt."""
    print(sentence)
    with MEASURED.open("a") as file:
        file.write(sentence + "\n")


def figures() -> list[str]:
    """Return all figures so far."""
    return MEASURED.read_text().splitlines() if MEASURED.exists() else []
