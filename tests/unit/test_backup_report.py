"""The program that reports the backups: which problems it finds, and which targets it accepts."""

import json
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from backup_programs import programs

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
        "database": {"id": 1},
        "lsn": {"start": "0/5000028", "stop": "0/5000120"},
        "info": {"size": 1 << 30},
    }


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The program's parts, with a repository that contains a full backup, a differential one and three segments."""
    parts = programs(tmp_path, monkeypatch)
    for number in (5, 6, 7):
        segment(tmp_path, 1, number)
    for name in ("check", "verify", "drill", "second-check", "second-verify", "second-drill"):
        parts.common.record(name, {"ok": True})
    contain(parts, monkeypatch, backup(FULL, 30, f"{5:024X}"), backup(DIFF, 6, f"{6:024X}"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=100, used=50, free=50))
    return parts


def contain(
    program: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, *backups: dict[str, Any], version: str = "17"
) -> None:
    """Let both repositories contain these backups."""
    monkeypatch.setattr(
        program.common, "info", lambda *_: {"backup": list(backups), "db": [{"id": 1, "version": version}]}
    )
    monkeypatch.setattr(
        program.archive, "info", lambda *_: {"backup": list(backups), "db": [{"id": 1, "version": version}]}
    )


def segment(folder: Path, timeline: int, number: int) -> Path:
    """Create an archived segment."""
    name = f"{timeline:08X}{number >> 8:08X}{number & 0xFF:08X}"
    path = folder / ARCHIVE / name[:16] / f"{name}-{'0' * 40}.zst"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def problems(program: SimpleNamespace) -> list[str]:
    """Return the problems that the program reports."""
    found: list[str] = program.report.report()["problems"]
    return found


def test_complete_repository_has_no_problem(program: SimpleNamespace) -> None:
    """Nor have commands that have never run yet and that no timer repeats."""
    assert problems(program) == []


def test_drill_that_never_ran_is_a_problem(program: SimpleNamespace) -> None:
    """Its time begins with the first backup, and that of the second repository when this was attached."""
    for name in ("drill", "second-drill"):
        (program.common.STATE / f"{name}.json").unlink()
    assert problems(program) == ["no drill has run for 30 hours"]
    attached = {"time": int(time.time()) - 40 * HOUR, "ok": True}
    (program.common.STATE / "second-attach.json").write_text(json.dumps(attached))
    assert problems(program) == ["no drill has run for 30 hours", "no second drill has run for 40 hours"]


def test_each_repository_has_the_figures_of_its_own_drill(program: SimpleNamespace) -> None:
    """Their ages and results are problems of their own."""
    program.common.record("drill", {"ok": True, "repository": 1, "seconds_to_serve": 1.5, "newest_age_seconds": 3})
    old = {"time": int(time.time()) - 27 * HOUR, "ok": True, "repository": 2, "seconds_to_serve": 9.5}
    (program.common.STATE / "second-drill.json").write_text(json.dumps(old))
    assert problems(program) == ["the last second drill is 27 hours old"]
    state = program.report.report()
    assert state["second"]["drill"] == old["time"]
    metrics = program.report.metrics(state)
    for line in (
        'tradefleet_restore_drill_rto_seconds{repository="1"} 1.5',
        'tradefleet_restore_drill_rpo_seconds{repository="1"} 3',
        'tradefleet_restore_drill_rto_seconds{repository="2"} 9.5',
        f"tradefleet_backup_second_drill_timestamp_seconds {old['time']}",
        f'tradefleet_backup_last_run_timestamp_seconds{{command="second drill"}} {old["time"]}',
    ):
        assert f"{line}\n" in metrics
    assert 'rpo_seconds{repository="2"}' not in metrics


