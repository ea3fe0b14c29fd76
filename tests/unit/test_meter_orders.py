"""The traffic meter finds every order that was lost, doubled or became another one when it was sent again."""

from __future__ import annotations

import pytest
from meter_runs import TIMES, Meter, certificate_fixture, meter_fixture  # noqa: F401 (fixtures)

from tools.meter.client import Outcome, Request
from tools.meter.repeats import chosen


@pytest.mark.parametrize(
    ("fault", "column", "bound"),
    [("forget", "lost", "max-lost"), ("other_id", "lost", "max-lost"), ("twice", "duplicated", "max-duplicated")],
)
def test_the_database_is_held_to_what_was_acknowledged(meter: Meter, fault: str, column: str, bound: str) -> None:
    """The API said 201 each time, and only the rows show what became of it."""
    meter.api.fault, meter.api.times = fault, TIMES
    run = meter.run("--database-command", meter.database(), "--max-failed", "0", f"--{bound}", str(TIMES - 1))
    assert run.status == 1
    assert run.report["groups"]["all"]["failed"] == 0
    assert run.report["comparison"][column] == TIMES
    assert len(run.report["comparison"][f"{column}_keys"]) == TIMES
    assert [entry["name"] for entry in run.report["bounds"] if not entry["held"]] == [bound]


def test_an_order_stored_without_acknowledgement_is_legal(meter: Meter) -> None:
    """It is found when it is sent again, and neither lost nor duplicated."""
    meter.api.fault, meter.api.times = "stored_500", TIMES
    run = meter.run("--database-command", meter.database(), "--max-lost", "0", "--max-duplicated", "0")
    assert run.status == 0, run.text
    assert run.report["repeats"]["found"] == TIMES
    assert run.report["groups"]["writes"]["failed_by_kind"] == {"status_5xx": TIMES}


@pytest.mark.parametrize(
    ("fault", "failed", "other_id"), [("", 0, 0), ("refused", TIMES, 0), ("unmarked", TIMES, 0), ("anew", 0, TIMES)]
)
def test_orders_are_sent_again(meter: Meter, fault: str, failed: int, other_id: int) -> None:
    """After the traffic, each with its first key and body: the same order, marked as repeated, and one row."""
    meter.api.fault, meter.api.times = fault, TIMES
    run = meter.run("--database-command", meter.database(), "--max-failed", "0", "--max-lost", "0")
    assert run.status == 0, run.text
    assert run.report["repeats"]["sent"] == meter.api.repeated == 45
    counts = {name: run.report["repeats"][name] for name in ("failed", "other_id", "found")}
    assert counts == {"failed": failed, "other_id": other_id, "found": 0}
    assert len(run.report["repeats"]["problems"]) == failed + other_id
    assert run.report["comparison"]["duplicated"] == other_id


def test_an_order_that_failed_is_sent_again(meter: Meter) -> None:
    """It is acknowledged then, and stored once."""
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


def test_all_that_failed_and_two_hundred_others_are_chosen() -> None:
    """The others are of the whole run; reads are not sent again."""
    good, bad = ([outcome(f"{kind}{number}", kind) for number in range(3000)] for kind in ("", "timeout"))
    keys = [request.key for request in chosen([*good, *bad, outcome("", "timeout")])]
    assert keys[:2000] == [f"timeout{number}" for number in range(2000)]
    assert keys[2000:] == [str(number) for number in range(0, 3000, 15)]


def outcome(key: str, failure: str) -> Outcome:
    """Return what became of an order, or of a read when there is no key."""
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


def test_the_primary_is_found_among_standbys_and_the_dead(meter: Meter) -> None:
    """Also when it is promoted only while the meter waits."""
    late = meter.database(f"late:{meter.directory / 'promoted'}")
    commands = (late, meter.database("t"), "/nonexistent/psql")
    run = meter.run(*(word for command in commands for word in ("--database-command", command)), "--max-lost", "0")
    assert run.status == 0, run.text
    assert run.report["comparison"]["compared"]


@pytest.mark.parametrize("roles", [[], ["t"], ["f", "f"], ["silent"]], ids=["none", "standby", "two", "silent"])
def test_what_could_not_be_compared_is_not_called_whole(meter: Meter, roles: list[str]) -> None:
    """No primary, two of them, a query that printed nothing: never `0 lost`, and a broken bound if there is one."""
    commands = [word for role in roles for word in ("--database-command", meter.database(role))]
    options = (*commands, "--database-wait", "0", "--max-requests", "20")
    run = meter.run(*options, "--max-lost", "0", "--max-failed", "0")
    assert run.status == 1
    assert "not compared" in run.text
    assert run.report["comparison"]["lost"] is None
    assert [bound["held"] for bound in run.report["bounds"]] == [True, False]
    if not roles:
        assert meter.run(*options).status == 0
