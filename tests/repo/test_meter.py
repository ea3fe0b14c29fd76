"""The traffic meter sees every kind of fault: it judges operations, and a judge who misses one is worth nothing.

The API is a small HTTPS server in this process that fails a set number of times in a set way, so that the counts can be
compared exactly; the database is a script over the rows that this server stored.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

METER = Path(__file__).parents[1] / "fleet" / "meter.py"
NAME = "tradefleet.test"
TIMES = 3
# Faults begin after some traffic, so that there are kept connections and acknowledged orders to fail on.
HEALTHY_REQUESTS = 20

PSQL = """
import pathlib, re, sys
rows, role = sys.argv[1:]
sql = sys.stdin.read()
if role.startswith("late:"):
    asked = pathlib.Path(role.removeprefix("late:"))
    role = "f" if asked.exists() else "t"
    asked.touch()
if "pg_is_in_recovery" in sql:
    print("f" if role == "silent" else role)
elif role != "silent":
    prefix = re.search(r"LIKE '(.+)%'", sql).group(1)
    print(*(row for row in pathlib.Path(rows).read_text().splitlines() if row.startswith(prefix)), sep="\\n")
    print("end-of-rows|")
"""


@dataclass
class Api:
    """What the server knows; it fails by `fault`, `times` times (-1: always), once there was healthy traffic."""

    rows: Path
    port: int = 0
    fault: str = ""
    times: int = 0
    delay: float = 0.0
    seen: int = 0
    connections: int = 0
    orders: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fault_now(self, *possible: str) -> str:
        """Return the fault to show here, if it is one of the `possible`, and count it."""
        with self.lock:
            if self.fault not in possible or self.times == 0 or self.seen <= HEALTHY_REQUESTS:
                return ""
            self.times -= 1
            return self.fault

    def store(self, key: str, order_id: str) -> None:
        """Add a row to the table."""
        with self.lock, self.rows.open("a") as table:
            table.write(f"{key}|{order_id}\n")


class Server(ThreadingHTTPServer):
    """HTTPS on a free port of the loopback."""

    def __init__(self, api: Api, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.api = api
        self.context = context

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept; the handshake is left to the connection's own thread."""
        plain, address = super().get_request()
        self.api.connections += 1
        return self.context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False), address

    def shutdown_request(self, request: Any) -> None:
        """Close without the half-close of the base class, which would soften a reset."""
        request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent: clients leave in the middle here on purpose."""


class Handler(BaseHTTPRequestHandler):
    """The two routes that the meter uses, with the faults."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server
    answered = 0

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        """Keep the test's output readable."""

    def do_POST(self) -> None:
        """Place an order."""
        api = self.server.api
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert {"symbol", "side", "type", "quantity", "limit_price"} == order.keys()
        if self.disturbed():
            return
        key, order_id = self.headers["Idempotency-Key"], str(uuid.uuid4())
        fault = api.fault_now("forget", "twice", "other_id", "stored_500")
        api.orders[order_id] = key
        if fault != "forget":
            api.store(key, str(uuid.uuid4()) if fault == "other_id" else order_id)
        if fault == "twice":
            api.store(key, str(uuid.uuid4()))
        self.answer(500 if fault == "stored_500" else 201, {"id": order_id})

    def do_GET(self) -> None:
        """Read one order or the list."""
        api = self.server.api
        if self.disturbed():
            return
        order_id = self.path.removeprefix("/v1/orders").removeprefix("/")
        if order_id.startswith("?"):
            self.answer(200, {"orders": []})
        elif order_id not in api.orders or api.fault_now("hidden"):
            self.answer(404, {"title": "no such order"})
        else:
            self.answer(200, {"id": str(uuid.uuid4()) if api.fault_now("wrong_order") else order_id})

    def disturbed(self) -> bool:
        """Show a fault that is the same for reads and writes; true when the request has been dealt with."""
        api = self.server.api
        assert self.headers["Host"] == NAME
        assert self.headers["Authorization"] == "Bearer secret"
        with api.lock:
            api.seen += 1
        time.sleep(api.delay)
        possible = ["500", "403", "302", "not_json", "cut", "freeze", "gibberish"]
        match api.fault_now(*possible, *(["reset"] if self.answered else [])):
            case "500" | "403" | "302" as status:
                self.answer(int(status), {"title": "no"})
            case "not_json":
                self.answer(201 if self.command == "POST" else 200, None)
            case "cut":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
                self.close_connection = True
            case "gibberish":
                self.wfile.write(b"220 smtp.example\r\n\r\n")
                self.close_connection = True
            case "freeze":
                time.sleep(1)
                self.close_connection = True
            case "reset":
                self.reset()
            case _:
                return False
        return True

    def answer(self, status: int, document: object) -> None:
        """Answer in JSON, or with a page when there is no document; then perhaps drop the idle connection."""
        body = json.dumps(document).encode() if document else b"<html>"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Color", "blue" if self.server.api.seen <= HEALTHY_REQUESTS else "green")
        self.send_header("X-Release", "1.0.0")
        self.end_headers()
        self.wfile.write(body)
        self.answered += 1
        if not self.close_connection and self.server.api.fault_now("idle_close"):
            self.close_connection = True

    def reset(self) -> None:
        """Have the connection closed with a RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True


@dataclass
class Run:
    """An ended meter."""

    status: int
    text: str
    report: dict[str, Any]


@dataclass
class Meter:
    """The meter as a command, in a directory of its own."""

    directory: Path
    certificate: Path
    api: Api

    @property
    def progress(self) -> Path:
        """The counts so far."""
        return self.directory / "progress.json"

    def command(self, *options: str) -> list[str]:
        """Return a fast and short run; later options win."""
        return [
            *(sys.executable, str(METER), "--ca", str(self.certificate)),
            *("--json", str(self.directory / "report.json"), "--progress", str(self.progress)),
            *("--rate", "250", "--max-requests", "90", "--clients", "4", "--write-share", "0.5", "--timeout", "3"),
            *(() if "--target" in options else ("--target", f"127.0.0.1:{self.api.port}")),
            *options,
        ]

    def run(self, *options: str) -> Run:
        """Run to the end; the numbers must add up in every run."""
        done = subprocess.run(
            self.command(*options), capture_output=True, text=True, timeout=30, env=environment(), check=False
        )
        return self.ended(done.returncode, done.stdout, done.stderr)

    def ended(self, status: int, text: str, errors: str) -> Run:
        """Return the run with its report."""
        assert status in (0, 1), errors
        assert errors == ""
        report = json.loads((self.directory / "report.json").read_text())
        groups = report["groups"]
        for group in groups.values():
            assert group["sent"] == group["ok"] + group["failed"]
            assert group["failed"] == sum(group["failed_by_kind"].values())
        for parts in (("reads", "writes"), ("keep_alive", "new_connection")):
            assert groups["all"]["sent"] == sum(groups[part]["sent"] for part in parts)
        assert report["passed"] == (status == 0)
        progress = json.loads(self.progress.read_text())
        assert progress["state"] == "ended"
        assert {name: progress[name] for name in ("sent", "ok", "failed")}.items() <= groups["all"].items()
        return Run(status, text, report)

    def database(self, role: str = "f") -> str:
        """Return a database command; `role` is what it says of being in recovery, or how it misbehaves."""
        script = self.directory / "psql.py"
        script.write_text(PSQL)
        return shlex.join([sys.executable, str(script), str(self.api.rows), role])


def environment() -> dict[str, str]:
    """Return an environment with the key."""
    return {**os.environ, "TRADEFLEET_API_KEY": "secret"}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a certificate that is its own authority; its key lies beside it."""
    path = tmp_path_factory.mktemp("tls") / "server.crt"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-subj", "/CN=test", "-days", "2", "-addext", f"subjectAltName=DNS:{NAME}"),
            *("-addext", "keyUsage=critical,digitalSignature,keyCertSign"),
            *("-out", str(path), "-keyout", str(path.with_suffix(".key"))),
        ],
        check=True,
        capture_output=True,
    )
    return path


