"""Checks that the API conforms to its OpenAPI document: all checks of schemathesis, with a fixed seed."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

FOLDER = Path(__file__).parent
PROGRAM = Path(sys.executable).with_name("schemathesis")


def findings(url: str, key: str, *options: str, seconds: int, examples: int, resolve: str = "") -> str:
    """Return the deviations from the document, or ""; the key is a trader's.

    Raises:
        subprocess.TimeoutExpired: the run took longer than `seconds`.

    """
    argv = [str(PROGRAM), "--config-file", str(FOLDER / "schemathesis.toml"), "run", f"{url}/openapi.json"]
    argv += ["--checks", "all", "--max-examples", str(examples), "--header", f"Authorization: Bearer {key}", *options]
    environment = os.environ | {"PYTHONPATH": str(FOLDER), "CONTRACT_RESOLVE": resolve}
    # Hypothesis stores its findings in the current folder; those of an earlier run must not affect this one.
    with TemporaryDirectory() as folder:
        done = subprocess.run(
            argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )
    assert "Test cases:" in done.stdout, done.stdout[-4000:] + done.stderr[-2000:]
    return "" if done.returncode == 0 else done.stdout.partition("= FAILURES =")[2][:8000] or done.stdout[-4000:]
