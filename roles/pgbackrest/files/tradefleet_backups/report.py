"""The state of the backups, with a sentence for each problem, and as metrics.

The second repository is not queried: its state is that of the last check.
"""

import shutil
import time
from collections.abc import Iterator
from typing import Any

from tradefleet_backups import archive, common
from tradefleet_backups.common import REPOSITORY, SETTINGS, STATE, FailedError, last, replace

FREE_PERCENT = 10
CHECK_SECONDS = 3600  # a check this old shows that its timer does not run
VERIFY_SECONDS = 26 * 3600
CLOCK_SECONDS = 300  # what is later than this was written under a wrong clock
COMMANDS = ("full", "diff", "check", "verify", "drill")


def _ages(now: float, full: float, newest: float) -> Iterator[str]:
    """Yield a sentence for a backup that is missing, too old or in the future."""
    for what, moment, hours in (
        ("full backup", full, SETTINGS["full_hours"]),
        ("backup", newest, SETTINGS["backup_hours"]),
    ):
        if not moment:
            yield f"no {what} exists"
        elif now - moment > hours * 3600:
            yield f"the newest {what} is {(now - moment) / 3600:.0f} hours old, more than {hours}"
        elif moment - now > CLOCK_SECONDS:
            hours = (moment - now) / 3600
            yield f"the newest {what} ends {hours:.1f} hours in the future: compare the clocks of the hosts"


def _results(now: float, begun: dict[bool, float], results: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield a sentence for a command that failed, has not run for too long, or ran in the future.

    The time of a command that never ran is the one at which its repository, the second or not, was begun.
    """
    bounds = {"check": CHECK_SECONDS, "verify": VERIFY_SECONDS, "drill": SETTINGS["drill_hours"] * 3600}
    for name, each in results.items():
        age = now - (each["time"] if each else begun[name.startswith("second ")])
        if age > bounds.get(name.rpartition(" ")[2], age):
            hours = f"{age / 3600:.0f} hours"
            yield f"the last {name} is {hours} old" if each else f"no {name} has run for {hours}"
        if each and age < -CLOCK_SECONDS:
            yield f"the last {name} was {-age / 3600:.1f} hours in the future: compare the clocks of the hosts"
    yield from (f"{name} failed: {each['reason']}" for name, each in results.items() if each and not each["ok"])


def report() -> dict[str, Any]:
    """Return the state of the backups."""
    now, problems, listed = time.time(), [], {}
    try:
        listed = common.info()
        backups = listed["backup"]
    except (FailedError, LookupError, ValueError) as error:
        backups, problems = [], [f"the repository cannot be read: {error}"]
    sound = [each for each in backups if not each["error"]]
    full = max((each["timestamp"]["stop"] for each in sound if each["type"] == "full"), default=0)
    newest = max((each["timestamp"]["stop"] for each in sound), default=0)
    problems += [f"{each['label']} contains pages with wrong checksums" for each in backups if each["error"]]
    problems += _ages(now, full, newest)
    results = {name: last(name) for name in COMMANDS}
    if SETTINGS["second"]:
        results |= {f"second {name}": last(f"second-{name}") for name in ("backup", "copy", "check", "verify", "drill")}
        found = last("second-state")
        if found:
            problems += (
                f"second repository: {each}" for each in (*_ages(now, found["full"], found["newest"]), *found["gaps"])
            )
    begun = min((each["timestamp"]["stop"] for each in sound), default=now)
    problems += _results(now, {False: begun, True: last("second-attach").get("time", now)}, results)
    # A gap matters until a full backup begins after it.
    since = max((archive.number(each["archive"]["start"]) for each in sound if each["type"] == "full"), default=0)
    arrived = archive.segments()
    problems += archive.gaps(arrived, since)
    disk = shutil.disk_usage(REPOSITORY)
    free = round(100 * disk.free / disk.total)
    if free < FREE_PERCENT:
        problems.append(f"{free} % of the repository's disk is free, less than {FREE_PERCENT}")
    return {
        "now": int(now),
        "problems": problems,
        "full": full,
        "newest": newest,
        "wal": int(max(arrived.values(), default=0)),
        "drill": results["drill"].get("time", 0),
        "count": len(sound),
        "running_percent": running(listed),
        "free_percent": free,
        "results": results,
        "second": {
            **{name: last("second-state").get(name, 0) for name in ("full", "newest", "wal")},
            "drill": results["second drill"].get("time", 0),
        }
        if SETTINGS["second"]
        else {},
    }


def running(listed: dict[str, Any]) -> float | None:
    """Return how much of the running backup is done, in percent; None if none is running."""
    lock = listed.get("status", {}).get("lock", {}).get("backup", {})
    if not lock.get("held"):
        return None
    return float(round(100 * lock.get("size-cplt", 0) / max(1, lock.get("size", 0)), 1))


def metrics(state: dict[str, Any]) -> str:
    """Return the state in the text format of Prometheus."""
    lines = [
        f"tradefleet_backup_full_timestamp_seconds {state['full']}",
        f"tradefleet_backup_newest_timestamp_seconds {state['newest']}",
        f"tradefleet_backup_wal_timestamp_seconds {state['wal']}",
        f"tradefleet_backup_problems {len(state['problems'])}",
        f"tradefleet_backup_repository_free_ratio {state['free_percent'] / 100}",
    ]
    lines += [f"tradefleet_backup_second_{name}_timestamp_seconds {moment}" for name, moment in state["second"].items()]
    for name, each in state["results"].items():
        if each:
            lines.append(f'tradefleet_backup_last_run_timestamp_seconds{{command="{name}"}} {each["time"]}')
            lines.append(f'tradefleet_backup_last_run_succeeded{{command="{name}"}} {int(each["ok"])}')
    for repository, command in ((1, "drill"), (2, "second drill")):
        drill = state["results"].get(command, {})
        for name, key in (("rto", "seconds_to_serve"), ("rpo", "newest_age_seconds")):
            if drill.get(key) is not None:
                lines.append(f'tradefleet_restore_drill_{name}_seconds{{repository="{repository}"}} {drill[key]}')
    return "\n".join(lines) + "\n"


def write_metrics() -> None:
    """Replace the file of metrics."""
    replace(STATE / "backups.prom", metrics(report()))
