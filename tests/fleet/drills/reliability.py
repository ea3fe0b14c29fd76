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
that got no 2xx answer; no client repeats any. After each drill PostgreSQL, Redis and the application are healthy by
themselves, and `site.yml` changes nothing. Throughout, a client on each data host tries to write to its own
PostgreSQL: at no time did two of them take writes.

"""
COLUMNS = (
    "what dies (`make drill DRILL=…`)",
    "write gap",
    "read gap",
    "failed writes",
    "failed reads",
    "orders acknowledged",
    "lost",
    "duplicated",
    "healthy after",
)


def write() -> bool:
    """Write the page if every drill has a result and none broke a bound; tell whether it was written."""
    files = [RESULTS / f"{drill.name}.json" for drill in DRILLS]
    results = [json.loads(file.read_text()) for file in files if file.exists()]
    if len(results) < len(DRILLS) or any(result["broken"] for result in results):
        return False
    rows = [_row(drill, result) for drill, result in zip(DRILLS, results, strict=True)]
    lines = [_line(COLUMNS), _line(["---"] * len(COLUMNS)), *rows]
    notes = [f"- `{result['name']}`: {note}\n" for result in results for note in result.get("notes", [])]
    PAGE.write_text(
        HEAD.format(cores=os.cpu_count()) + "".join(lines) + ("\nBeside that:\n\n" if notes else "") + "".join(notes)
    )
    return True


def _row(drill: Drill, result: dict[str, Any]) -> str:
    cells = [
        f"{drill.breaks} (`{drill.name}`)",
        f"{result['write_gap']} ({drill.write_gap:g})",
        f"{result['read_gap']} ({drill.read_gap:g})",
        result["failed_writes"],
        result["failed_reads"],
        result["acknowledged"],
        result["lost"],
        result["duplicated"],
        f"{result['healthy_after']} s",
    ]
    return _line(cells)


def _line(cells: Iterable[object]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |\n"
