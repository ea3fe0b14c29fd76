"""Settings, commands whose failures have reasons, and files that are replaced as a whole."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

SETTINGS: dict[str, Any] = json.loads(Path("/etc/pgbackrest/backups.json").read_text())
STANZA, STATE, REPOSITORY = SETTINGS["stanza"], Path(SETTINGS["state"]), Path(SETTINGS["repository"])
UNREADABLE = 99  # status of a repository in the output of info
BIN = Path("/usr/lib/postgresql/17/bin")
# Commands without these options use the first repository and no other.
SECOND_CONFIG = Path("/etc/pgbackrest/second.d/second.conf")
SECOND = (f"--config-include-path={SECOND_CONFIG.parent}", "--repo=2")

# The names under which the results of drills are stored, by repository.
DRILLS = {1: "drill", 2: "second-drill"}


class FailedError(Exception):
    """A command failed, or found something wrong; the message is the reason."""


def run(*argv: str | Path, seconds: float = 24 * 3600) -> str:
    """Run a program and return its output; on failure raise the reason."""
    # With a wrong passphrase pgBackRest prints what it decrypted, which is no text.
    done = subprocess.run(  # noqa: S603 - the arguments are the callers' own, without a shell
        argv, capture_output=True, text=True, errors="replace", check=False, timeout=seconds
    )
    if done.returncode:
        output = " ".join((done.stderr + done.stdout).split())[-1500:]
        raise FailedError(f"{Path(argv[0]).name}: {output or f'exit status {done.returncode}'}")
    return done.stdout


def pgbackrest(*arguments: str) -> str:
    """Run pgBackRest for the cluster and return its output."""
    return run("pgbackrest", f"--stanza={STANZA}", *arguments)


def info(*options: str) -> dict[str, Any]:
    """Return what a repository contains; raise if it cannot be read."""
    found: dict[str, Any] = json.loads(pgbackrest(*options, "--output=json", "info"))[0]
    wrong = [each["status"]["message"] for each in found.get("repo", []) if each["status"]["code"] == UNREADABLE]
    if wrong:
        raise FailedError("; ".join(wrong))
    return found


def replace(path: Path, text: str) -> None:
    """Replace a file as a whole."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.chmod(0o644)
    partial.rename(path)


def record(name: str, result: dict[str, Any]) -> None:
    """Store the result of a command with the time."""
    replace(STATE / f"{name}.json", json.dumps({"time": int(time.time()), **result}) + "\n")


def last(name: str) -> dict[str, Any]:
    """Return the stored result of a command."""
    try:
        found: dict[str, Any] = json.loads((STATE / f"{name}.json").read_text())
    except FileNotFoundError:
        return {}
    return found
