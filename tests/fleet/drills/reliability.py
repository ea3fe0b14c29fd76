"""Keeps the result of each drill's last run in docs/reliability.json, and writes docs/reliability.md from it."""

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from catalog import DRILLS
from drill import Drill
from lab import PROJECT

PAGE = PROJECT / "docs/reliability.md"
KEPT = PAGE.with_suffix(".json")
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
# What the page shows of a result.
FIGURES = (
    "write_gap",
    "read_gap",
    "requests",
    "failed_writes",
    "failed_reads",
    "replica_reads",
    "acknowledged",
    "repeated",
    "lost",
    "duplicated",
    "healthy_after",
    "notes",
    "broken",
)


def keep(drill: Drill, result: Mapping[str, Any] | None) -> None:
    """Keep the result of a drill in place of the one before, or none while it runs, and write the page again.

    The page has a row for each drill that has a result, and says which drills have none or broke a bound.
    """
    kept: dict[str, Any] = json.loads(KEPT.read_text())
    kept.pop(drill.name, None)
    if result:
        kept[drill.name] = {name: figure for name, figure in result.items() if name in FIGURES}
    lines = (f"{json.dumps(name)}: {json.dumps(kept[name], ensure_ascii=False)}" for name in sorted(kept))
    KEPT.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    PAGE.write_text(page(kept))


def page(kept: Mapping[str, Any]) -> str:
    """Return the page for these results, by the names of their drills."""
    results = [(drill, kept[drill.name]) for drill in DRILLS if drill.name in kept]
    rows = [_row(drill, result) for drill, result in results]
    broken = [f"`{drill.name}`: {bound}" for drill, result in results for bound in result["broken"]]
    missing = [f"`{drill.name}`" for drill in DRILLS if drill.name not in kept]
    notes = [f"`{drill.name}`: {note}" for drill, result in results for note in result["notes"]]
    return (
        HEAD.format(cores=os.cpu_count())
        + "".join([_line(COLUMNS), _line(["---"] * len(COLUMNS)), *rows])
        + _list("Figures that only one drill has", notes)
        + _list("Bounds that did not hold", broken)
        + _list("Drills without a result", missing)
    )


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
        _or_dash(result["replica_reads"]),
        result["acknowledged"],
        _or_dash(result["repeated"]),
        result["lost"],
        result["duplicated"],
        f"{result['healthy_after']} s",
    ]
    return _line(cells)


def _or_dash(figure: int | None) -> object:
    return "-" if figure is None else figure


def _line(cells: Iterable[object]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |\n"
