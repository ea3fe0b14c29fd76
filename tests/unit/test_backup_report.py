"""The program that reports the backups: which problems it finds, and which targets it accepts."""

import importlib.util
import json
import time
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[2] / "roles/pgbackrest/files/tradefleet-backups"
HOUR = 3600
FULL, DIFF = "20261129-013000F", "20261129-013000F_20261130-013000D"
# pgBackRest prints the identity of the former cluster here, too.
ARCHIVE = "archive/tradefleet/17-1"


def backup(label: str, hours: float, start: str, error: bool = False) -> dict[str, Any]:
    """Return a backup as pgBackRest lists it."""
    stop = int(time.time() - hours * HOUR)
    kind = {"F": "full", "D": "diff"}[label[-1]]
    return {
        "label": label,
        "type": kind,
        "error": error,
        "timestamp": {"start": stop - 10, "stop": stop},
        "archive": {"start": start, "stop": start},
        "lsn": {"start": "0/5000028", "stop": "0/5000120"},
        "info": {"size": 1 << 30},
    }


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program with a repository that contains a full backup, a differential one and three segments."""
    settings = {
        "stanza": "tradefleet",
        "repository": str(tmp_path),
        "state": str(tmp_path / "state"),
        "full_hours": 192,
        "backup_hours": 26,
        "drill_hours": 26,
    }
    read = Path.read_text

    def read_settings(path: Path, *arguments: Any, **options: Any) -> str:
        return json.dumps(settings) if path.name == "backups.json" else read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", read_settings)
    loader = SourceFileLoader("tradefleet_backups", str(PROGRAM))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    (tmp_path / "state").mkdir()
    for number in (5, 6, 7):
        segment(tmp_path, 1, number)
    contain(module, monkeypatch, backup(FULL, 30, f"{5:024X}"), backup(DIFF, 6, f"{6:024X}"))
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: module.shutil._ntuple_diskusage(100, 50, 50))
    return module


def contain(module: ModuleType, monkeypatch: pytest.MonkeyPatch, *backups: dict[str, Any]) -> None:
    """Let the repository contain these backups."""
    monkeypatch.setattr(module, "info", lambda: {"backup": list(backups)})


def segment(folder: Path, timeline: int, number: int) -> Path:
    """Create an archived segment."""
    name = f"{timeline:08X}{number >> 8:08X}{number & 0xFF:08X}"
    path = folder / ARCHIVE / name[:16] / f"{name}-{'0' * 40}.zst"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def problems(module: ModuleType) -> list[str]:
    """Return the problems that the program reports."""
    found: list[str] = module.report()["problems"]
    return found


def test_complete_repository_has_no_problem(program: ModuleType) -> None:
    """Commands that never ran are none either: their timers have begun a minute ago."""
    assert problems(program) == []


def test_old_and_missing_backups_are_problems(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full backups and backups of any kind have bounds of their own; one with wrong checksums does not count."""
    contain(program, monkeypatch, backup(FULL, 200, f"{5:024X}"), backup(DIFF, 27, f"{6:024X}"))
    assert problems(program) == [
        "the newest full backup is 200 hours old, more than 192",
        "the newest backup is 27 hours old, more than 26",
    ]
    contain(program, monkeypatch, backup(FULL, 1, f"{5:024X}", error=True))
    assert problems(program) == [
        f"{FULL} contains pages with wrong checksums",
        "no full backup exists",
        "no backup exists",
    ]


def test_gap_is_a_problem_until_a_full_backup_begins_after_it(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new timeline continues the former one at any segment; the last one of 256 is followed by the next file."""
    for timeline, number in ((2, 7), (2, 8), (3, 0xFF), (3, 0x100)):
        segment(tmp_path, timeline, number)
    assert problems(program) == []
    segment(tmp_path, 1, 6).unlink()
    (problem,) = problems(program)
    assert problem.startswith(f"1 segments of WAL are missing between {'00000001' + f'{5:016X}'} and")
    contain(program, monkeypatch, backup(FULL, 1, f"{7:024X}"))
    assert problems(program) == []


def test_failed_and_overdue_commands_are_problems(program: ModuleType) -> None:
    """The reason is that of the command; a command that has not run for too long has a timer that does not run."""
    program.store("check", {"ok": False, "reason": "no WAL"})
    assert problems(program) == ["check failed: no WAL"]
    old = {"time": int(time.time()) - 27 * HOUR, "ok": True}
    (program.STATE / "drill.json").write_text(json.dumps(old))
    assert problems(program) == ["the last drill is 27 hours old", "check failed: no WAL"]
    metrics = (program.STATE / "backups.prom").read_text()
    assert 'tradefleet_backup_last_run_succeeded{command="check"} 0\n' in metrics
    assert "tradefleet_backup_problems 1\n" in metrics


def test_full_disk_is_a_problem(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is reported before backups fail."""
    monkeypatch.setattr(program.shutil, "disk_usage", lambda _: program.shutil._ntuple_diskusage(100, 91, 9))
    assert problems(program) == ["9 % of the repository's disk is free, less than 10"]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("latest", ("default", "latest")),
        ("name:before-migration_1.2", ("name", "before-migration_1.2")),
        ("lsn:0/5000120", ("lsn", "0/5000120")),
        ("lsn:0/7ffffff", ("lsn", "0/7ffffff")),
    ],
)
def test_target_in_the_archive_is_accepted(program: ModuleType, target: str, expected: tuple[str, str]) -> None:
    """It becomes pgBackRest's type and target."""
    assert program.restorable(target) == {"type": expected[0], "target": expected[1], "bytes": 1 << 30}


def test_time_is_accepted_in_any_zone(program: ModuleType) -> None:
    """PostgreSQL gets it in UTC, with its fraction of a second."""
    an_hour_ago = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - HOUR + 2 * HOUR))
    found = program.restorable(f"{an_hour_ago}.25+02:00")
    expected = time.strftime("%Y-%m-%d %H:%M:%S.250000+00", time.gmtime(time.time() - HOUR))
    assert (found["type"], found["target"][:16]) == ("time", expected[:16])
    assert found["target"].endswith(".250000+00")


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("2020-01-01T00:00:00+00:00", "the end of the oldest backup"),
        ("2199-01-01T00:00:00+00:00", "cannot be restored"),
        ("2026-11-30T06:00:00", "is no target"),
        ("yesterday", "is no target"),
        ("name:a b", "is no target"),
        ("", "is no target"),
        ("lsn:0/500011F", "name an LSN from 0/5000120 to 0/7FFFFFF"),
        ("lsn:0/8000000", "is not in the archive"),
    ],
)
def test_other_target_is_refused_with_the_remedy(program: ModuleType, target: str, reason: str) -> None:
    """Nothing has been stopped yet."""
    with pytest.raises(program.FailedError, match=reason):
        program.restorable(target)


def test_empty_repository_restores_nothing(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup with wrong checksums is none."""
    contain(program, monkeypatch, backup(FULL, 1, f"{5:024X}", error=True))
    with pytest.raises(program.FailedError, match="contains no backup"):
        program.restorable("latest")
