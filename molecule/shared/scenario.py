"""What the tests of every scenario can run."""

import os
import re
import subprocess
from pathlib import Path

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
SCENARIO = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])

# Preflight checks the inventory of a whole fleet. It does not check the values of one below molecule/, because
# scenarios set options that only the wiring may set.
FLEET = ("-i", str(SCENARIO / "fleet"))


def converge(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the scenario's converge playbook again with further arguments; with `check`, a failing run stops the test."""
    return play(SCENARIO / "converge.yml", *arguments, check=check)


def would_change(*arguments: str) -> set[str]:
    """Return the tasks that report a change with --check."""
    found, task = set(), ""
    for line in converge("--check", *arguments).stdout.splitlines():
        if announced := re.match(r"(?:TASK|RUNNING HANDLER) \[(.*)\]", line):
            task = announced[1]
        elif line.startswith("changed: "):
            found.add(task)
    return found


def run_playbook(
    name: str, *arguments: str, check: bool = True, inventory: Path = SCENARIO / "inventory"
) -> subprocess.CompletedProcess[str]:
    """Run one of the operator's playbooks on the scenario's hosts, with the wiring of the fleet."""
    return play(PROJECT / f"playbooks/{name}.yml", *FLEET, *arguments, check=check, inventory=inventory)


def play(
    playbook: Path, *arguments: str, check: bool = True, inventory: Path = SCENARIO / "inventory"
) -> subprocess.CompletedProcess[str]:
    """Run a playbook on the scenario's hosts; with `check`, a failing run stops the test."""
    argv = command(playbook, *arguments, inventory=inventory)
    done = subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, check=False)
    failed = re.findall(r"^(?:fatal|failed): .*(?:\n {4}.*)*", done.stdout, re.MULTILINE)
    assert done.returncode == 0 or not check, "\n".join(failed)[-6000:] + done.stderr[-2000:]
    return done


def command(playbook: Path, *arguments: str, inventory: Path = SCENARIO / "inventory") -> list[str]:
    """Return the command line that runs a playbook on the scenario's hosts."""
    shared = PROJECT / "molecule/shared/inventory"
    return ["ansible-playbook", "-i", str(shared), "-i", str(inventory), *arguments, str(playbook)]