@pytest.fixture
def meter(tmp_path: Path, certificate: Path) -> Iterator[Meter]:
    """Serve the API and return a meter that points at it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    api = Api(tmp_path / "rows")
    api.rows.touch()
    with Server(api, context) as server:
        api.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield Meter(tmp_path, certificate, api)
        server.shutdown()
        thread.join()


def test_a_healthy_api_passes_all_bounds(meter: Meter) -> None:
    """Nothing failed, all was compared, and the server saw exactly the requests that were counted."""
    bounds = ("max-failed", "max-failed-reads", "max-failed-writes", "max-lost", "max-duplicated")
    run = meter.run(
        *("--database-command", meter.database(), "--min-rate", "50", "--max-gap", "2"),
        *(word for name in bounds for word in (f"--{name}", "0")),
    )
    assert run.status == 0, run.text
    groups = run.report["groups"]
    assert groups["all"]["ok"] == meter.api.seen == 90
    assert groups["writes"]["statuses"] == {"201": 45}
    assert groups["reads"]["statuses"] == {"200": 45}
    assert 0 < groups["all"]["latency_ms"]["p50"] <= groups["all"]["latency_ms"]["max"] < 3000
    # Two clients keep their connection for the whole run.
    assert meter.api.connections == groups["new_connection"]["sent"] + 2
    assert run.report["comparison"]["acknowledged"] == run.report["comparison"]["stored"] == 45
    colours = run.report["colours"]
    assert colours["blue"]["answers"] + colours["green"]["answers"] == 90
    assert colours["blue"]["first"] < colours["green"]["first"]
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
def test_each_fault_is_counted_once_under_its_kind(meter: Meter, fault: str, kind: str) -> None:
    """As many failures as faults, neither hidden by a retry nor counted twice."""
    meter.api.fault, meter.api.times = fault, TIMES
    run = meter.run("--max-failed", str(TIMES - 1), "--timeout", "0.5")
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


def test_reads_and_writes_have_bounds_of_their_own(meter: Meter) -> None:
    """A failed read leaves the bound on writes whole."""
    meter.api.fault, meter.api.times = "hidden", TIMES
    run = meter.run("--max-failed-writes", "0", "--max-failed-reads", str(TIMES))
    assert run.status == 0, run.text
    assert run.report["groups"]["reads"]["failed"] == TIMES


def test_no_listener_and_no_trust_are_failures(meter: Meter) -> None:
    """Requests that never reached the API have failed; the other target's have not."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{unused.getsockname()[1]}"
        run = meter.run("--target", dead, "--target", f"127.0.0.1:{meter.api.port}", "--max-failed", "0")
    assert run.status == 1
    assert run.report["groups"]["all"]["failed_by_kind"] == {"connect": meter.api.seen}
    assert {failure["target"] for failure in run.report["failures"]} == {dead}

    run = meter.run("--name", "else.test", "--max-requests", "8", "--max-failed", "0")
    assert run.status == 1
    assert run.report["groups"]["all"]["failed_by_kind"] == {"tls": 8}


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
    """It is reported, and neither lost nor duplicated."""
    meter.api.fault, meter.api.times = "stored_500", TIMES
    run = meter.run("--database-command", meter.database(), "--max-lost", "0", "--max-duplicated", "0")
    assert run.status == 0, run.text
    assert run.report["comparison"]["unacknowledged_present"] == TIMES
    assert run.report["groups"]["writes"]["failed_by_kind"] == {"status_5xx": TIMES}


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


