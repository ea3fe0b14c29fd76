"""Fixtures of the fleet tests; they use the lab, which the scenario `fleet` has created."""

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
    """A function that builds a release of the present sources, changed by `change`, under another version."""
    built: list[Path] = []

    def made(version: str, change: Change | None = None, umask: int = 0o022) -> Path:
        built.append(build(tmp_path_factory.mktemp("source"), version, change, umask))
        return built[-1]

    yield made
    for tarball in built:
        tarball.unlink(missing_ok=True)
