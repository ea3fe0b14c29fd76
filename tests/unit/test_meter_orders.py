"""The traffic meter detects every order that was lost, duplicated or replaced when it was repeated."""

from __future__ import annotations

import pytest
from meter_runs import TIMES, Meter, certificate_fixture, meter_fixture  # noqa: F401 (fixtures)

from tools.meter.client import Outcome, Request
from tools.meter.repeats import chosen


@pytest.mark.parametrize(
    ("fault", "column", "bound"),
    [("forget", "lost", "max-lost"), ("other_id", "lost", "max-lost"), ("twice", "duplicated", "max-duplicated")],
)
def test_database_is_compared_with_acknowledged_orders(meter: Meter, fault: str, column: str, bound: str) -> None:
    """The API returned 201 each time; only the rows show the defect."""
    meter.api.fault, meter.api.times = fault, TIMES
    run = meter.run("--database-command", meter.database(), "--max-failed", "0", f"--{bound}", str(TIMES - 1))
    assert run.status == 1
    assert run.report["groups"]["all"]["failed"] == 0
    assert run.report["comparison"][column] == TIMES
    assert len(run.report["comparison"][f"{column}_keys"]) == TIMES
    assert [entry["name"] for entry in run.report["bounds"] if not entry["held"]] == [bound]


def test_order_stored_without_acknowledgement_is_permitted(meter: Meter) -> None:
    """It is found when it is repeated, and is neither lost nor duplicated."""
    meter.api.fault, meter.api.times = "stored_500", TIMES
    run = meter.run("--database-command", meter.database(), "--max-lost", "0", "--max-duplicated", "0")
    assert run.status == 0, run.text
    assert run.report["repeats"]["found"] == TIMES
    assert run.report["groups"]["writes"]["failed_by_kind"] == {"status_5xx": TIMES}


@pytest.mark.parametrize(
    ("fault", "failed", "other_id"),
    [("", 0, 0), ("refused", TIMES, 0), ("unmarked", TIMES, 0), ("new_order", 0, TIMES)],
)
def test_orders_are_repeated(meter: Meter, fault: str, failed: int, other_id: int) -> None:
    """Each is sent after the traffic with its first key and body: same order, marked as repeated, and one row."""
    meter.api.fault, meter.api.times = fault, TIMES
    run = meter.run("--database-command", meter.database(), "--max-failed", "0", "--max-lost", "0")
    assert run.status == 0, run.text
    assert run.report["repeats"]["sent"] == meter.api.repeated == 45
    counts = {name: run.report["repeats"][name] for name in ("failed", "other_id", "found")}
    assert counts == {"failed": failed, "other_id": other_id, "found": 0}
    assert len(run.report["repeats"]["problems"]) == failed + other_id
    assert run.report["comparison"]["duplicated"] == other_id


def test_failed_order_is_repeated(meter: Meter) -> None:
    """It is then acknowledged, and stored once."""
    meter.api.fault, meter.api.times = "500", TIMES
    run = meter.run("--write-share", "1", "--database-command", meter.database(), "--max-lost", "0")
    assert run.status == 0, run.text
    assert run.report["groups"]["writes"]["failed"] == TIMES
    assert {name: run.report["repeats"][name] for name in ("sent", "failed", "found")} == {
        "sent": 90,
        "failed": 0,
        "found": 0,
    }
    assert run.report["comparison"]["acknowledged"] == run.report["comparison"]["stored"] == 90


def test_all_failed_orders_and_two_hundred_others_are_repeated() -> None:
    """The others are from the whole run; reads are not repeated."""
    good, bad = ([outcome(f"{kind}{number}", kind) for number in range(3000)] for kind in ("", "timeout"))
    keys = [request.key for request in chosen([*good, *bad, outcome("", "timeout")])]
    assert keys[:2000] == [f"timeout{number}" for number in range(2000)]
    assert keys[2000:] == [str(number) for number in range(0, 3000, 15)]


def outcome(key: str, failure: str) -> Outcome:
    """Return the outcome of an order, or of a read if the key is empty."""
    return Outcome(
        started=0,
        finished=1,
        request=Request("POST" if key else "GET", "/v1/orders", key=key),
        target="",
        new_connection=False,
        failure=failure or None,
        detail="",
        status=None,
        color="",
        release="",
        by_replica=False,
    )


def test_primary_is_found_among_standbys_and_failed_hosts(meter: Meter) -> None:
    """It may be promoted while the meter waits."""
    late = meter.database(f"late:{meter.directory / 'promoted'}")
    commands = (late, meter.database("t"), "/nonexistent/psql")
    run = meter.run(*(word for command in commands for word in ("--database-command", command)), "--max-lost", "0")
    assert run.status == 0, run.text
    assert run.report["comparison"]["compared"]


@pytest.mark.parametrize("roles", [[], ["t"], ["f", "f"], ["silent"]], ids=["none", "standby", "two", "silent"])
def test_missing_comparison_is_not_a_success(meter: Meter, roles: list[str]) -> None:
    """No primary, two of them or an empty response: never `0 lost`, and a broken bound if one is set."""
    commands = [word for role in roles for word in ("--database-command", meter.database(role))]
    options = (*commands, "--database-wait", "0", "--max-requests", "20")
    run = meter.run(*options, "--max-lost", "0", "--max-failed", "0")
    assert run.status == 1
    assert "not compared" in run.text
    assert run.report["comparison"]["lost"] is None
    assert [bound["held"] for bound in run.report["bounds"]] == [True, False]
    if not roles:
        assert meter.run(*options).status == 0