def test_a_bound_on_nothing_is_broken(meter: Meter) -> None:
    """A run without writes cannot vouch for writes."""
    run = meter.run("--write-share", "0", "--max-requests", "20", "--max-failed-writes", "0")
    assert run.status == 1
    assert "nothing to measure" in run.text


def test_an_outage_is_a_gap_and_the_schedule_does_not_run_after_it(meter: Meter) -> None:
    """While the only client waits 1 s for an answer its requests are due; at most a second's worth is made up for."""
    meter.api.fault, meter.api.times = "freeze", 2
    run = meter.run(
        *("--clients", "1", "--rate", "50", "--duration", "3", "--max-requests", "1000", "--timeout", "5"),
        *("--max-gap", "1.5", "--min-rate", "45"),
    )
    assert run.status == 1
    assert all(not bound["held"] for bound in run.report["bounds"]), run.text
    gap = run.report["groups"]["all"]["longest_gap"]
    assert 1.9 < gap["seconds"] < 2.9
    assert gap["start"] < run.report["failures"][0]["time"]
    assert run.report["skipped"] > 40
    assert run.report["groups"]["all"]["sent"] + run.report["skipped"] == pytest.approx(150, abs=2)


def test_an_outage_without_an_end_is_a_gap_too(meter: Meter) -> None:
    """It has no success after it that would close it."""
    meter.api.fault, meter.api.times = "500", -1
    run = meter.run("--rate", "50", "--duration", "1.6", "--max-gap", "0.8")
    assert run.status == 1
    assert run.report["groups"]["all"]["ok"] == HEALTHY_REQUESTS
    assert 0.9 < run.report["groups"]["all"]["longest_gap"]["seconds"] < 1.6


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_traffic_and_not_the_report(meter: Meter, number: signal.Signals) -> None:
    """Requests in flight are finished, the comparison is made, the status is the bounds'."""
    meter.api.delay = 0.3
    command = meter.command(
        *("--duration", "60", "--max-requests", "100000"),
        *("--database-command", meter.database(), "--max-failed", "0", "--max-lost", "0"),
    )
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
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
def test_a_run_that_cannot_be_set_up_says_why(
    certificate: Path, options: tuple[str, ...], key: str, message: str
) -> None:
    """Status 2, and not a request sent."""
    done = subprocess.run(
        [sys.executable, str(METER), "--ca", str(certificate), "--target", "127.0.0.1:1", *options],
        capture_output=True,
        text=True,
        timeout=10,
        env={**os.environ, "TRADEFLEET_API_KEY": key},
        check=False,
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""
