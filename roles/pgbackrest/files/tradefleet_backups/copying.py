"""Copies WAL from the first repository to the second one, and finds what is missing there.

Members send WAL to the first repository only. An outage of the second one delays nothing, and is caught up from the
first.
"""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tradefleet_backups import archive, second
from tradefleet_backups.common import REPOSITORY, SECOND_CONFIG, STANZA, STATE, FailedError, run

# A segment, also a partial one before a failover, the label of a backup, and the history of a timeline.
FILE = re.compile(
    r"([0-9A-F]{24}(\.partial)?)-[0-9a-f]{40}(\.\w+)?|[0-9A-F]{24}\.[0-9A-F]{8}\.backup|[0-9A-F]{8}\.history"
)
SPOOL = STATE / "copying"
LATE_SECONDS = 180
SETTLED_NANOSECONDS = 2_000_000_000  # two changes of a folder may have the same time


def start(backups: list[dict[str, Any]]) -> int:
    """Return the position from which the second repository needs WAL: that of the oldest backup there."""
    if backups:
        return min(archive.number(each["archive"]["start"]) for each in backups)
    return max(map(archive.number, archive.segments()), default=0)


class Copier:
    """Copies each file once, in the order in which they arrived."""

    def __init__(self) -> None:
        self._start, self._copied = start(second.info()["backup"]), set(second.files())
        self._folders: dict[Path, int] = {}

    def _new(self) -> Iterator[tuple[float, Path]]:
        """Yield the files of changed folders that are not in the second repository."""
        for folder in archive.folders():
            changed = folder.stat().st_mtime_ns
            settled = time.time_ns() - changed > SETTLED_NANOSECONDS
            if not (settled and self._folders.get(folder) == changed):
                self._folders[folder] = changed
                for path in folder.iterdir():
                    if FILE.fullmatch(path.name) and self._wanted(path.name.partition("-")[0]):
                        yield path.stat().st_mtime, path

    def _wanted(self, name: str) -> bool:
        return name not in self._copied and (name.endswith(".history") or archive.number(name) >= self._start)

    def run(self) -> int:
        """Copy what is new; return the number of files. After a failure use another copier."""
        found, damaged = sorted(self._new()), []
        for _, path in found:
            target = SPOOL / path.name.partition("-")[0]
            try:
                _read(path, target)
            except FailedError as error:
                # One damaged file must not keep those that follow from the second repository.
                damaged.append(error)
                continue
            options = (f"--config={SECOND_CONFIG}", f"--stanza={STANZA}", "--compress-type=zst", second.FAST)
            run("pgbackrest", *options, "archive-push", target)
            self._copied.add(target.name)
        if damaged:
            raise damaged[0]
        return len(found)


def _read(path: Path, target: Path) -> None:
    """Decrypt and decompress a file of the first repository."""
    SPOOL.mkdir(mode=0o700, exist_ok=True)
    for former in SPOOL.iterdir():
        former.unlink()
    stored = target.with_name(target.name + ".stored")
    command = ("pgbackrest", f"--stanza={STANZA}", "--log-level-console=off", "--log-level-stderr=warn", "repo-get")
    run("sh", "-c", 'exec "$@" > "$0"', stored, *command, str(path.relative_to(REPOSITORY)))
    if path.suffix == ".zst":
        run("zstd", "--decompress", "--quiet", "--force", stored, "-o", target)
    else:
        stored.replace(target)


def check() -> dict[str, Any]:
    """Return the state of the second repository; raise if it lacks WAL of the first one."""
    listed = second.info()["backup"]
    sound = [each for each in listed if not each["error"]]
    since, there = start(listed), second.segments()
    limit = time.time() - LATE_SECONDS
    due = (name for name, moment in archive.segments().items() if moment < limit and archive.number(name) >= since)
    late = [name for name in due if name not in there]
    if late:
        raise FailedError(f"{len(late)} segments of WAL have not been copied, the first is {min(late)}")
    full = [each for each in sound if each["type"] == "full"]
    return {
        "full": max((each["timestamp"]["stop"] for each in full), default=0),
        "newest": max((each["timestamp"]["stop"] for each in sound), default=0),
        "wal": int(max(there.values(), default=0)),
        "gaps": list(archive.gaps(there, max((archive.number(each["archive"]["start"]) for each in full), default=0))),
    }
