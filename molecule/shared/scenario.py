"""What the tests of every scenario may do with it."""

import os
import re
import subprocess
from pathlib import Path

PROJECT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
SCENARIO = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])


def converge(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the scenario's converge playbook again with further arguments; with `check`, a failing run stops the test."""
    command = ["ansible-playbook", "-i", str(PROJECT / "molecule/shared/inventory"), "-i", str(SCENARIO / "inventory")]
    command += [*arguments, str(SCENARIO / "converge.yml")]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    failed = re.findall(r"^(?:fatal|failed): .*(?:\n {4}.*)*", done.stdout, re.MULTILINE)
    assert done.returncode == 0 or not check, "\n".join(failed)[-6000:] + done.stderr[-2000:]
    return done
