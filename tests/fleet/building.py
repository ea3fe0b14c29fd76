"""Releases for tests: the present sources with an injected fault, under their own version."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from lab import PROJECT

Change = Callable[[Path], None]
# Equal sources get the same commit at any time.
GIT = os.environ | {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "test"), ("EMAIL", "test@tradefleet.test"), ("DATE", "2026-01-01T00:00:00Z"))
}


def build(source: Path, version: str, change: Change | None = None, umask: int = 0o022) -> Path:
    """Build a release of the project's sources, changed in the empty folder `source`; return its archive."""
    shutil.copy(PROJECT / "pyproject.toml", source)
    shutil.copytree(PROJECT / "app", source / "app", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    if change:
        change(source / "app/tradefleet")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", version]):
        subprocess.run(["git", "-C", str(source), *command], check=True, capture_output=True, env=GIT)
    tarball = PROJECT / f"dist/tradefleet-{version}.tar.gz"
    tarball.unlink(missing_ok=True)
    command = [sys.executable, "tools/build_release.py", f"--source={source}", f"--version={version}"]
    subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True, umask=umask)
    return tarball


def before_each_request(statement: str) -> Change:
    """Return a change that makes the application run a statement before each request of its API."""

    def change(package: Path) -> None:
        views = package / "platform/system/views.py"
        views.write_text(
            views.read_text() + "\n\nimport random\nimport time\n\nfrom flask import request\n\n\n"
            "@blueprint.before_app_request\ndef _fault() -> None:\n"
            f'    if request.path.startswith("/v1/"):\n        {statement}\n'
        )

    return change
