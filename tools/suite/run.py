"""Runs one part of the tests, keeps its output in .lab/log, and records the cost of each of its phases."""

import os
import re
import subprocess
import sys
from typing import Any

import yaml

from tools.suite import records
from tools.suite.cost import Meter

ANSI = re.compile(r"\x1b\[[0-9;]*m")
# Molecule announces its phases as `redis ➜ create: Executing` with colors, and as `[redis > create] Executing` without.
PHASE = re.compile(r"(?: ➜ | > )(\w+)(?:: |\] )(Executing|Executed)")
FAULT = re.compile(r"^(?:E  |FAILED [^-]|ERROR|fatal: |failed: |\[ERROR\])")
FAULTS = 40


def hosts(part: str) -> list[str]:
    """Return the hosts of a scenario's inventory; a part that is no scenario has none."""
    folder = records.PROJECT / ("inventories/lab" if part in ("fleet", "fleet-hosts") else f"molecule/{part}/inventory")
    inventory = folder / "hosts.yml"
    return list(_hosts(yaml.safe_load(inventory.read_text()))) if inventory.exists() else []


def _hosts(group: Any) -> dict[str, None]:
    """Return the names under every `hosts` key, once each, in order."""
    found: dict[str, None] = {}
    for key, value in group.items() if isinstance(group, dict) else ():
        found |= dict.fromkeys(value or ()) if key == "hosts" else _hosts(value)
    return found


def run(part: str, command: list[str]) -> int:
    """Run the command and return its exit code. On failure, repeat its faults and keep them in PART.failed."""
    records.start(part)
    names = hosts(part)
    environment = os.environ | {
        "COLUMNS": "160",
        "PYTHONPATH": str(records.PROJECT),
        "PYTEST_ADDOPTS": f"-p tools.suite.stopwatch {os.environ.get('PYTEST_ADDOPTS', '')}",
        "SUITE_PART": part,
        "SUITE_HOSTS": " ".join(names),
    }
    faults: list[str] = []
    phase, phases = "", False
    whole = Meter(os.getpid())
    with (
        (records.LOGS / f"{part}.txt").open("w", buffering=1) as log,
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as process,
    ):
        meter = Meter(process.pid, names)
        for line in process.stdout or ():
            print(line, end="", flush=True)
            log.write(line)
            plain = ANSI.sub("", line).strip(" │\n")
            if FAULT.match(plain):
                faults.append(plain[:300])
            if announced := PHASE.search(plain):
                phases = True
                if announced[2] == "Executing":
                    phase = announced[1]
                    meter.lap()
                elif phase:  # Molecule repeats the results at its end.
                    if phase == "create":
                        meter.find_hosts()
                    records.add(part, meter.lap(), phase=phase)
                    phase = ""
    code, cost = process.returncode, whole.lap()
    if not phases:
        records.add(part, cost, phase="run")
    if code == 0:
        print(f"{part}: {cost.seconds:.0f} s", flush=True)
        return 0
    report = [f"== {part} failed after {cost.seconds:.0f} s (all of it: .lab/log/{part}.txt)", *faults[-FAULTS:]]
    (records.LOGS / f"{part}.failed").write_text("\n".join(report) + "\n")
    print("\n".join(report), file=sys.stderr)
    return code
