"""The parts of the programs for backups, with settings and folders of a test."""

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

LIBRARY = Path(__file__).parents[2] / "roles/pgbackrest/files"


def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return the parts; the folder is the repository, and contains the state."""
    settings = {
        "stanza": "tradefleet",
        "repository": str(tmp_path),
        "state": str(tmp_path / "state"),
        "full_hours": 192,
        "backup_hours": 26,
        "drill_hours": 26,
        "second": True,
    }
    read = Path.read_text

    def read_settings(path: Path, *arguments: Any, **options: Any) -> str:
        return json.dumps(settings) if path.name == "backups.json" else read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", read_settings)
    monkeypatch.syspath_prepend(LIBRARY)
    names = ("common", "second", "archive", "copying", "progress", "report", "taking")
    for name in ("", *(f".{name}" for name in names)):
        monkeypatch.delitem(sys.modules, f"tradefleet_backups{name}", raising=False)
    parts = SimpleNamespace(**{name: importlib.import_module(f"tradefleet_backups.{name}") for name in names})
    (tmp_path / "state").mkdir()
    return parts
