"""Fixtures of the fleet tests; they run against the lab, which the scenario `fleet` has made."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from building import Change, build
from clients import Api


@pytest.fixture(scope="session")
def api() -> Api:
    """A client with the demo trader's key."""
    return Api()


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Path]]:
    """Builds a release of the present sources under another version, after `change` has had its way with them."""
    built: list[Path] = []

    def made(version: str, change: Change | None = None, umask: int = 0o022) -> Path:
        built.append(build(tmp_path_factory.mktemp("source"), version, change, umask))
        return built[-1]

    yield made
    for tarball in built:
        tarball.unlink(missing_ok=True)
