"""Segments of WAL in a repository, and targets to which they can be replayed."""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from tradefleet_backups import second
from tradefleet_backups.common import BIN, REPOSITORY, SETTINGS, STANZA, FailedError, info

SEGMENT = re.compile(r"[0-9A-F]{24}-[0-9a-f]{40}(\.\w+)?")
SEGMENTS_PER_FILE = 0x100  # of 16 MB each, PostgreSQL's default


def number(segment: str) -> int:
    """Return the position of a segment in the stream of WAL, which continues over timelines."""
    return int(segment[8:16], 16) * SEGMENTS_PER_FILE + int(segment[16:24], 16)


def folders() -> Iterator[Path]:
    """Yield the folders with the WAL of the cluster, without those of a former one whose place it has taken."""
    found = (REPOSITORY / "archive" / STANZA).glob("*-*")
    present = max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
    if present:
        yield present
        yield from present.glob("*/")


def segments() -> dict[str, float]:
    """Return the segments of the first repository, and when each arrived."""
    paths = (path for folder in folders() for path in folder.iterdir())
    return {path.name[:24]: path.stat().st_mtime for path in paths if SEGMENT.fullmatch(path.name)}


def gaps(names: Iterable[str], since: int) -> Iterator[str]:
    """Yield each gap between segments of one timeline after a position: no moment across it can be restored."""
    timelines: dict[str, dict[int, str]] = {}
    for segment in names:
        timelines.setdefault(segment[:8], {})[number(segment)] = segment
    for numbers in timelines.values():
        for before, after in pairwise(sorted(numbers)):
            if after > before + 1 and after > since:
                yield (
                    f"{after - before - 1} segments of WAL are missing between {numbers[before]} and {numbers[after]}: "
                    "take a full backup, because nothing after the gap can be restored from an older one"
                )


def position(lsn: str) -> int:
    """Return an LSN as a number."""
    high, low = lsn.split("/")
    return int(high, 16) << 32 | int(low, 16)


def _contains(target: str, backups: list[dict[str, Any]], names: Iterable[str]) -> dict[str, Any]:
    """Return the type and the target for pgBackRest; raise with the remedy if these backups do not lead there."""
    if target == "latest":
        return {"type": "default", "target": target}
    if found := re.fullmatch(r"name:([\w.-]{1,63})", target):
        return {"type": "name", "target": found[1]}
    if found := re.fullmatch(r"lsn:([0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8})", target):
        first, wanted = backups[0]["lsn"]["stop"], position(found[1])
        end = (max(map(number, names), default=-1) + 1) << 24
        if not position(first) <= wanted < end:
            raise FailedError(
                f"{target} is not in the archive: name an LSN from {first} to "
                f"{end - 1 >> 32:X}/{end - 1 & 0xFFFFFFFF:X}"
            )
        return {"type": "lsn", "target": found[1]}
    moment: datetime | None
    try:
        moment = datetime.fromisoformat(target.removeprefix("time:"))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise FailedError(
            f'"{target}" is no target: latest, a time with its zone (2026-11-30 06:00:00+00:00), lsn:0/3000060 or '
            "name:X"
        )
    first_moment, now = datetime.fromtimestamp(backups[0]["timestamp"]["stop"], UTC), datetime.now(UTC)
    if not first_moment <= moment <= now:
        raise FailedError(
            f"{target} cannot be restored: name a time from {first_moment:%Y-%m-%d %H:%M:%S+00:00}, the end of the "
            f"oldest backup, to {now:%Y-%m-%d %H:%M:%S+00:00}"
        )
    return {"type": "time", "target": f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f+00}"}


def restorable(target: str, repository: int = 1) -> dict[str, Any]:
    """Return how the target is restored from a repository, and the bytes; raise with the remedy if it cannot be."""
    if repository != 1 and not SETTINGS["second"]:
        raise FailedError(
            "no second repository is configured: leave `-e repository=` out, or set pgbackrest_second_repository"
        )
    listed = info() if repository == 1 else second.info()
    # Not those of a former cluster whose place another one has taken.
    present = max(listed["db"], key=lambda each: each["id"], default={"id": 0})
    sound = [each for each in listed["backup"] if not each["error"] and each["database"]["id"] == present["id"]]
    if not sound:
        raise FailedError(f"the {'first' if repository == 1 else 'second'} repository contains no backup")
    version, installed = present["version"], BIN.parent.name
    if version != installed:
        raise FailedError(
            f"the newest backup is of PostgreSQL {version}, and this fleet has {installed}: restore it with "
            "the release that took it"
        )
    found = _contains(target, sound, segments() if repository == 1 else second.segments())
    return {**found, "bytes": sound[-1]["info"]["size"], "repository": repository}
