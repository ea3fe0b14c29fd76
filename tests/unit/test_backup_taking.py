"""Backups: which failure leads to a second attempt."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from backup_programs import programs

LATE = "ERROR: [082]: timeout before standby checkpoint lsn reached 5/8A000420 - only reached 5/87004260"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The program's parts, whose pgBackRest fails with each of `failures` before it takes a backup."""
    parts = programs(tmp_path, monkeypatch)
    parts.failures, parts.commands = [], []
    now = int(time.time())
    taken = {
        "label": "20261130-013000F",
        "timestamp": {"start": now - 10, "stop": now},
        "info": {"delta": 1000, "repository": {"delta": 300}},
    }

    def pgbackrest(*arguments: str) -> str:
        parts.commands.append(arguments)
        if parts.failures:
            raise parts.common.FailedError(parts.failures.pop(0))
        return ""

    monkeypatch.setattr(parts.common, "pgbackrest", pgbackrest)
    monkeypatch.setattr(parts.common, "info", lambda *_: {"backup": [taken]})
    return parts


def test_backup_waits_for_wal_in_the_second_repository_only(program: SimpleNamespace) -> None:
    """Its figures are those of the newest backup."""
    figures = program.taking.backup("full")
    assert (figures["seconds"], figures["read_bytes"], figures["bytes_per_second"]) == (10, 1000, 100)
    program.taking.backup("diff", "--repo=2")
    assert program.commands == [
        ("--type=full", "backup"),
        ("--repo=2", "--archive-timeout=300", "--type=diff", "backup"),
    ]


def test_late_restart_point_of_a_standby_begins_another_backup(
    program: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once; and the journal of the unit says so."""
    program.failures = [LATE]
    assert program.taking.backup("full")["label"] == "20261130-013000F"
    assert "full begins again: ERROR: [082]" in capsys.readouterr().err
    program.failures = [LATE, LATE]
    with pytest.raises(program.common.FailedError, match="standby checkpoint lsn"):
        program.taking.backup("full")


@pytest.mark.parametrize(
    "failure", ["ERROR: [050]: unable to acquire lock", "ERROR: [082]: WAL segment was not archived"]
)
def test_other_failures_end_the_backup(program: SimpleNamespace, failure: str) -> None:
    """A second attempt would hide them."""
    program.failures = [failure]
    with pytest.raises(program.common.FailedError):
        program.taking.backup("full")
    assert len(program.commands) == 1
