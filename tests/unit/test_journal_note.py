"""The journal's notes: what a timer did, which needs no lock."""

import os
import re
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parents[2] / "roles/operations/files/tradefleet-operations"


def test_note_is_recorded_while_an_operator_holds_the_lock(tmp_path: Path) -> None:
    """The lock stays with its holder, and the chain of lines is complete."""

    def journal(*arguments: str) -> str:
        environment = os.environ | {"TRADEFLEET_OPERATIONS": str(tmp_path)}
        argv = [sys.executable, str(PROGRAM), *arguments]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout

    journal("lock", "--who=alex@desk", "--reason=a test")
    journal("note", "--who=drill@ops1", "--verb=restore_drill", "--result=ok", "--reason=newest row 12 s old")
    line = journal("journal", "--last=1").splitlines()[-1]
    assert re.search(r"drill@ops1 +restore_drill +- +- +ok +- +- +newest row 12 s old", line)
    assert journal("status").startswith("lock: alex@desk")
    assert journal("verify") == "2 lines\n"
