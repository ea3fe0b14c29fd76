# ruff: noqa: D103  # the name of a test states what it asserts
"""The sum over the processes of a host: counters of dead ones stay, their gauges do not; and what metrics cost."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from prometheus_client.multiprocess import mark_process_dead
from tradefleet.platform.metrics.processes import Processes

# Serves a number of requests, and does not finish another one.
SERVE = """
import sys, time
from tradefleet import create_app
from tradefleet.platform.settings import Settings
app = create_app({"SETTINGS": Settings(), "INSTANCE_PATH": sys.argv[1]})
for _ in range(int(sys.argv[2])):
    app.test_client().get("/healthz")
app.view_functions["system.healthz"] = lambda: [print("in flight", flush=True), time.sleep(60)]
app.test_client().get("/healthz")
"""
# Compares the time of a process for reading a list of orders with that for the metrics of it.
COST = """
import sys, time
from tradefleet import create_app
from tradefleet.domains.identity import keys
from tradefleet.platform.extensions import db
from tradefleet.platform.http import measure
from tradefleet.platform.postgres import pool, replicas
from tradefleet.platform.settings import Settings
app = create_app({"SETTINGS": Settings(log_level="WARNING"), "INSTANCE_PATH": sys.argv[1]})
with app.app_context():
    db.transact(lambda session: keys.add(session, "alice", "a" * 40))
client, headers = app.test_client(), {"Authorization": "Bearer " + "a" * 40}
(rule,) = [rule for rule in app.url_map.iter_rules() if rule.endpoint == "orders.list_orders"]

def request():
    assert client.get("/v1/orders", headers=headers).status_code == 200

def metrics():
    with measure.IN_FLIGHT.track_inprogress():
        # For the key and for the orders.
        for _ in range(2):
            with waiting.track_inprogress():
                pass
            in_use.inc()
            in_use.dec()
        replicas._BY_SERVER["primary"].inc()
        measure.finished(rule, "GET", 200, 0.01)

def microseconds(work):
    best = None
    for _ in range(10):
        began = time.process_time()
        for _ in range(100):
            work()
        best = min(time.process_time() - began, best or 9)
    return best * 10_000

in_use, waiting = pool._IN_USE.labels("primary"), pool._WAITING.labels("primary")
print(microseconds(request), microseconds(metrics))
"""


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a process that writes its metrics into this folder."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PROMETHEUS_MULTIPROC_DIR": str(folder)}


@contextmanager
def serving(folder: Path, instance: Path, requests: int) -> Iterator[subprocess.Popen[str]]:
    """Yield a process that has served this many requests and has another one in flight."""
    argv = [sys.executable, "-c", SERVE, str(instance), str(requests)]
    with subprocess.Popen(argv, env=environment(folder), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "in flight\n"
            yield process
        finally:
            process.kill()


def found(folders: dict[str, Path]) -> dict[tuple[str, str], float]:
    """Return the requests that were served and that are in flight, and whether it runs, for each service."""
    names = ("http_request_duration_seconds_count", "http_requests_in_flight", "process_up")
    return {
        (sample.name.removeprefix("tradefleet_"), sample.labels["process"]): sample.value
        for metric in Processes(folders).collect()
        for sample in metric.samples
        if sample.name.removeprefix("tradefleet_") in names
    }


def test_processes_add_up_and_a_dead_one_leaves_only_its_counters(tmp_path: Path, schema: Path) -> None:
    api, worker = tmp_path / "api", tmp_path / "worker"
    for folder in (api, worker):
        folder.mkdir()
    folders = {"api": api, "worker": worker}
    with ExitStack() as stack:
        first, _, _ = (
            stack.enter_context(serving(folder, schema.parent, requests))
            for folder, requests in ((api, 3), (api, 5), (worker, 1))
        )
        alive = {
            ("http_request_duration_seconds_count", "api"): 8,
            ("http_request_duration_seconds_count", "worker"): 1,
            ("http_requests_in_flight", "api"): 2,
            ("http_requests_in_flight", "worker"): 1,
            ("process_up", "api"): 1,
            ("process_up", "worker"): 1,
        }
        assert found(folders) == alive
        first.kill()
        first.wait()
        # What gunicorn's configuration does when a worker has exited.
        mark_process_dead(first.pid, str(api))  # type: ignore[no-untyped-call]  # prometheus_client annotates it in part
        assert found(folders) == alive | {("http_requests_in_flight", "api"): 1}


def test_service_that_is_stopped_or_unreadable_is_not_up(tmp_path: Path) -> None:
    """The other one is reported all the same."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/counter_1.db").touch()
    folders = {"api": tmp_path / "missing", "worker": tmp_path / "broken"}
    assert found(folders) == {("process_up", "api"): 0, ("process_up", "worker"): 0}


def test_metrics_cost_at_most_2_percent_of_a_request(tmp_path: Path, schema: Path) -> None:
    folder = tmp_path / "metrics"
    folder.mkdir()
    argv: list[Any] = [sys.executable, "-c", COST, tmp_path]
    done = subprocess.run(argv, env=environment(folder), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    request, metrics = map(float, done.stdout.split())
    print(f"{request:.0f} µs of a core for a request, {metrics:.1f} µs of them for metrics: {metrics / request:.2%}")
    assert metrics / request <= 0.02
