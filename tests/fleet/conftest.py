"""Fixtures of the fleet tests; they run against the lab, which the scenario `fleet` has made."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab import PROJECT, Api

Change = Callable[[Path], None]
# The same sources give the same commit, whenever they are committed.
GIT = os.environ | {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "test"), ("EMAIL", "test@tradefleet.test"), ("DATE", "2026-01-01T00:00:00Z"))
}


@pytest.fixture(scope="session")
def api() -> Api:
    """A client with the demo trader's key."""
    return Api()


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Path]]:
    """Builds a release of the present sources under another version, after `change` has had its way with them."""
    built: list[Path] = []

    def build(version: str, change: Change | None = None, umask: int = 0o022) -> Path:
        source = tmp_path_factory.mktemp("source")
        shutil.copy(PROJECT / "pyproject.toml", source)
        shutil.copytree(PROJECT / "app", source / "app", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        if change:
            change(source / "app/tradefleet")
        for command in (["init", "-q"], ["add", "."], ["commit", "-qm", version]):
            subprocess.run(["git", "-C", str(source), *command], check=True, capture_output=True, env=GIT)
        tarball = PROJECT / f"dist/tradefleet-{version}.tar.gz"
        tarball.unlink(missing_ok=True)
        command = [
            "ansible-playbook",
            "playbooks/release.yml",
            f"-erelease_source={source}",
            f"-erelease_version={version}",
        ]
        subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True, umask=umask)
        built.append(tarball)
        return tarball

    yield build
    for tarball in built:
        tarball.unlink(missing_ok=True)
