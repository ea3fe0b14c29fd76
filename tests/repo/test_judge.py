"""The judge of a canary: finds what is worse, and takes noise for noise."""

import random
from typing import Any

import pytest
from judge import judge

RANDOM = random.Random(1)  # noqa: S311 - a sample, the same each time


def sample(requests: int, errors: float = 0.0, slower: float = 0.0) -> dict[str, Any]:
    """Return what a colour would leave in the log: log-normal latencies around 20 ms with a long tail."""
    seconds = [RANDOM.lognormvariate(-3.9, 0.7) + slower for _ in range(requests)]
    return {
        "requests": requests,
        "errors": sum(RANDOM.random() < errors for _ in range(requests)),
        "seconds": seconds,
    }


def test_equals_are_fit_a_thousand_times() -> None:
    """A tenth of the traffic against the rest: at most one in a thousand is turned away for nothing."""
    verdicts = [judge(sample(300), sample(2700))["verdict"] for _ in range(300)]
    verdicts += [judge(sample(300, errors=0.02), sample(2700, errors=0.02))["verdict"] for _ in range(300)]
    assert verdicts.count("worse") <= 1
    assert "undecided" not in verdicts


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"errors": 0.05}, "of its requests failed"), ({"slower": 0.05}, "its p50 is at least")],
)
def test_five_percent_of_errors_or_fifty_milliseconds_are_found(changes: dict[str, float], said: str) -> None:
    """Every time, with 500 requests."""
    for _ in range(100):
        found = judge(sample(500, **changes), sample(4500))
        assert found["verdict"] == "worse"
        assert said in " ".join(found["reasons"])


def test_a_longer_tail_alone_is_found() -> None:
    """One request in twenty takes a second: the middle is as before."""
    candidate = sample(2000)
    candidate["seconds"][:100] = [1.0] * 100
    found = judge(candidate, sample(18000))
    assert found["verdict"] == "worse"
    assert [reason for reason in found["reasons"] if reason.startswith("its p99")] == found["reasons"]


def test_too_few_requests_say_nothing() -> None:
    """Neither good nor bad, however bad they look."""
    found = judge(sample(199, errors=1.0), sample(5000))
    assert found["verdict"] == "undecided"
    assert found["reasons"] == ["fewer than 200 requests: candidate 199"]


def test_what_is_certain_and_means_nothing_is_no_reason() -> None:
    """With many requests a millisecond is certain, and so is one error more in a thousand."""
    assert judge(sample(50_000, slower=0.001), sample(50_000))["verdict"] == "fit"
    assert judge(sample(50_000, errors=0.002), sample(50_000, errors=0.001))["verdict"] == "fit"


def test_a_better_candidate_is_fit() -> None:
    """Where the colour that serves fails, the other is welcome."""
    assert judge(sample(500), sample(4500, errors=0.2, slower=0.3))["verdict"] == "fit"
