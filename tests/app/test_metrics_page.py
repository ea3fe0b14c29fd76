# ruff: noqa: D103  # the name of a test states what it asserts
"""docs/metrics.md lists every metric with its type, its labels and its help text."""

import re
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest
from prometheus_client import REGISTRY, Metric
from tradefleet import domains, platform
from tradefleet.platform.metrics.processes import Processes
from tradefleet.platform.metrics.readiness import Readiness

PAGE = (Path(__file__).parents[2] / "docs/metrics.md").read_text()
ROW = re.compile(r"^\| `(tradefleet_\w+)` \| (\w+) \| (.*?) \| (.*) \|$", re.MULTILINE)
READY = {
    "status": "ready",
    "dependencies": dict.fromkeys(("database", "schema", "redis", "cache"), "ok"),
    "outbox_seconds": 0,
    "outbox_events": 0,
    "outbox_failed": 0,
}


def row(metric: Metric, labels: tuple[str, ...]) -> tuple[str, str, str, str]:
    """Return the cells for a metric."""
    name = f"{metric.name}_total" if metric.type == "counter" else metric.name
    return name, metric.type, ", ".join(f"`{label}`" for label in labels) or "none", metric.documentation


def test_page_has_a_row_for_each_metric(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for package in (domains, platform):
        for module in walk_packages(package.__path__, f"{package.__name__}."):
            import_module(module.name)
    expected = {
        row(metric, REGISTRY._names_to_collectors[metric.name]._labelnames)  # type: ignore[attr-defined]  # not annotated
        for metric in REGISTRY.collect()
        if metric.name.startswith("tradefleet_")
    }
    monkeypatch.setattr(Readiness, "_ask", lambda _: READY)
    for collector in (Processes({"api": tmp_path}), Readiness("", "")):
        expected |= {row(metric, tuple(metric.samples[0].labels)) for metric in collector.collect()}
    rows = ROW.findall(PAGE)
    assert len(rows) == len(set(rows))
    assert set(rows) == expected


def test_names_follow_the_conventions_of_prometheus() -> None:
    """Names state base units; only counters end in _total."""
    for name, kind, _, _ in ROW.findall(PAGE):
        assert re.fullmatch(r"tradefleet(_[a-z]+)+", name)
        assert name.endswith("_total") == (kind == "counter")
        assert not re.search(r"milli|minutes|percent|kilo|mega|_count$|_sum$|_bucket$", name)
        assert (kind == "histogram") <= name.endswith("_seconds")
