"""The second repository: WAL is copied to it from the first, and backups are taken to it from the cluster."""

import json
import re
from typing import Any

from tradefleet_backups import common
from tradefleet_backups.common import SECOND, STANZA, pgbackrest

# pgBackRest repeats each of its attempts: a server that is down fails a command after 18 times this many seconds (20).
FAST = "--io-timeout=5"


def info() -> dict[str, Any]:
    """Return what the second repository contains; raise if it cannot be read."""
    return common.info(*SECOND, FAST)


def files() -> dict[str, float]:
    """Return the names in its archive, without checksum and suffix, and when each arrived."""
    listed = json.loads(pgbackrest(*SECOND, FAST, "--output=json", "--recurse", "repo-ls", f"archive/{STANZA}"))
    names = ((path.rpartition("/")[2], each) for path, each in listed.items() if each["type"] == "file")
    return {name.partition("-")[0]: each["time"] for name, each in names}


def segments() -> dict[str, float]:
    """Return its segments of WAL, and when each arrived."""
    return {name: moment for name, moment in files().items() if re.fullmatch("[0-9A-F]{24}", name)}
