"""The judge of a canary: finds what is worse, and takes noise for noise."""

import random
from math import comb, inf
from typing import Any

import pytest
from judge import bounds, chance, judge, merged

RANDOM = random.Random(1)  # noqa: S311 - a sample, the same each time


def drawn(requests: int, share: float) -> int:
    """Return of how many requests something is true that is true of a share of them."""
    return sum(RANDOM.random() < share for _ in range(requests))


def sample(requests: int, errors: float = 0.0, slower: float = 0.0, refusals: float = 0.0) -> dict[str, Any]:
    """Return what a colour would leave in the log: log-normal latencies around 20 ms with a long tail."""
    return {
        "requests": requests,
        "errors": drawn(requests, errors),
        "refusals": drawn(requests, refusals),
        "seconds": [RANDOM.lognormvariate(-3.9, 0.7) + slower for _ in range(requests)],
        "groups": {},
    }


def counted(requests: int, errors: int = 0, refusals: int = 0) -> dict[str, Any]:
    """Return exactly so many."""
    return sample(requests) | {"errors": errors, "refusals": refusals}


def test_equals_are_fit_a_thousand_times() -> None:
    """A tenth of the traffic against the rest: at most one in a thousand is turned away for nothing."""
    verdicts = [judge(sample(300), sample(2700))["verdict"] for _ in range(300)]
    verdicts += [judge(sample(300, errors=0.02), sample(2700, errors=0.02))["verdict"] for _ in range(300)]
    verdicts += [judge(sample(300, refusals=0.3), sample(2700, refusals=0.3))["verdict"] for _ in range(300)]
    assert verdicts.count("worse") <= 1
    assert "undecided" not in verdicts


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"errors": 0.05}, "of its requests failed"),
        ({"refusals": 0.2}, "of its requests were refused (4xx)"),
        ({"slower": 0.05}, "its p50 is at least"),
    ],
)
def test_what_is_worse_is_found(changes: dict[str, float], said: str) -> None:
    """Every time, with 500 requests: 5 % of errors, 20 % of refusals, 50 milliseconds."""
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


def test_a_bound_that_the_sample_does_not_have_is_none() -> None:
    """Of 200 requests the slowest may well be faster than the p99 of all that could have been asked."""
    assert bounds(sample(200)["seconds"], 0.99)[1] == inf
    assert bounds(sample(1300)["seconds"], 0.99)[1] < inf
    outlier = sample(200)
    outlier["seconds"][:5] = [1.0] * 5
    assert judge(outlier, sample(200))["verdict"] == "fit"


def test_failures_are_found_on_as_few_requests_as_they_are_certain_of() -> None:
    """Seven of seven against none of seven is one chance in 3,432; six of six is one in 924, and says nothing yet."""
    assert judge(counted(7, errors=7), counted(7))["verdict"] == "worse"
    assert judge(counted(7, refusals=7), counted(7))["verdict"] == "worse"
    assert judge(counted(2, errors=2), counted(60))["verdict"] == "worse"
    for undecided in (
        judge(counted(6, errors=6), counted(6)),
        judge(counted(1, errors=1), counted(900)),
        judge(counted(199, errors=1), counted(5000)),
        # Nobody knows of the other: going back may be no better.
        judge(counted(50, errors=50), counted(0)),
        judge(counted(0), counted(50)),
    ):
        assert undecided["verdict"] == "undecided"
    assert undecided["reasons"] == ["fewer than 200 requests with a valid key: candidate 0, other 50"]


def test_slowness_waits_for_the_minimum() -> None:
    """However bad it looks."""
    found = judge(sample(199, slower=1.0), sample(5000))
    assert (found["verdict"], found["reasons"]) == (
        "undecided",
        ["fewer than 200 requests with a valid key: candidate 199"],
    )
    assert judge(sample(200, slower=1.0), sample(5000))["verdict"] == "worse"


@pytest.mark.parametrize(("hits", "size", "other_hits", "other_size"), [(3, 10, 1, 40), (0, 5, 4, 9), (7, 7, 0, 7)])
def test_the_chance_is_fishers(hits: int, size: int, other_hits: int, other_size: int) -> None:
    """As counted one by one, and a probability for samples of millions."""
    total = hits + other_hits
    ways = [comb(size, each) * comb(other_size, total - each) for each in range(total + 1)]
    assert chance(hits, size, other_hits, other_size) == pytest.approx(sum(ways[hits:]) / sum(ways))
    assert chance(1000, 1_000_000, 9100, 9_000_000) == pytest.approx(0.65, abs=0.05)


def test_what_is_certain_and_means_nothing_is_no_reason() -> None:
    """With many requests a millisecond is certain, and so is one error more in a thousand."""
    assert judge(sample(50_000, slower=0.001), sample(50_000))["verdict"] == "fit"
    assert judge(sample(50_000, errors=0.002), sample(50_000, errors=0.001))["verdict"] == "fit"
    assert judge(sample(50_000, refusals=0.14), sample(50_000, refusals=0.05))["verdict"] == "fit"


