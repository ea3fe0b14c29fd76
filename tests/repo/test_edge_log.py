"""What is read from the load balancers' logs, from which the judge and the report on a shadow draw."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from repository import PROJECT


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
    """Older lines, broken ones, and what nginx answered itself do not."""
    lines = [
        line(99.9),
        "half a li",
        line(100, status=503),
        line(101, upstream=""),
        line(102, color="green", seconds=0.5),
        line(103, status=404),
    ]
    assert edge_log.by_color(edge_log.entries(lines, 100), ["blue", "green", "red"]) == {
        "blue": {"requests": 2, "errors": 1, "seconds": [0.01, 0.01]},
        "green": {"requests": 1, "errors": 0, "seconds": [0.5]},
        "red": {"requests": 0, "errors": 0, "seconds": []},
    }


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