def test_old_and_missing_backups_are_problems(program: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
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
    program: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_failed_and_overdue_commands_are_problems(program: SimpleNamespace) -> None:
    """The reason is that of the command; a command that has not run for too long has a timer that does not run."""
    program.common.record("check", {"ok": False, "reason": "no WAL"})
    assert problems(program) == ["check failed: no WAL"]
    old = {"time": int(time.time()) - 27 * HOUR, "ok": True}
    (program.common.STATE / "drill.json").write_text(json.dumps(old))
    assert problems(program) == ["the last drill is 27 hours old", "check failed: no WAL"]
    program.report.write_metrics()
    metrics = (program.common.STATE / "backups.prom").read_text()
    assert 'tradefleet_backup_last_run_succeeded{command="check"} 0\n' in metrics
    assert "tradefleet_backup_problems 2\n" in metrics


def test_full_disk_is_a_problem(program: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is reported before backups fail."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=100, used=91, free=9))
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
def test_target_in_the_archive_is_accepted(program: SimpleNamespace, target: str, expected: tuple[str, str]) -> None:
    """It becomes pgBackRest's type and target."""
    assert program.archive.restorable(target) == {
        "type": expected[0],
        "target": expected[1],
        "bytes": 1 << 30,
        "repository": 1,
    }


def test_time_is_accepted_in_any_zone(program: SimpleNamespace) -> None:
    """PostgreSQL gets it in UTC, with its fraction of a second."""
    an_hour_ago = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - HOUR + 2 * HOUR))
    found = program.archive.restorable(f"{an_hour_ago}.25+02:00")
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
def test_other_target_is_refused_with_the_remedy(program: SimpleNamespace, target: str, reason: str) -> None:
    """Nothing has been stopped yet."""
    with pytest.raises(program.common.FailedError, match=reason):
        program.archive.restorable(target)


