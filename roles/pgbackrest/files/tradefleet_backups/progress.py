"""How much of a backup is done that one of the units takes, for an operator who waits for it."""

import json
import os
import time
from pathlib import Path
from typing import Any

from tradefleet_backups import common
from tradefleet_backups.common import SECOND, FailedError, last, replace, run

UNIT = "tradefleet-backup@{}.service"
# systemd removes the folder of a unit when the unit ends, also if it was killed.
FOLDER = Path("/run/tradefleet-backup")
POLL_SECONDS = 1
MEGABYTE = 1 << 20


def begin(step: str) -> None:
    """Note that the unit begins a step. Outside of a unit nobody follows a command."""
    if folder := os.environ.get("RUNTIME_DIRECTORY"):
        replace(Path(folder) / "step.json", json.dumps({"name": step, "since": time.time()}))


def repository(step: str) -> int:
    """Return the repository to which a step takes a backup."""
    return 2 if step == "second-backup" else 1


def state(kind: str, backups: list[str]) -> tuple[float, str]:
    """Return how much has been read for all backups of the unit, in percent, and a sentence about the present one."""
    try:
        step = json.loads((FOLDER / kind / "step.json").read_text())
    except FileNotFoundError:
        return 0, ""
    if step["name"] not in backups:
        return 100, "all backups are taken"
    done, number = backups.index(step["name"]), repository(step["name"])
    try:
        lock = common.info(*(SECOND if number == 2 else ()))["status"]["lock"]["backup"]
    except (FailedError, LookupError):  # if the backup fails, its own reason counts
        lock = {}
    read, size = lock.get("size-cplt", 0), lock.get("size", 0)
    if not size:
        return 100 * done / len(backups), f"the backup in repository {number} begins"
    speed = read / max(1, time.time() - step["since"])
    return 100 * (done + read / size) / len(backups), (
        f"{read / MEGABYTE:.1f} of {size / MEGABYTE:.1f} MB read for repository {number}, {speed / MEGABYTE:.1f} MB/s"
    )


def follow(kind: str, after: float, backups: list[str]) -> dict[str, Any]:
    """Wait until the next tenth after so many percent is read, or until the unit has ended, and return the state."""
    while run("systemctl", "show", "--property=Job", "--value", UNIT.format(kind)).strip() not in ("", "0"):
        percent, sentence = state(kind, backups)
        if percent >= after // 10 * 10 + 10:
            return {"ended": False, "percent": percent, "text": f"{percent:.0f} %: {sentence}"}
        time.sleep(POLL_SECONDS)
    taken = [{"repository": repository(name), **last(name)} for name in backups]
    return {"ended": True, "percent": 100, "text": "ended", "taken": taken}
