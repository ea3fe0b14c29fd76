"""The table at the end of `make test`: what each part, phase, test and task costs, beside the declared budget."""

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from tools.suite import records

BUDGETS = records.PROJECT / "tests/budgets.yml"
SLOWEST = 10
# A line of Ansible's profile_tasks.
TASK = re.compile(r"^(?P<task>\S.*?) -{2,} +(?P<seconds>\d+\.\d+)s$")


def budgets() -> dict[str, int]:
    """Return the seconds that each part may take."""
    declared: dict[str, int] = yaml.safe_load(BUDGETS.read_text())
    return declared


def summary() -> dict[str, Any]:
    """Return all that .lab/timing.json contains: parts with their phases, tests and the slowest tasks, in seconds."""
    rows = records.everything()
    phases = [row for row in rows if "phase" in row]
    parts = list(dict.fromkeys(row["part"] for row in phases))
    return {
        "parts": [_part(part, [row for row in phases if row["part"] == part]) for part in parts],
        "tests": [row for row in rows if "test" in row],
        "tasks": sorted(_tasks(parts), key=lambda task: -task["seconds"])[:SLOWEST],
    }


def _part(part: str, phases: list[dict[str, Any]]) -> dict[str, Any]:
    seconds = sum(phase["seconds"] for phase in phases)
    return {
        "part": part,
        "budget": budgets().get(part),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(sum(phase["cpu_seconds"] for phase in phases), 1),
        "idle": round(sum(phase["idle"] * phase["seconds"] for phase in phases) / max(seconds, 0.01), 3),
        "phases": [{key: phase[key] for key in ("phase", "seconds", "cpu_seconds", "idle")} for phase in phases],
    }


def _tasks(parts: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the tasks that Ansible itself listed as the slowest of a run."""
    for part in parts:
        log = records.LOGS / f"{part}.txt"
        for line in log.read_text().splitlines() if log.exists() else ():
            if found := TASK.match(re.sub(r"\x1b\[[0-9;]*m", "", line).strip(" │")):
                yield {"part": part, "task": found["task"], "seconds": float(found["seconds"])}


def lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield the table, line by line."""
    yield f"{'part and phase':<40} {'seconds':>8} {'CPU s':>8} {'idle':>6} {'budget':>7}"
    for part in sorted(found["parts"], key=lambda each: -each["seconds"]):
        over = "  over" if part["budget"] and part["seconds"] > part["budget"] else ""
        yield _line(part["part"], part) + f" {part['budget'] or '-':>7}{over}"
        if len(part["phases"]) > 1:
            yield from (_line("  " + phase["phase"], phase) for phase in part["phases"])
    fleet = [test for test in found["tests"] if test["part"] == "fleet"]
    slowest = sorted((test for test in found["tests"] if test not in fleet), key=lambda test: -test["seconds"])[
        :SLOWEST
    ]
    for title, tests in (("tests of the fleet", fleet), ("slowest other tests", slowest)):
        yield from ["", f"{title}:", *(_line("  " + test["test"].rpartition("/")[2], test, 96) for test in tests)]
    yield from ["", "slowest tasks:"]
    yield from (f"  {task['seconds']:7.1f} s  {task['part']}: {task['task']}" for task in found["tasks"])


def _line(name: str, cost: dict[str, Any], width: int = 40) -> str:
    return f"{name[:width]:<{width}} {cost['seconds']:8.1f} {cost['cpu_seconds']:8.1f} {cost['idle']:6.0%}"


def report() -> None:
    """Write .lab/timing.json and print the table."""
    found = summary()
    (records.PROJECT / ".lab/timing.json").write_text(json.dumps(found, indent=1) + "\n")
    print("\n".join(lines(found)))