def test_a_better_candidate_is_fit() -> None:
    """Where the colour that serves fails, the other is welcome."""
    assert judge(sample(500), sample(4500, errors=0.2, slower=0.3, refusals=0.5))["verdict"] == "fit"


def test_what_all_load_balancers_measured_counts_together() -> None:
    """Each says how many requests took how long."""
    groups = {"reads": {"requests": 1, "errors": 1}}
    one = {"requests": 3, "errors": 1, "refusals": 0, "seconds": {"0.01": 2, "0.2": 1}, "groups": groups}
    two = {"requests": 1, "errors": 0, "refusals": 1, "seconds": {"0.01": 1}, "groups": groups}
    found = merged([{"blue": one}, {"blue": two}], "blue")
    assert (found["requests"], found["errors"], found["refusals"]) == (4, 1, 1)
    assert sorted(found["seconds"]) == [0.01, 0.01, 0.01, 0.2]
    assert found["groups"] == {"reads": {"requests": 2, "errors": 2}}


def grouped(found: dict[str, Any], **groups: tuple[int, int]) -> dict[str, Any]:
    """Return a sample with groups of so many errors and requests."""
    return found | {"groups": {name: {"errors": errors, "requests": asked} for name, (errors, asked) in groups.items()}}


def test_a_group_that_fails_is_not_hidden_by_the_others() -> None:
    """A tenth of the writes, one request in twenty, are half a point of all; public answers are not even among them."""
    other = grouped(counted(4000), reads=(0, 3800), writes=(0, 200), public=(0, 100))
    found = judge(grouped(counted(4000, errors=20), reads=(0, 3800), writes=(20, 200), public=(0, 9000)), other)
    assert (found["verdict"], found["reasons"]) == ("worse", ["10.00% of its writes failed, against 0.00%"])
    found = judge(grouped(counted(0), public=(25, 100)), other)
    assert (found["verdict"], found["reasons"]) == ("worse", ["25.00% of its public failed, against 0.00%"])


def test_without_keys_nothing_is_fit() -> None:
    """However many answers the public routes give."""
    public = {"public": (0, 90_000)}
    assert judge(grouped(counted(0), **public), grouped(counted(5000), **public))["verdict"] == "undecided"


def worse(candidate: tuple[int, int], other: tuple[int, int]) -> bool:
    """Say whether the judge condemns so many failures of so many requests, against those of the other."""
    both = [
        {"requests": requests, "errors": errors, "refusals": 0, "seconds": [], "groups": {}}
        for errors, requests in (candidate, other)
    ]
    return bool(judge(both[0], both[1], minimum=1_000_000)["verdict"] == "worse")


# What docs/deploy-and-cutover.md states: errors in which the judge sees a worse colour, and how many must be expected
# for them to have come, in 999 of 1,000 cases.
STATED = [(0.01, 2, 9.3), (0.1, 3, 11.3), (0.5, 10, 22.7)]
EVERY, FAILING = 5, 0.05


@pytest.mark.parametrize(("share", "errors", "expected"), STATED)
@pytest.mark.parametrize("rate", [2, 10, 50])
def test_a_worse_canary_is_withdrawn_within_the_time_stated(
    share: float, errors: int, expected: float, rate: int
) -> None:
    """One of so many requests a second that fails 5 % of them, looked at every 5 s, five hundred times."""
    others = round(1 / share) - 1
    assert worse((errors, 100 * errors), (0, 100 * errors * others))
    assert not worse((errors - 1, 100 * errors), (0, 100 * errors * others))
    bound = expected / (FAILING * rate) + EVERY
    late = 0
    for _ in range(500):
        asked = failed = passed = 0
        while passed <= bound and not worse((failed, asked), (0, asked * others)):
            passed += EVERY
            asked += rate * EVERY
            failed += drawn(rate * EVERY, FAILING)
        late += passed > bound
    assert late <= 2


@pytest.mark.parametrize("failing", [0.001, 0.01, 0.05])
def test_an_equal_canary_survives_all_its_looks(failing: float) -> None:
    """A minute of a tenth of 50 requests a second, looked at every 5 s: fewer than one in a hundred is withdrawn."""
    withdrawn = 0
    for _ in range(500):
        asked = [{"reads": 18, "writes": 7}, {"reads": 160, "writes": 65}]
        failed = [dict.fromkeys(each, 0) for each in asked]
        for look in range(1, 13):
            for more, so_far in zip(asked, failed, strict=True):
                for group, requests in more.items():
                    so_far[group] += drawn(requests, failing)
            candidate, other = (
                grouped(
                    {
                        "requests": look * sum(more.values()),
                        "errors": sum(found.values()),
                        "refusals": 0,
                        "seconds": [],
                    },
                    **{group: (found[group], look * requests) for group, requests in more.items()},
                )
                for more, found in zip(asked, failed, strict=True)
            )
            if judge(candidate, other, minimum=1_000_000)["verdict"] == "worse":
                withdrawn += 1
                break
    assert withdrawn <= 5
