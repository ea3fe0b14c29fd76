"""Backups, which pgBackRest takes from a standby if one is fit."""

import sys
from typing import Any

from tradefleet_backups import common
from tradefleet_backups.common import FailedError

# The WAL of a backup must have been copied before the backup ends.
WAIT = "--archive-timeout=300"
# pgBackRest (2.59 as well) asks the standby for one restart point, when it has replayed the position at which the
# checkpoint of the backup begins. If the standby has not replayed that checkpoint's record yet, it cannot restart from
# it, and the backup fails after a minute. Another backup has another checkpoint.
LATE = "timeout before standby checkpoint lsn reached"


def backup(kind: str, *options: str) -> dict[str, Any]:
    """Take a backup in one repository and return its figures."""
    command = (*options, *((WAIT,) if options else ()), f"--type={kind}", "backup")
    try:
        common.pgbackrest(*command)
    except FailedError as error:
        if LATE not in str(error):
            raise
        print(f"{kind} begins again: {error}", file=sys.stderr, flush=True)
        common.pgbackrest(*command)
    taken = common.info(*options)["backup"][-1]
    seconds = max(1, taken["timestamp"]["stop"] - taken["timestamp"]["start"])
    read, stored = taken["info"]["delta"], taken["info"]["repository"]["delta"]
    return {
        "label": taken["label"],
        "seconds": seconds,
        "read_bytes": read,
        "stored_bytes": stored,
        "bytes_per_second": read // seconds,
    }
