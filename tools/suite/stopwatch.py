"""pytest plugin: records the cost of each test. `tools.suite` loads it through the environment."""

import os
from collections.abc import Iterator

import pytest

from tools.suite import records
from tools.suite.cost import Meter

# Programs that tests run, pytest among them, get the environment without the plugin.
os.environ["PYTEST_ADDOPTS"] = os.environ["PYTEST_ADDOPTS"].replace(f"-p {__name__}", "").strip()
del os.environ["PYTHONPATH"]
_part = os.environ.pop("SUITE_PART")
_meter = Meter(os.getpid(), os.environ.pop("SUITE_HOSTS").split())


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Record setup, call and teardown of a test together."""
    _meter.lap()
    try:
        return (yield)
    finally:
        records.add(_part, _meter.lap(), test=item.nodeid)
