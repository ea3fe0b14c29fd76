"""Is a password changed without a moment in which clients have the wrong one?"""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import yaml
from redis_fleet import ADDRESSES, PASSWORDS, PORTS, as_client, refusal, writing
from scenario import PROJECT, SCENARIO, command, converge, verb

SENTINEL = 26379
DOORS = {
    PORTS["state"]: ("vault_redis_app_password", PASSWORDS["state"]),
    PORTS["cache"]: ("vault_redis_cache_app_password", PASSWORDS["cache"]),
    SENTINEL: ("vault_sentinel_app_password", "molecule-sentinel-app"),
}


def vault(inventory: Path) -> dict[str, str]:
    """Return what the vault holds."""
    argv = ["ansible-vault", "view", str(inventory / "group_vars/all/vault.yml")]
    text = subprocess.run(argv, cwd=PROJECT, check=True, capture_output=True, text=True).stdout
    found: dict[str, str] = yaml.safe_load(text)
    return found


def run_until(marker: str, argv: list[str]) -> None:
    """Run a playbook and kill it, with all of its processes, as soon as it prints the marker."""
    with subprocess.Popen(argv, cwd=PROJECT, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        seen = []
        for line in process.stdout:
            seen.append(line)
            if marker in line:
                os.killpg(process.pid, signal.SIGKILL)
                return
    raise AssertionError("".join(seen)[-4000:])


def test_a_rotation_that_is_killed_goes_on_and_nobody_is_refused_meanwhile(tmp_path: Path) -> None:
    """Half-way both passwords open every door; afterwards the new one alone, and no write was lost on the way."""
    inventory = tmp_path / "inventory"
    shutil.copytree(SCENARIO / "inventory", inventory)
    try:
        with writing() as writer:
            playbook = PROJECT / "playbooks/rotate_redis_password.yml"
            run_until("PLAY [Withdraw the former", command(playbook, "-e", "user=app", inventory=inventory))
            halfway = vault(inventory)
            for port, (name, former) in DOORS.items():
                assert halfway[f"{name}_previous"] == former
                for password in (former, halfway[name]):
                    for address in ADDRESSES:
                        assert as_client(address, address, "PING", port=port, password=password) == "PONG"
        assert writer.lost() == []
        assert writer.gap < 3

        verb("rotate_redis_password", "-e", "user=app", inventory=inventory)
        ended = vault(inventory)
        for port, (name, former) in DOORS.items():
            assert ended[name] == halfway[name]
            assert ended[f"{name}_previous"] == ""
            for address in ADDRESSES:
                assert as_client(address, address, "PING", port=port, password=ended[name]) == "PONG"
                assert "WRONGPASS" in refusal(address, address, "PING", port=port, password=former)
    finally:
        converge()


@pytest.mark.parametrize("extra", [[], ["-e", "user=nobody"]], ids=["nobody named", "unknown"])
def test_a_user_that_there_is_not_is_refused(extra: list[str]) -> None:
    """With the names that there are."""
    refused = verb("rotate_redis_password", *extra, check=False)
    assert refused.returncode != 0
    assert "one of admin, app, backup, peer, replica, sentinel" in " ".join(refused.stdout.split())
    assert not re.search("changed=[1-9]", refused.stdout)
