"""From an order to its activity: exactly once, by the enabled workers, despite failures."""

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import testinfra
from locks import locked, run_sql, wait, waits
from scenario import SCENARIO, play
from testinfra.host import Host

LIVE = testinfra.get_host("podman://tf-app2")
URL = "https://10.203.0.108:8443"
CURL = "curl -sS --max-time 10 --cacert /etc/ssl/tradefleet/ca.crt"
KEY = "-H 'Authorization: Bearer molecule-molecule-molecule-molecule-1'"
ORDER = """{"symbol":"AAPL","side":"buy","type":"market","quantity":"1"}"""
UNIT = "tradefleet-worker"
PROGRAM = "/opt/tradefleet/current/venv/bin/tradefleet-worker"


def place(host: Host, count: int) -> str:
    """Place orders; return the prefix of their idempotency keys."""
    run = str(uuid.uuid4())
    each = f"{CURL} -o /dev/null -w '%{{http_code}}\\n' {KEY} -H 'Idempotency-Key: {run}-NUMBER' --json '{ORDER}'"
    answers = host.check_output(f"seq {count} | xargs -P 4 -I NUMBER {each} {URL}/v1/orders").split()
    assert answers == ["201"] * count
    return run


def effects(host: Host, run: str) -> dict[str, str]:
    """Return how many of these orders led to how many activities: {"0": "3", "1": "17"}."""
    seen = "SELECT order_id, count(*) AS times FROM activity GROUP BY order_id"
    found = run_sql(
        host,
        f"SELECT coalesce(times, 0), count(*) FROM orders LEFT JOIN ({seen}) AS seen ON seen.order_id = orders.id "
        f"WHERE idempotency_key LIKE '{run}-%' GROUP BY 1",
    )
    return dict(line.split("|") for line in found.splitlines())


def shown(host: Host, name: str) -> str:
    """Return a property of a host's worker."""
    return str(host.check_output(f"systemctl show -p {name} --value {UNIT}"))


@contextmanager
def held(host: Host) -> Iterator[str]:
    """Hold a worker in the middle of a batch of 20, at a lock that ends about 3 s after the block began."""
    # A frozen worker leaves the orders alone, and continuing takes no time, unlike a start.
    LIVE.check_output(f"systemctl kill -s STOP {UNIT}")
    run = place(host, 20)
    with locked(host, "activity", 4):
        LIVE.check_output(f"systemctl kill -s CONT {UNIT}")
        wait(lambda: waits(host, "tradefleet_other"), 3.5)
        yield run


@pytest.fixture(autouse=True)
def restore_workers(host: Host) -> Iterator[None]:
    """Leave only the live host's worker running after each test."""
    yield
    host.check_output(f"systemctl stop {UNIT}")
    LIVE.check_output(f"systemctl start {UNIT} && systemctl kill -s CONT {UNIT}")


def test_order_leads_to_an_activity(host: Host) -> None:
    """One host accepts the order, and the worker of the other creates the activity; the trader can read it."""
    run = place(host, 1)
    wait(lambda: effects(host, run) == {"1": "1"}, 5)
    (order,) = run_sql(host, f"SELECT id FROM orders WHERE idempotency_key = '{run}-1'").splitlines()
    (item,) = json.loads(host.check_output(f"{CURL} {KEY} '{URL}/v1/activity?limit=1'"))["items"]
    assert (item["kind"], item["order_id"]) == ("order.accepted", order)


def test_only_the_configured_host_processes_events(host: Host) -> None:
    """This holds after a reboot, too; without a worker events wait, and /readyz reports for how long."""
    states = [each.run(f"systemctl is-enabled {UNIT}").stdout.strip() for each in (host, LIVE)]
    assert states == ["disabled", "enabled"]
    LIVE.check_output(f"systemctl stop {UNIT}")
    run = place(host, 3)
    time.sleep(2)
    assert effects(host, run) == {"0": "3"}
    assert json.loads(host.check_output(f"{CURL} {URL}/readyz"))["outbox_seconds"] >= 1
    LIVE.check_output(f"systemctl start {UNIT}")
    wait(lambda: effects(host, run) == {"1": "3"}, 5)
    assert run_sql(host, "SELECT count(*) FROM outbox") == "0"


