"""The records of one `make test`: a file of JSON lines for each part, which the table is made from."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tools.suite.cost import Cost

PROJECT = Path(__file__).parents[2]
LOGS = PROJECT / ".lab/log"
FOLDER = PROJECT / ".lab/timing"


def start(part: str) -> None:
    """Forget what a former run recorded for this part."""
    LOGS.mkdir(parents=True, exist_ok=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for former in (FOLDER / f"{part}.jsonl", LOGS / f"{part}.failed"):
        former.unlink(missing_ok=True)


def clean() -> None:
    """Forget what former runs recorded."""
    for former in (*FOLDER.glob("*.jsonl"), *LOGS.glob("*.failed")):
        former.unlink()


def add(part: str, cost: Cost, **what: str) -> None:
    """Append the cost of a phase (`phase=`) or of a test (`test=`) of this part."""
    with (FOLDER / f"{part}.jsonl").open("a") as file:
        file.write(json.dumps({"part": part, **what, **asdict(cost)}) + "\n")


def everything() -> list[dict[str, Any]]:
    """Return all records, in the order in which the parts began."""
    files = sorted(FOLDER.glob("*.jsonl"), key=lambda file: file.stat().st_mtime)
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]
