"""How much of a backup is done, as an operator who waits for it is told."""

from pathlib import Path

import pytest
from backup_programs import programs


def test_backup_is_followed_by_tenths_of_both_repositories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call ends at the next tenth, and the last one when the unit has ended."""
    program = programs(tmp_path, monkeypatch)
    lock = {"held": True, "size": 100 << 20}
    moments = [  # what has begun, and the megabytes that it has read
        ("full", 0),
        ("full", 15),
        ("full", 21),
        ("second-backup", 0),
        ("second-backup", 50),
        ("second-check", 0),
    ]
    left = iter(moments)

    def job(*_: str) -> str:
        moment = next(left, None)
        if moment is None:
            return "\n"
        (tmp_path / "full").mkdir(exist_ok=True)
        monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "full"))
        program.progress.begin(moment[0])
        state = {"status": {"lock": {"backup": lock | {"size-cplt": moment[1] << 20} if moment[1] else {}}}}
        monkeypatch.setattr(program.common, "info", lambda *_: state)
        return "4711\n"

    monkeypatch.setattr(program.progress, "run", job)
    monkeypatch.setattr(program.progress, "FOLDER", tmp_path)
    monkeypatch.setattr(program.progress, "POLL_SECONDS", 0)
    program.common.record("full", {"ok": True, "label": "first"})
    program.common.record("second-backup", {"ok": True, "label": "second"})
    found, percent = [], 0.0
    for _ in moments:
        state = program.progress.follow("full", percent, ["full", "second-backup"])
        percent = state["percent"]
        found.append(state["text"])
        if state["ended"]:
            break
    assert found == [
        "10 %: 21.0 of 100.0 MB read for repository 1, 21.0 MB/s",
        "50 %: the backup in repository 2 begins",
        "75 %: 50.0 of 100.0 MB read for repository 2, 50.0 MB/s",
        "100 %: all backups are taken",
        "ended",
    ]
    assert [each["label"] for each in state["taken"]] == ["first", "second"]