def test_killed_worker_loses_and_duplicates_nothing(host: Host) -> None:
    """It is killed in the middle of its batch; systemd starts a new one."""
    with held(host) as run:
        before = shown(LIVE, "MainPID")
        LIVE.check_output(f"kill -9 {before}")
    wait(lambda: effects(host, run) == {"1": "20"})
    assert shown(LIVE, "MainPID") not in ("0", before)
    assert run_sql(host, "SELECT count(*) FROM outbox") == "0"


def test_stopped_worker_finishes_its_batch(host: Host) -> None:
    """It exits successfully by itself, and only after its batch."""
    with held(host) as run:
        began = time.monotonic()
        LIVE.check_output(f"systemctl stop {UNIT}")
        assert time.monotonic() - began > 0.3
        assert effects(host, run) == {"1": "20"}
    assert (shown(LIVE, "Result"), shown(LIVE, "ExecMainStatus")) == ("success", "0")


def test_frozen_worker_does_not_block_another(host: Host) -> None:
    """Another worker, behind a pooler, skips its events, which take effect once when it continues."""
    with held(host) as run:
        LIVE.check_output(f"systemctl kill -s STOP {UNIT}")
    try:
        host.check_output(f"systemctl start {UNIT}")
        other = place(host, 5)
        wait(lambda: effects(host, other) == {"1": "5"}, 5)
        assert effects(host, run) == {"0": "20"}
    finally:
        LIVE.check_output(f"systemctl kill -s CONT {UNIT}")
    wait(lambda: effects(host, run) == {"1": "20"})


def test_worker_waits_for_an_unreachable_database(host: Host) -> None:
    """The same process continues when the database recovers."""
    before = shown(LIVE, "MainPID")
    host.check_output("systemctl restart postgresql@17-main")
    run = place(host, 5)
    wait(lambda: effects(host, run) == {"1": "5"})
    assert shown(LIVE, "MainPID") == before


def test_event_that_fails_is_set_aside_and_retried(host: Host) -> None:
    """The worker continues, /readyz counts the event, and the operator lists it and moves it back, once."""

    def failed() -> int | None:
        count: int | None = json.loads(host.check_output(f"{CURL} {URL}/readyz"))["outbox_failed"]
        return count

    event = str(uuid.uuid4())
    ids = json.dumps({"order_id": event, "trader_id": event}).replace('"', '\\"')
    run_sql(host, f"INSERT INTO outbox VALUES ('{event}', 'order.accepted', '{{}}', now())")
    wait(lambda: failed() == 1)
    run = place(host, 1)
    wait(lambda: effects(host, run) == {"1": "1"})
    assert event in play(SCENARIO / "events.yml", "--check").stdout
    assert failed() == 1
    # As new as if it had just been written: an older one is found within a minute.
    run_sql(host, f"UPDATE failed_events SET payload = '{ids}', created_at = now() + interval '1 min'")
    assert "changed=1 " in play(SCENARIO / "events.yml").stdout
    wait(lambda: run_sql(host, f"SELECT count(*) FROM activity WHERE id = '{event}'") == "1", 90)
    assert failed() == 0
    assert "changed=0 " in play(SCENARIO / "events.yml").stdout


def test_release_without_a_worker_does_not_fail() -> None:
    """It predates workers: nothing starts, and nothing fails."""
    LIVE.check_output(f"systemctl stop {UNIT} && mv {PROGRAM} {PROGRAM}.away")
    try:
        LIVE.check_output(f"systemctl enable --now {UNIT}")
        assert shown(LIVE, "ActiveState") == "inactive"
    finally:
        LIVE.check_output(f"mv {PROGRAM}.away {PROGRAM}")


def test_its_sandbox_is_that_of_the_api() -> None:
    """It has no capabilities, cannot gain any, and its system calls are filtered; it has no host key."""
    status = LIVE.check_output(f"cat /proc/{shown(LIVE, 'MainPID')}/status")
    for line in ("CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
        assert line in status
    assert LIVE.file(f"/run/credentials/{UNIT}.service").listdir() == ["database_password"]
