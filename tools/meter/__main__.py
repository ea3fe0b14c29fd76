"""The traffic meter: sends reads and orders to the trading API while operations run, and counts failures.

Every request that did not get its expected answer has failed (the kinds are in `client.py`), and none is retried while
traffic flows. Afterward, orders are sent again (`repeats.py`), and each acknowledged one is looked up in the database.
`report.Report` is the schema of the JSON.

Exit status: 0 if all given bounds hold, 1 if one is broken, 2 if the run could not be set up. A bound on something that
was not measured is broken. SIGTERM and SIGINT end the traffic early; repeats, comparison and report still follow.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from tools.meter.client import Client, Plan
from tools.meter.database import compare
from tools.meter.options import BOUNDS, DEFAULT_TARGET, READER_VARIABLE, key_of_trader, parser, tls_context
from tools.meter.repeats import Repeater
from tools.meter.report import Span
from tools.meter.summary import summarize
from tools.meter.table import lines

SETTINGS = ("clients", "rate", "duration", "write_share", "new_connection_share", "timeout")
# Seconds between two checks of the main thread for a signal and for the end of the clients.
TICK = 0.1


def main(arguments: list[str] | None = None) -> int:
    """Run the meter and return its exit status; argparse exits with 2 on a usage or set-up error."""
    command_line = parser()
    options = command_line.parse_args(arguments)
    options.target = options.target or [DEFAULT_TARGET]
    try:
        context = tls_context(options.ca)
        api_key = key_of_trader(options.api_key_file)
        reader_key = os.environ.get(READER_VARIABLE, "")
        # Files of an earlier run must not be mistaken for this one's, and a path that is not writable should fail
        # before the run, not after it.
        _write_progress(options.progress, [], "starting")
        if options.json:
            options.json.write_text("")
    except (OSError, ValueError) as error:
        command_line.error(str(error))

    interrupted = _interruption()
    started = datetime.now(UTC)
    start = time.monotonic()
    plan = Plan(
        run_id=f"{started:%Y%m%d%H%M%S}{secrets.token_hex(3)}",
        name=options.name,
        context=context,
        timeout=options.timeout,
        start=start,
        end=start + options.duration,
    )
    clients = _clients(plan, options, api_key, reader_key)
    stop = _drive(clients, options.progress, interrupted)
    outcomes = [outcome for client in clients for outcome in client.outcomes]
    acknowledged = {key: order_id for client in clients for key, order_id in client.acknowledged.items()}
    repeater = Repeater(options.target, plan.name, context, api_key, plan.timeout)
    repeats, acknowledged = repeater.run(outcomes, acknowledged)
    comparison = compare(options.database_command, plan.run_id, acknowledged, options.database_wait)
    given = vars(options)
    report = summarize(
        run_id=plan.run_id,
        span=Span(start, min(stop, plan.end), started),
        interrupted=interrupted() and stop < plan.end,
        settings={
            "targets": [f"{host}:{port}" for host, port in options.target],
            **{name: given[name] for name in SETTINGS},
        },
        skipped=sum(client.skipped for client in clients),
        outcomes=outcomes,
        repeats=repeats,
        comparison=comparison,
        limits={name: given[dest] for name in BOUNDS if (dest := name.replace("-", "_")) in given},
    )
    if options.json:
        options.json.write_text(json.dumps(asdict(report), indent=2) + "\n")
    for line in lines(report):
        print(line)
    return 0 if report.passed else 1


def _interruption() -> Callable[[], bool]:
    """Handle SIGTERM and SIGINT; return a function that reports whether one was received."""
    received: list[int] = []
    # Not an Event: the thread that the handler interrupts may hold its lock.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda signum, _frame: received.append(signum))
    return lambda: bool(received)


def _clients(plan: Plan, options: argparse.Namespace, api_key: str, reader_key: str) -> list[Client]:
    count: int = options.clients
    fresh = round(count * options.new_connection_share)
    # Readers exist for both kinds of connections and for both of two targets. The other clients place more orders.
    readers = range(2, count, 5) if reader_key else range(0)
    write_share = min(1.0, options.write_share * count / (count - len(readers)))
    quota, remainder = divmod(options.max_requests, count)
    return [
        Client(
            plan=plan,
            number=number,
            # Targets alternate within both kinds of clients, so that neither depends on one target alone.
            address=options.target[number % len(options.target)],
            api_key=reader_key if number in readers else api_key,
            write_share=0 if number in readers else write_share,
            new_connection=number < fresh,
            interval=count / options.rate,
            offset=number / options.rate,
            quota=quota + (number < remainder),
        )
        for number in range(count)
    ]


def _drive(clients: list[Client], progress: Path | None, interrupted: Callable[[], bool]) -> float:
    """Run the clients until their last request is complete; return the instant at which sending stopped."""
    stop = threading.Event()
    stopped = None
    with ThreadPoolExecutor(max_workers=len(clients)) as pool:
        runs = [pool.submit(client.run, stop) for client in clients]
        _write_progress(progress, clients, "traffic")
        written = time.monotonic()
        while not all(run.done() for run in runs):
            time.sleep(TICK)
            if interrupted() and not stop.is_set():
                stopped = time.monotonic()
                stop.set()
            if time.monotonic() - written >= 1:
                _write_progress(progress, clients, "traffic")
                written = time.monotonic()
    # An error in the meter itself, which ended a client, is raised here: the run is worthless.
    for run in runs:
        run.result()
    _write_progress(progress, clients, "ended")
    return stopped or time.monotonic()


def _write_progress(path: Path | None, clients: list[Client], state: str) -> None:
    """Write `state` (starting, traffic, ended) and the counts so far, in one piece."""
    if path is None:
        return
    finished = sum(len(client.outcomes) for client in clients)
    failed = sum(client.failed for client in clients)
    counts = {"sent": sum(client.sent for client in clients), "ok": max(finished - failed, 0), "failed": failed}
    counts["acknowledged"] = sum(len(client.acknowledged) for client in clients)
    draft = path.with_name(f"{path.name}.new")
    draft.write_text(json.dumps({"state": state, "time": datetime.now(UTC).isoformat(), **counts}) + "\n")
    draft.replace(path)


if __name__ == "__main__":
    sys.exit(main())
