"""Compares two colours by what the load balancers measured, and says whether one of them is worse beyond noise.

The rule, for a candidate and the colour that serves:

- **Sample.** Both must have answered `minimum` requests; before that nothing is said.
- **Errors** (5xx). Worse, if the one-sided two-proportion z-test rejects «not more errors than the other» at 99.9 %
  *and* the difference is at least `error_tolerance`: with many requests a difference can be certain and mean nothing.
- **Latency** (p50 and p99). Each quantile has a confidence interval from order statistics: between the ranks
  n·q ± 3.29·√(n·q·(1-q)), 99.9 % for both sides together. Worse, if the candidate's interval lies above the other's by
  more than `latency_tolerance` seconds. No distribution is assumed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

# Standard deviations: 99.9 % one-sided, so that a judge who looks at three figures ten times in a row is seldom wrong.
CERTAIN = 3.09
INTERVAL = 3.29


def judge(
    candidate: dict[str, Any],
    other: dict[str, Any],
    minimum: int = 200,
    error_tolerance: float = 0.01,
    latency_tolerance: float = 0.02,
) -> dict[str, Any]:
    """Return the verdict on a candidate.

    Args:
        candidate: `requests` and `errors` (counts), `seconds` (how long each request took, in any order).
        other: the same of the colour that serves.
        minimum: requests that each must have answered.
        error_tolerance: share of requests by which the candidate may fail more often.
        latency_tolerance: seconds by which it may be slower.

    Returns:
        `verdict` ("fit", "worse", or "undecided" while the sample is too small), `reasons` in words, and `figures` of
        both.

    """
    figures = {"candidate": _figures(candidate), "other": _figures(other)}
    few = [name for name, found in (("candidate", candidate), ("other", other)) if found["requests"] < minimum]
    if few:
        counts = ", ".join(f"{name} {figures[name]['requests']}" for name in few)
        return {"verdict": "undecided", "reasons": [f"fewer than {minimum} requests: {counts}"], "figures": figures}
    reasons = _more_errors(candidate, other, error_tolerance)
    for quantile in (0.5, 0.99):
        reasons += _slower(candidate["seconds"], other["seconds"], quantile, latency_tolerance)
    return {"verdict": "worse" if reasons else "fit", "reasons": reasons, "figures": figures}


def _figures(found: dict[str, Any]) -> dict[str, Any]:
    ordered = sorted(found["seconds"])
    return {
        "requests": found["requests"],
        "errors": found["errors"],
        "p50": _quantile(ordered, 0.5),
        "p99": _quantile(ordered, 0.99),
    }


def _quantile(ordered: Sequence[float], quantile: float) -> float | None:
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * quantile))], 4) if ordered else None


def _more_errors(candidate: dict[str, Any], other: dict[str, Any], tolerance: float) -> list[str]:
    rates = [found["errors"] / found["requests"] for found in (candidate, other)]
    pooled = (candidate["errors"] + other["errors"]) / (candidate["requests"] + other["requests"])
    spread = math.sqrt(pooled * (1 - pooled) * (1 / candidate["requests"] + 1 / other["requests"]))
    difference = rates[0] - rates[1]
    if difference < tolerance or spread == 0 or difference / spread < CERTAIN:
        return []
    return [f"{rates[0]:.2%} of its requests failed, against {rates[1]:.2%}"]


def _slower(candidate: Sequence[float], other: Sequence[float], quantile: float, tolerance: float) -> list[str]:
    fastest, slowest = bounds(candidate, quantile)[0], bounds(other, quantile)[1]
    if fastest - slowest <= tolerance:
        return []
    return [
        f"its p{quantile * 100:.0f} is at least {fastest * 1000:.0f} ms, the other's at most {slowest * 1000:.0f} ms"
    ]


def bounds(seconds: Sequence[float], quantile: float) -> tuple[float, float]:
    """Return the bounds between which a quantile of what the sample is taken from lies, 99.95 % certain of each."""
    ordered, size = sorted(seconds), len(seconds)
    middle, reach = size * quantile, INTERVAL * math.sqrt(size * quantile * (1 - quantile))
    low, high = max(0, math.floor(middle - reach)), min(size - 1, math.ceil(middle + reach))
    return ordered[low], ordered[high]


def merged(samples: Sequence[dict[str, Any]], color: str) -> dict[str, Any]:
    """Return what all load balancers together measured of one colour."""
    return {
        "requests": sum(sample[color]["requests"] for sample in samples),
        "errors": sum(sample[color]["errors"] for sample in samples),
        "seconds": [seconds for sample in samples for seconds in sample[color]["seconds"]],
    }


def judge_samples(samples: Sequence[dict[str, Any]], candidate: str, other: str, minimum: int = 200) -> dict[str, Any]:
    """Return `judge`'s verdict on one colour against another, from what each load balancer measured (edge_log)."""
    return judge(merged(samples, candidate), merged(samples, other), minimum=minimum)


class FilterModule:
    """What playbooks may use."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"judge": judge_samples}
