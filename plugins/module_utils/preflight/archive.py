"""Rules about the archive of a release on the controller."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .fleet import Fleet


def manifest(archive: Path) -> dict[str, Any]:
    """Return what a release states about itself."""
    with tarfile.open(archive, "r:gz") as members:
        # The first member of this name: the rest of the archive need not be read.
        for member in members:
            if member.name == "manifest.json" and (file := members.extractfile(member)):
                return dict(json.load(file))
    raise ValueError("manifest.json is missing")


def release(fleet: Fleet) -> Iterator[str]:
    """A release is built for the hosts' Python; if the hosts have it staged, the archive may be missing here."""
    archive = fleet.release_dir / f"tradefleet-{fleet.release}.tar.gz"
    if not fleet.release or not re.match(fleet.release_pattern, fleet.release) or not archive.exists():
        return
    remedy = f"Build it with `make release VERSION={fleet.release}`."
    try:
        found = manifest(archive)
        name, python = found["release"], found["python"]
    except (OSError, EOFError, ValueError, KeyError, TypeError, tarfile.TarError) as error:
        yield f"{archive} cannot be read: {error}. {remedy}"
        return
    if (name, python) != (fleet.release, fleet.python):
        yield (
            f"{archive} contains release {name} for Python {python}; the hosts need {fleet.release} for Python "
            f"{fleet.python}. {remedy}"
        )


RULES = (release,)
