"""The traffic meter detects every kind of fault: operations are judged by it, so it must miss none."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from meter_api import HEALTHY_REQUESTS
from meter_runs import METER, TIMES, Meter, certificate_fixture, environment, meter_fixture  # noqa: F401 (fixtures)
from repository import PROJECT


def test_healthy_api_passes_all_bounds(meter: Meter) -> None:
    """Nothing failed, all orders were compared, and the server received exactly the counted requests."""
    bounds = ("max-failed", "max-failed-reads", "max-failed-writes", "max-lost", "max-duplicated")
    run = meter.run(
        *("--database-command", meter.database(), "--min-rate", "5", "--max-gap", "2"),
        *(word for name in bounds for word in (f"--{name}", "0")),
    )
    assert run.status == 0, run.text
    groups = run.report["groups"]
    assert groups["all"]["ok"] == meter.api.seen == 90
    assert groups["writes"]["statuses"] == {"201": 45}
    assert groups["reads"]["statuses"] == {"200": 45}
    assert 0 < groups["all"]["latency_ms"]["p50"] <= groups["all"]["latency_ms"]["max"] < 3000
    # Two clients keep their connection for the whole run, and so do the four that repeat orders.
    assert meter.api.connections == groups["new_connection"]["sent"] + 2 + 4
    assert run.report["comparison"]["acknowledged"] == run.report["comparison"]["stored"] == 45
    colors = run.report["colors"]
    assert colors["blue"]["answers"] + colors["green"]["answers"] == 90
    assert colors["blue"]["first"] < colors["green"]["first"]
    assert run.report["releases"]["1.0.0"]["answers"] == 90


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("500", "status_5xx"),
        ("403", "status_4xx"),
        ("302", "other"),
        ("gibberish", "other"),
        ("reset", "reset"),
        ("idle_close", "reset"),
        ("cut", "reset"),
        ("freeze", "timeout"),
        ("hidden", "lost_read"),
        ("wrong_order", "bad_body"),
        ("not_json", "bad_body"),
    ],
)
def test_each_fault_is_counted_once_with_its_kind(meter: Meter, fault: str, kind: str) -> None:
    """There are as many failures as faults: none is hidden by a retry or counted twice."""
    meter.api.fault, meter.api.times, meter.api.freeze = fault, TIMES, 6
    run = meter.run("--max-failed", str(TIMES - 1), "--timeout", "2")
    assert meter.api.times == 0
    everything = run.report["groups"]["all"]
    assert everything["failed_by_kind"] == {kind: TIMES}, run.report["failures"]
    assert everything["sent"] == 90
    assert [failure["kind"] for failure in run.report["failures"]] == [kind] * TIMES
    assert run.status == 1
    assert f"max-failed {TIMES - 1}: {TIMES}, BROKEN" in run.text
    if fault in ("500", "403", "302"):
        assert everything["statuses"][fault] == TIMES
    if fault in ("reset", "idle_close"):
        assert run.report["groups"]["keep_alive"]["failed"] == TIMES
        assert all("kept connection" in failure["detail"] for failure in run.report["failures"])


def test_reads_and_writes_have_separate_bounds(meter: Meter) -> None:
    """A failed read does not break the bound on writes."""
    meter.api.fault, meter.api.times = "hidden", TIMES
    run = meter.run("--max-failed-writes", "0", "--max-failed-reads", str(TIMES))
    assert run.status == 0, run.text
    assert run.report["groups"]["reads"]["failed"] == TIMES


def test_some_clients_use_a_trader_who_only_reads(meter: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica answers them; the share of orders stays the same; without that trader no client is one of them."""
    monkeypatch.setenv("TRADEFLEET_READER_KEY", "reader")
    run = meter.run("--clients", "8", "--write-share", "0.3", "--max-requests", "160", "--max-failed", "0")
    assert run.status == 0, run.text
    assert run.report["replica_reads"] == 2 * 20
    assert run.report["groups"]["writes"]["sent"] == 0.3 * 160
    monkeypatch.delenv("TRADEFLEET_READER_KEY")
    assert meter.run("--max-failed", "0").report["replica_reads"] == 0


