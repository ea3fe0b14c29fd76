"""Does access end when an operator leaves or loses a right, even if processes still run?"""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import scenario
from inside import on

LAB = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"]) / ".lab"
ADDRESS = "10.203.0.101"
KEY = (LAB / "ssh_key.pub").read_text().strip()
STANDING = [{"name": "alex", "keys": [KEY], "sudo": True}, {"name": "kim", "keys": [KEY]}]


def login(user: str, command: str, key: Path = LAB / "ssh_key") -> list[str]:
    """Return the command that runs a remote command over SSH."""
    options = [
        "-o",
        f"UserKnownHostsFile={LAB}/known_hosts/{ADDRESS}",
        "-o",
        "BatchMode=yes",
        "-o",
        "IdentitiesOnly=yes",
    ]
    return ["ssh", "-n", *options, "-i", str(key), f"{user}@{ADDRESS}", command]


def answer(user: str, command: str, key: Path = LAB / "ssh_key") -> str:
    """Return the output of a remote command."""
    done = subprocess.run(login(user, command, key), capture_output=True, text=True, timeout=30, check=False)
    return done.stdout + done.stderr


def operators(*others: dict[str, object], check: bool = True) -> subprocess.CompletedProcess[str]:
    """Converge base1 with the standing operators and others."""
    variables = {"base_operators": [*STANDING, *others]}
    return scenario.converge("--limit", "base1", "-e", json.dumps(variables), check=check)


def processes(user: str) -> list[str]:
    """Return the commands of all processes of an account, by name or number."""
    return on("base1", f"ps -o args= -u {user}", check=False).splitlines()


@pytest.fixture(scope="module")
def other_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a second key."""
    file = tmp_path_factory.mktemp("keys") / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)], check=True)
    return file


@pytest.fixture(scope="module")
def sessions(other_key: Path) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Log operators in, revoke something from all but one, and yield their sessions; sam leaves."""
    both = [KEY, other_key.with_suffix(".pub").read_text().strip()]
    names = ["sam", "lee", "drew", "jo", "mo"]
    operators(
        {"name": "sam", "keys": [KEY], "sudo": True},
        {"name": "lee", "keys": [KEY], "sudo": True},
        {"name": "drew", "keys": [KEY], "sudo": True},
        {"name": "jo", "keys": both},
        {"name": "mo", "keys": [KEY]},
    )
    keys = {"jo": other_key}
    found = {
        name: subprocess.Popen(login(name, f"sudo -n sleep 60{number} & sleep 500", keys.get(name, LAB / "ssh_key")))
        for number, name in enumerate(names)
    }
    # Besides sessions: a process like one that cron or sudo started, a lingering user manager, and files of all kinds.
    on("base1", "setpriv --reuid=sam --regid=sam --init-groups setsid sleep 500 > /dev/null 2>&1 &")
    on("base1", "loginctl enable-linger sam && echo '* * * * * touch /tmp/cron-ran' | crontab -u sam -")
    on("base1", "install -d -m 1770 /var/spool/cron/atjobs && install -o sam /dev/null /var/spool/cron/atjobs/a1")
    on("base1", "install -o sam /dev/null /var/tmp/notes")
    deadline = time.monotonic() + 20
    while missing := [name for name in names if "sleep 500" not in processes(name)]:
        assert time.monotonic() < deadline, missing
        time.sleep(0.2)

    operators(
        {"name": "sam", "state": "absent"},
        {"name": "lee", "keys": [KEY]},
        {"name": "jo", "keys": [KEY]},
        {"name": "mo", "keys": both},
    )
    yield found
    for session in found.values():
        session.kill()
        session.wait()
    on("base1", f"for name in {' '.join(names)}; do pkill -KILL -u $name; userdel -rf $name; done", check=False)


@pytest.mark.parametrize("name", ["sam", "lee", "drew", "jo"])
def test_sessions_end_with_the_right_that_opened_them(sessions: dict[str, subprocess.Popen[bytes]], name: str) -> None:
    """The operators leave, lose sudo, are no longer in the list, or lose a key."""
    assert sessions[name].wait(timeout=10) == 255
    assert on("base1", "pgrep -fx '(sudo -n )?sleep 60[0-3]'", check=False) == ""
    assert name == "sam" or processes(name) == []


def test_added_key_ends_nothing(sessions: dict[str, subprocess.Popen[bytes]], other_key: Path) -> None:
    """The new key is accepted."""
    assert sessions["mo"].poll() is None
    assert answer("mo", "id -un", other_key) == "mo\n"


def test_leaver_leaves_nothing_behind(sessions: dict[str, subprocess.Popen[bytes]]) -> None:
    """No process, lingering unit, job or file is left for the next account with this name or number."""
    gone = "/home/sam /var/lib/systemd/linger/sam /var/spool/cron/crontabs/sam /var/spool/cron/atjobs/a1"
    assert on("base1", f"getent passwd sam; ls -d {gone}; grep sam /etc/sudoers.d/*", check=False) == ""
    assert on("base1", "stat -c %U /var/tmp/notes") == "root\n"
    assert on("base1", "ps -eo user:20= | grep -E '^[0-9]+ *$'", check=False) == ""


def test_operators_who_stay_log_in_with_their_remaining_rights(
    sessions: dict[str, subprocess.Popen[bytes]], other_key: Path
) -> None:
    """Their accounts are reopened."""
    for name in ("lee", "drew", "jo"):
        assert answer(name, "id -un") == f"{name}\n"
        assert "password is required" in answer(name, "sudo -n id -u")
    assert "Permission denied" in answer("jo", "true", other_key)


def test_accounts_that_are_not_operators_are_refused() -> None:
    """This covers the account that Ansible uses, and system accounts."""
    before = on("base1", "cat /etc/passwd /etc/shadow")
    wrong = {"debian": "absent", "www-data": "present", "root": "absent"}
    others: list[dict[str, object]] = [{"name": name, "keys": [], "state": state} for name, state in wrong.items()]
    refused = operators(*others, check=False)
    assert refused.returncode == 2
    output = " ".join(refused.stdout.split())
    for name in wrong:
        assert f"base_operators names {name}, and base1 has that account" in output
    assert on("base1", "cat /etc/passwd /etc/shadow") == before
