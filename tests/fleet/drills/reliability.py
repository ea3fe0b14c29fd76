"""Writes docs/reliability.md from the results that the last run of each drill left in .lab/drills."""

import json
import os
from collections.abc import Iterable
from typing import Any

from catalog import DRILLS, Drill
from lab import PROJECT
from running import RESULTS

PAGE = PROJECT / "docs/reliability.md"
HEAD = """# What clients notice when something dies

Written by `make drill`: each fault is brought about in the lab (ten hosts on one machine of {cores} cores) while the
meter sends 70 requests a second through both load balancers, three in ten of them new orders
(tests/fleet/drills/catalog.py says which drill has another load).

A gap is the longest time without one success, in seconds, with the drill's bound in brackets. A failed request is one
that got no 2xx answer; no client repeats any meanwhile. Afterwards every order that failed, and two hundred of the
acknowledged ones, are sent again with the same key: each was acknowledged, those that had been before as the same
order, and only then were the stored orders counted. Two of eight clients are of a trader who only reads: a replica
may answer those, and the table says how many it did. A dash stands where the last result of a drill is from before that
was measured.

After each drill PostgreSQL, Redis and the application are healthy by themselves, and `site.yml` changes nothing.
Throughout, a client on each data host tries to write to its own PostgreSQL: at no time did two of them take writes.

"""
COLUMNS = (
    "what dies (`make drill DRILL=…`)",
    "write gap",
    "read gap",
    "requests",
    "failed writes",
    "failed reads",
    "reads from replicas",
    "orders acknowledged",
    "sent again",
    "lost",
    "duplicated",
    "healthy after",
)


def write() -> None:
    """Write the page: a row for each drill that has a result, and which drills have none or broke a bound."""
    results = [(drill, result) for drill in DRILLS if (result := _result(drill))]
    rows = [_row(drill, result) for drill, result in results]
    broken = [f"`{drill.name}`: {bound}" for drill, result in results for bound in result["broken"]]
    missing = [f"`{drill.name}`" for drill in DRILLS if not _result(drill)]
    notes = [f"`{drill.name}`: {note}" for drill, result in results for note in result.get("notes", [])]
    PAGE.write_text(
        HEAD.format(cores=os.cpu_count())
        + "".join([_line(COLUMNS), _line(["---"] * len(COLUMNS)), *rows])
        + _list("Figures that only one drill has", notes)
        + _list("Bounds that did not hold", broken)
        + _list("Drills without a result", missing)
    )


def _result(drill: Drill) -> dict[str, Any]:
    file = RESULTS / f"{drill.name}.json"
    content: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return content


def _list(title: str, lines: list[str]) -> str:
    return f"\n{title}:\n\n" + "".join(f"- {line}\n" for line in lines) if lines else ""


def _row(drill: Drill, result: dict[str, Any]) -> str:
    cells = [
        f"{drill.breaks} (`{drill.name}`)",
        f"{result['write_gap']} ({drill.write_gap:g})",
        f"{result['read_gap']} ({drill.read_gap:g})",
        result["requests"],
        result["failed_writes"],
        result["failed_reads"],
        result.get("replica_reads", "-"),
        result["acknowledged"],
        result.get("repeated", "-"),
        result["lost"],
        result["duplicated"],
        f"{result['healthy_after']} s",
    ]
    return _line(cells)


def _line(cells: Iterable[object]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |\n"