def test_refused_connection_and_untrusted_certificate_are_failures(meter: Meter) -> None:
    """Requests that never reached the API have failed; those to the other target have not."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{unused.getsockname()[1]}"
        run = meter.run("--target", dead, "--target", f"127.0.0.1:{meter.api.port}", "--max-failed", "0")
    assert run.status == 1
    assert run.report["groups"]["all"]["failed_by_kind"] == {"connect": 45}
    assert {failure["target"] for failure in run.report["failures"]} == {dead}

    run = meter.run("--name", "else.test", "--max-requests", "8", "--max-failed", "0")
    assert run.status == 1
    assert run.report["groups"]["all"]["failed_by_kind"] == {"tls": 8}


def test_bound_without_data_is_broken(meter: Meter) -> None:
    """A run without writes proves nothing about writes."""
    run = meter.run("--write-share", "0", "--max-requests", "20", "--max-failed-writes", "0")
    assert run.status == 1
    assert "nothing to measure" in run.text


def test_outage_is_a_gap_and_skipped_requests_are_not_made_up_for(meter: Meter) -> None:
    """The only client waits 1 s for a response while requests are due; at most a second's worth is sent later."""
    meter.api.fault, meter.api.times = "freeze", 2
    run = meter.run(
        *("--clients", "1", "--rate", "50", "--duration", "6", "--max-requests", "1000", "--timeout", "5"),
        *("--max-gap", "1.5", "--min-rate", "45"),
    )
    assert run.status == 1
    assert all(not bound["held"] for bound in run.report["bounds"]), run.text
    gap = run.report["groups"]["all"]["longest_gap"]
    assert 1.9 < gap["seconds"] < 4.5
    assert gap["start"] < run.report["failures"][0]["time"]
    assert run.report["skipped"] > 40
    assert run.report["groups"]["all"]["sent"] + run.report["skipped"] == pytest.approx(300, abs=2)


def test_outage_until_the_end_is_a_gap(meter: Meter) -> None:
    """No later success ends it."""
    meter.api.fault, meter.api.times = "500", -1
    run = meter.run("--rate", "50", "--duration", "3", "--max-gap", "0.8")
    assert run.status == 1
    assert run.report["groups"]["all"]["ok"] == HEALTHY_REQUESTS
    gap = run.report["groups"]["all"]["longest_gap"]
    assert gap["seconds"] > 0.9
    assert gap["start"] > run.report["started"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_traffic_but_not_the_report(meter: Meter, number: signal.Signals) -> None:
    """Requests in flight finish, orders are compared, and the status follows from the bounds."""
    meter.api.delay = 0.3
    command = meter.command(
        *("--duration", "60", "--max-requests", "100000"),
        *("--database-command", meter.database(), "--max-failed", "0", "--max-lost", "0"),
    )
    with subprocess.Popen(
        command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if meter.progress.exists() and json.loads(meter.progress.read_text())["ok"] > 0:
                break
            time.sleep(0.05)
        process.send_signal(number)
        output, errors = process.communicate(timeout=15)
    run = meter.ended(process.returncode, output, errors)
    assert run.status == 0, run.text
    assert run.report["interrupted"]
    assert run.report["seconds"] < 10
    assert run.report["comparison"]["compared"]
    assert run.report["groups"]["all"]["ok"] == meter.api.seen


@pytest.mark.parametrize(
    ("options", "key", "message"),
    [
        (("--ca", "/nonexistent"), "secret", "CA certificate /nonexistent"),
        ((), "", "TRADEFLEET_API_KEY"),
        (("--api-key-file", "/nonexistent"), "secret", "/nonexistent"),
        (("--json", "/nonexistent/report"), "secret", "/nonexistent/report"),
        (("--write-share", "2"), "secret", "--write-share"),
        (("--target", "host:port"), "secret", "--target"),
    ],
)
def test_run_that_cannot_start_reports_why(certificate: Path, options: tuple[str, ...], key: str, message: str) -> None:
    """The status is 2, and no request is sent."""
    done = subprocess.run(
        [*METER, "--ca", str(certificate), "--target", "127.0.0.1:1", *options],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=10,
        env={**os.environ, "TRADEFLEET_API_KEY": key},
        check=False,
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""
