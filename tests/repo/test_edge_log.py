"""What is read from the load balancers' logs, from which the judge and the report on a shadow draw."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from repository import PROJECT, read


@pytest.fixture(scope="module")
def edge_log() -> ModuleType:
    """Return the module; its folder is none that Python looks in."""
    spec = importlib.util.spec_from_file_location("edge_log", PROJECT / "playbooks/library/edge_log.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def line(epoch: float, **changes: Any) -> str:
    """Return a line of the access log."""
    entry = {"epoch": epoch, "request_id": str(epoch), "uri": "/v1/orders", "status": 200, "color": "blue"}
    return json.dumps(entry | {"seconds": 0.01, "upstream": "10.203.0.21:8443"} | changes)


def test_what_a_colour_answered_since_then_counts(edge_log: ModuleType) -> None:
    """Older lines, broken ones, and what nginx answered itself do not; since when is each colour's own."""
    lines = [
        line(99.9),
        "half a li",
        line(100, status=503),
        line(101, upstream=""),
        line(102, color="green", seconds=0.5),
        line(103, status=404),
        line(104, color="green", seconds=0.5),
        line(105, color=""),
    ]
    assert edge_log.by_color(edge_log.entries(lines, 100), {"blue": 100, "green": 103, "red": 100}) == {
        "blue": {"requests": 2, "errors": 1, "refusals": 1, "seconds": {"0.01": 2}},
        "green": {"requests": 1, "errors": 0, "refusals": 0, "seconds": {"0.5": 1}},
        "red": {"requests": 0, "errors": 0, "refusals": 0, "seconds": {}},
    }


def test_what_clients_do_is_no_refusal(edge_log: ModuleType) -> None:
    """To ask too often, or to hang up; such requests count as requests."""
    log = edge_log.entries([line(each, status=each) for each in (399, 400, 401, 422, 429, 499, 500)], 0)
    found = edge_log.by_color(log, {"blue": 0})["blue"]
    assert (found["requests"], found["errors"], found["refusals"]) == (7, 1, 3)


def test_what_the_edge_sends_to_the_colour_that_serves_is_no_sample_of_it(edge_log: ModuleType) -> None:
    """A monitor that asks for nothing else, twice as often as clients, changes no figure; nginx has the same paths."""
    pinned = [f"/{path}{query}" for path in ("healthz", "readyz", "version") for query in ("", "?1")]
    log = edge_log.entries([line(1, seconds=0.02), *(line(2, uri=uri, seconds=0.001) for uri in pinned)], 0)
    assert edge_log.by_color(log, {"blue": 0})["blue"]["seconds"] == {"0.02": 1}
    assert f"location ~ ^/({'|'.join(sorted(path[1:] for path in edge_log.PINNED))})$" in read(
        "roles/nginx/templates/nginx.conf.j2"
    )


def test_a_copy_is_compared_with_its_original(edge_log: ModuleType) -> None:
    """By the request's id; ids in a path make no routes of their own."""
    order = "/v1/orders/0190b6e5-7d5a-7c2e-9d3a-5b1f0c9a7e11"
    log = edge_log.entries([line(1, uri=order), line(2, uri=f"{order}?x=1"), line(3, uri="/v1/orders/17/fills")], 0)
    copies = edge_log.entries([line(1, status=500, seconds=0.2), line(2, seconds=0.1), line(9)], 0)
    assert edge_log.by_route(log, copies) == {
        "/v1/orders/{id}": {
            "live_seconds": [0.01, 0.01],
            "shadow_seconds": [0.2, 0.1],
            "statuses": {"200 500": 1, "200 200": 1},
        }
    }
    assert edge_log.route("/v1/orders/17/fills") == "/v1/orders/{id}/fills"


def test_only_the_end_of_a_large_log_is_read(edge_log: ModuleType, tmp_path: Path) -> None:
    """Three megabytes, of which the last seconds are asked for: all of them are found, most of the rest is not read."""
    log = tmp_path / "access.log"
    log.write_text("".join(line(number / 100) + "\n" for number in range(20_000)))
    found = edge_log.tail(log, 190)
    assert len(edge_log.entries(found, 190)) == 1000
    assert 1000 < len(found) < 10_000