def test_backup_of_another_version_is_refused(program: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL would reject its files only after a member has been stopped."""
    contain(program, monkeypatch, backup(FULL, 1, f"{5:024X}"), version="16")
    with pytest.raises(program.common.FailedError, match=r"is of PostgreSQL 16, and this fleet has 17"):
        program.archive.restorable("latest")


def test_empty_repository_restores_nothing(program: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup with wrong checksums is none."""
    contain(program, monkeypatch, backup(FULL, 1, f"{5:024X}", error=True))
    with pytest.raises(program.common.FailedError, match="contains no backup"):
        program.archive.restorable("latest")


def test_clock_that_jumped_is_a_problem(program: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup or a check from the future would otherwise look new for as long as the jump was."""
    contain(program, monkeypatch, backup(FULL, -48, f"{5:024X}"))
    program.common.record("check", {"ok": True})
    late = program.common.STATE / "check.json"
    late.write_text(json.dumps({"time": int(time.time()) + 2 * HOUR, "ok": True}))
    assert problems(program) == [
        "the newest full backup ends 48.0 hours in the future: compare the clocks of the hosts",
        "the newest backup ends 48.0 hours in the future: compare the clocks of the hosts",
        "the last check was 2.0 hours in the future: compare the clocks of the hosts",
    ]


def test_running_backup_is_reported_in_percent(program: SimpleNamespace) -> None:
    """pgBackRest states the bytes; between two backups it has none."""
    lock = {"backup": {"held": True, "size": 4000, "size-cplt": 1010}}
    assert program.report.running({"status": {"lock": lock}}) == 25.2
    assert program.report.running({"status": {"lock": {"backup": {"held": False}}}}) is None
    assert program.report.running({}) is None


def test_problems_of_the_second_repository_are_reported_as_its_own(program: SimpleNamespace) -> None:
    """The report does not query it: an outage must not delay the status."""
    now = int(time.time())
    program.common.record("second-state", {"full": now - 200 * HOUR, "newest": now, "wal": now, "gaps": ["a gap"]})
    program.common.record("second-copy", {"ok": False, "reason": "no route"})
    assert problems(program) == [
        "second repository: the newest full backup is 200 hours old, more than 192",
        "second repository: a gap",
        "second copy failed: no route",
    ]
    state = program.report.report()
    assert state["second"] == {"full": now - 200 * HOUR, "newest": now, "wal": now, "drill": now}
    assert f"tradefleet_backup_second_newest_timestamp_seconds {now}\n" in program.report.metrics(state)


def archived(program: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
    """Let the second repository contain these segments."""
    monkeypatch.setattr(program.second, "files", lambda: {f"{1:08X}{number:016X}": time.time() for number in numbers})


def test_wal_that_was_not_copied_is_a_failure(
    program: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment has three minutes; those before the oldest backup there are not needed."""
    archived(program, monkeypatch, 5, 6)
    assert program.copying.check()["gaps"] == []
    for path in tmp_path.glob("archive/**/*.zst"):
        minutes_ago = time.time() - 240
        os.utime(path, (minutes_ago, minutes_ago))
    with pytest.raises(
        program.common.FailedError, match=f"1 segments of WAL have not been copied, the first is .*{7:016X}"
    ):
        program.copying.check()
    archived(program, monkeypatch, 5, 7)
    segment(tmp_path, 1, 6).unlink()
    (gap,) = program.copying.check()["gaps"]
    assert gap.startswith("1 segments of WAL are missing")


def test_each_file_is_copied_once_and_in_order(
    program: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Histories and labels of backups too; another file of the folder is none of them."""
    archived(program, monkeypatch, 5)
    copied: list[str] = []
    monkeypatch.setattr(program.copying, "_read", lambda *_: None)
    monkeypatch.setattr(program.copying, "run", lambda *argv: copied.append(argv[-1].name))
    folder = segment(tmp_path, 1, 4).parent
    (folder / f"{1:08X}{6:016X}.00000028.backup").touch()
    (folder / f"{1:08X}{8:016X}-{'0' * 40}.zst.pgbackrest.tmp").touch()
    (folder.parent / "00000002.history").touch()
    copier = program.copying.Copier()
    copier.run()
    names = {f"{1:08X}{6:016X}", f"{1:08X}{7:016X}", f"{1:08X}{6:016X}.00000028.backup", "00000002.history"}
    assert set(copied) == names
    assert len(copied) == 4
    segment(tmp_path, 1, 8)
    copier.run()
    assert copied[4:] == [f"{1:08X}{8:016X}"]


def test_damaged_file_does_not_stop_the_copying(program: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files after it are copied, and the failure has its reason."""
    archived(program, monkeypatch)
    copied: list[str] = []

    def read(path: Path, _: Path) -> None:
        if path.name.startswith(f"{1:08X}{6:016X}"):
            raise program.common.FailedError("cipher header missing")

    monkeypatch.setattr(program.copying, "_read", read)
    monkeypatch.setattr(program.copying, "run", lambda *argv: copied.append(argv[-1].name))
    with pytest.raises(program.common.FailedError, match="cipher header missing"):
        program.copying.Copier().run()
    assert copied == [f"{1:08X}{5:016X}", f"{1:08X}{7:016X}"]


def test_target_in_the_second_repository(program: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own WAL decides."""
    archived(program, monkeypatch, 5)
    assert program.archive.restorable("lsn:0/5ffffff", 2)["repository"] == 2
    with pytest.raises(program.common.FailedError, match="is not in the archive"):
        program.archive.restorable("lsn:0/6000000", 2)
    monkeypatch.setitem(program.common.SETTINGS, "second", False)
    with pytest.raises(program.common.FailedError, match="no second repository is configured"):
        program.archive.restorable("latest", 2)


def test_former_cluster_in_a_repository_is_no_part_of_the_present_one(
    program: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restore from the second repository the first one also contains the cluster that replaced the lost one."""
    later = tmp_path / ARCHIVE.replace("17-1", "17-2") / f"{2:08X}{0:08X}"
    later.mkdir(parents=True)
    (later / f"{2:08X}{0:08X}{9:08X}-{'0' * 40}.zst").touch()
    assert set(program.archive.segments()) == {f"{2:08X}{0:08X}{9:08X}"}
    archived(program, monkeypatch)
    assert [path.name[:24] for _, path in program.copying.Copier()._new()] == [f"{2:08X}{0:08X}{9:08X}"]
    listed = {"backup": [backup(FULL, 30, f"{5:024X}")], "db": [{"id": 1, "version": "17"}, {"id": 2, "version": "17"}]}
    monkeypatch.setattr(program.archive, "info", lambda *_: listed)
    with pytest.raises(program.common.FailedError, match="contains no backup"):
        program.archive.restorable("latest")
