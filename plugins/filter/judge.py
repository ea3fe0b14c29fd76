"""Compares two colors by what the load balancers measured, and decides whether one of them is worse beyond noise.

Only requests with an accepted API key are judged: without a key, nobody can add refusals or slow requests, or hide
failures among thousands of cheap responses (edge_log defines what counts). The rule, for a candidate and the live
color:

- **Failures** (5xx). The candidate is worse if it fails at least `error_tolerance` more often *and* Fisher's exact test
  rejects, one-sided at 99.9 %, that requests fail on it no more often than on the other color. The test is exact for
  samples of any size, so it needs no minimum: seven failures of seven requests against seven successes are certain, six
  of six are not. The tolerance is for large samples, in which a difference can be certain and irrelevant.
- **Refusals** (4xx). The same with `refusal_tolerance`, which is wider: the mistakes of one client come in bunches, and
  the client stays on one color. 429 (too many requests) and 499 (the client closed the connection) do not count.
- **Latency** (p50 and p99), once both have answered `minimum` requests. Each quantile has a confidence interval from
  order statistics: between the ranks n·q ± 3.29·√(n·q·(1-q)), 99.9 % for both sides together. The candidate is worse
  if its interval is above the other's by more than `latency_tolerance` seconds. No distribution is assumed. If the
  sample is too small for a rank, the interval has no bound there: p99 needs about 1,300 requests of the other color.
- **Failures within a group**, 99.9 % for all groups together: reads, writes, and for each public path the requests
  without an accepted key. So a popular path cannot hide the failures of a rare one. Refusals and times of requests
  without a key are not judged, because anybody can cause them, on a color of their choice.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# One-sided. The judge compares four figures a dozen times in a row and must seldom be wrong.
CHANCE = 0.001
# In standard deviations: 99.95 % for each of two sides.
INTERVAL = 3.29


def judge(
    candidate: Mapping[str, Any],
    other: Mapping[str, Any],
    minimum: int = 200,
    error_tolerance: float = 0.01,
    refusal_tolerance: float = 0.1,
    latency_tolerance: float = 0.02,
) -> dict[str, Any]:
    """Return the verdict on a candidate.

    Args:
        candidate: `requests`, `errors` and `refusals` (counts), `seconds` (how long each request took, in any order),
            `groups` (for each group the counts `requests` and `errors`).
        other: the same of the live color.
        minimum: requests with an accepted key that each color must have answered before the candidate can be fit, or
            too slow.
        error_tolerance: share of requests by which the candidate may fail more often.
        refusal_tolerance: share of requests by which it may refuse more often.
        latency_tolerance: seconds by which it may be slower.

    Returns:
        `verdict` ("fit", "worse", or "undecided" while the sample is too small), `reasons` in words, and `figures` of
        both.

    """
    figures = {"candidate": _figures(candidate), "other": _figures(other)}
    reasons = _more("its requests failed", "errors", candidate, other, error_tolerance)
    reasons += _more("its requests were refused (4xx)", "refusals", candidate, other, refusal_tolerance)
    groups = sorted(set(candidate["groups"]) & set(other["groups"]))
    for group in groups:
        both = candidate["groups"][group], other["groups"][group]
        reasons += _more(f"its {group} failed", "errors", *both, error_tolerance, CHANCE / len(groups))
    few = [name for name, found in figures.items() if found["requests"] < minimum]
    if not few:
        for quantile in (0.5, 0.99):
            reasons += _slower(candidate["seconds"], other["seconds"], quantile, latency_tolerance)
    if few and not reasons:
        counts = ", ".join(f"{name} {figures[name]['requests']}" for name in few)
        small = f"fewer than {minimum} requests with a valid key: {counts}"
        return {"verdict": "undecided", "reasons": [small], "figures": figures}
    return {"verdict": "worse" if reasons else "fit", "reasons": reasons, "figures": figures}


def _figures(found: Mapping[str, Any]) -> dict[str, Any]:
    ordered = sorted(found["seconds"])
    counts = {name: found[name] for name in ("requests", "errors", "refusals")}
    return counts | {"p50": _quantile(ordered, 0.5), "p99": _quantile(ordered, 0.99)}


def _quantile(ordered: Sequence[float], quantile: float) -> float | None:
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * quantile))], 4) if ordered else None


def _more(
    subject: str,
    what: str,
    candidate: Mapping[str, Any],
    other: Mapping[str, Any],
    tolerance: float,
    limit: float = CHANCE,
) -> list[str]:
    if not candidate["requests"] or not other["requests"]:
        return []
    shares = [found[what] / found["requests"] for found in (candidate, other)]
    if shares[0] - shares[1] < tolerance:
        return []
    if chance(candidate[what], candidate["requests"], other[what], other["requests"]) > limit:
        return []
    return [f"{shares[0]:.2%} of {subject}, against {shares[1]:.2%}"]


def chance(hits: int, size: int, other_hits: int, other_size: int) -> float:
    """Return the probability of at least this many hits if all requests are equally likely to be one (Fisher)."""
    total = hits + other_hits
    one = math.exp(_choices(size, hits) + _choices(other_size, other_hits) - _choices(size + other_size, total))
    sum_of = one
    # Each term follows from the one before by the ratio of their probabilities.
    for more in range(hits, min(size, total)):
        one *= (size - more) * (total - more) / ((more + 1) * (other_size - total + more + 1))
        sum_of += one
    return sum_of


def _choices(size: int, chosen: int) -> float:
    """Return the logarithm of the number of ways to choose so many."""
    return math.lgamma(size + 1) - math.lgamma(chosen + 1) - math.lgamma(size - chosen + 1)


def _slower(candidate: Sequence[float], other: Sequence[float], quantile: float, tolerance: float) -> list[str]:
    fastest, slowest = bounds(candidate, quantile)[0], bounds(other, quantile)[1]
    if fastest - slowest <= tolerance:
        return []
    return [
        f"its p{quantile * 100:.0f} is at least {fastest * 1000:.0f} ms, the other's at most {slowest * 1000:.0f} ms"
    ]


def bounds(seconds: Sequence[float], quantile: float) -> tuple[float, float]:
    """Return the bounds of a quantile of the population that the sample is from, each 99.95 % certain."""
    ordered, size = sorted(seconds), len(seconds)
    middle, reach = size * quantile, INTERVAL * math.sqrt(size * quantile * (1 - quantile))
    low, high = math.floor(middle - reach), math.ceil(middle + reach)
    return ordered[low] if low >= 0 else 0.0, ordered[high] if high < size else math.inf


def merged(samples: Sequence[Mapping[str, Any]], color: str) -> dict[str, Any]:
    """Return what all load balancers together measured of one color."""
    found = [sample[color] for sample in samples]
    counts = {name: sum(one[name] for one in found) for name in ("requests", "errors", "refusals")}
    times = [times for one in found for times in one["seconds"].items()]
    groups: dict[str, Counter[str]] = {}
    for name, asked in (item for one in found for item in one["groups"].items()):
        groups.setdefault(name, Counter()).update(asked)
    return counts | {"seconds": [float(took) for took, requests in times for _ in range(requests)], "groups": groups}


def judge_samples(
    samples: Sequence[Mapping[str, Any]], candidate: str, other: str, minimum: int = 200
) -> dict[str, Any]:
    """Return the verdict of `judge` on one color against another, from what each load balancer measured (edge_log)."""
    return judge(merged(samples, candidate), merged(samples, other), minimum=minimum)


class FilterModule:
    """The entry point for Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"judge": judge_samples}
