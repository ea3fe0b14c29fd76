"""Keeps the result of each drill's last run in docs/reliability.json, and writes docs/reliability.md from it."""

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from catalog import DRILLS, SITES
from drill import Drill
from lab import PROJECT

PAGE = PROJECT / "docs/reliability.md"
KEPT = PAGE.with_suffix(".json")
HEAD = """# What clients notice when something fails

Written by `make drill`: each drill injects one fault into the lab (ten hosts on one machine of {cores} cores) while the
meter sends 70 requests a second through both load balancers. Three in ten are new orders
(tests/fleet/drills/catalog.py lists the drills with a different load).

A gap is the longest time without one success, in seconds, with the drill's bound in brackets. A failed request got no
2xx response; clients do not retry during the drill. Afterward every order that failed, and two hundred of the
acknowledged ones, are sent again with the same key. Each was acknowledged, the latter as the same order, and only then
were the stored orders counted. Two of eight clients use a trader who only reads, so replicas may serve them; the table
counts these reads. A dash means that the last result of a drill predates the measurement.

After each drill PostgreSQL, Redis and the application become healthy without an operator, and `site.yml` changes
nothing. During each drill a client on each data host tries to write to its own PostgreSQL: at no time did two of them
accept writes.

"""
COLUMNS = (
    "fault (`make drill DRILL=…`)",
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
# The figures of a result that the page shows.
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
    """Replace the kept result of a drill, or remove it while the drill runs, and rewrite the page.

    The page has a row for each drill with a result, and lists the drills that have none or broke a bound.
    """
    _replace(drill.name, result and {name: figure for name, figure in result.items() if name in FIGURES})


def keep_site(name: str, sentence: str) -> None:
    """Replace the kept figures of a drill with the second site, and rewrite the page."""
    _replace(name, {"notes": [sentence]})


def _replace(name: str, result: Mapping[str, Any] | None) -> None:
    kept: dict[str, Any] = json.loads(KEPT.read_text())
    kept.pop(name, None)
    if result:
        kept[name] = result
    lines = (f"{json.dumps(name)}: {json.dumps(kept[name], ensure_ascii=False)}" for name in sorted(kept))
    KEPT.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    PAGE.write_text(page(kept))


def page(kept: Mapping[str, Any]) -> str:
    """Return the page for these results, which have the names of their drills."""
    results = [(drill, kept[drill.name]) for drill in DRILLS if drill.name in kept]
    rows = [_row(drill, result) for drill, result in results]
    broken = [f"`{drill.name}`: {bound}" for drill, result in results for bound in result["broken"]]
    missing = [f"`{name}`" for name in (*(drill.name for drill in DRILLS), *SITES) if name not in kept]
    sites = [f"`{name}`: {note}" for name in SITES if name in kept for note in kept[name]["notes"]]
    notes = [f"`{drill.name}`: {note}" for drill, result in results for note in result["notes"]]
    return (
        HEAD.format(cores=os.cpu_count())
        + "".join([_line(COLUMNS), _line(["---"] * len(COLUMNS)), *rows])
        + _list("Figures of single drills", notes)
        + _list("With [a second site](second-site.md)", sites)
        + _list("Broken bounds", broken)
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
