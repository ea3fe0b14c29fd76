"""Filter: a table of the responses of a shadow that differ from those of the live color, or are slower."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any


def table(samples: Sequence[dict[str, Any]]) -> list[str]:
    """Return one line for each route, those with the most differences first.

    Args:
        samples: for each load balancer the `routes` of the module edge_log.

    Returns:
        A header, then for each route: reads compared, number of statuses that differ, p50 and p99 of both colors in
        milliseconds, and the pairs of statuses that differ. Without any reads, one line with the reason.

    """
    if not any(samples):
        return ["Nothing was compared: no read with a valid key or for a public route was copied. Try a larger share."]
    routes: dict[str, dict[str, Any]] = {}
    for sample in samples:
        for route, found in sample.items():
            all_of = routes.setdefault(route, {"live": [], "shadow": [], "statuses": Counter()})
            all_of["live"] += found["live_seconds"]
            all_of["shadow"] += found["shadow_seconds"]
            all_of["statuses"].update(found["statuses"])
    lines = [f"{'route':<40} {'reads':>6} {'differ':>6} {'live p50/p99':>14} {'shadow p50/p99':>14}  differences"]
    for route, found in sorted(routes.items(), key=lambda item: (-_differ(item[1]), item[0])):
        pairs = {pair: count for pair, count in found["statuses"].items() if _differs(pair)}
        lines.append(
            f"{route:<40} {len(found['live']):>6} {_differ(found):>6} {_times(found['live']):>14} "
            f"{_times(found['shadow']):>14}  "
            + ", ".join(f"{pair.replace(' ', ' -> ')}: {count}" for pair, count in sorted(pairs.items()))
        )
    return [line.rstrip() for line in lines]


def _differs(pair: str) -> bool:
    live, shadow = pair.split()
    return live != shadow


def _differ(found: dict[str, Any]) -> int:
    return sum(count for pair, count in found["statuses"].items() if _differs(pair))


def _times(seconds: Sequence[float]) -> str:
    ordered = sorted(seconds)
    return "/".join(f"{1000 * ordered[min(len(ordered) - 1, int(len(ordered) * q))]:.0f}" for q in (0.5, 0.99))


class FilterModule:
    """The entry point for Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"shadow_table": table}
