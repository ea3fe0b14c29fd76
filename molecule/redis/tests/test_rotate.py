"""Is a password changed without a moment in which clients have the wrong one?"""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import yaml
from redis_fleet import ADDRESSES, PASSWORDS, PORTS, client_line, together, writing
from scenario import FLEET, PROJECT, SCENARIO, command, converge, verb

# By the name of the application's password in the vault.
PORT = {
    "vault_redis_app_password": PORTS["state"],
    "vault_redis_cache_app_password": PORTS["cache"],
    "vault_sentinel_app_password": 26379,
}
FORMER = dict(zip(PORT, (PASSWORDS["state"], PASSWORDS["cache"], "molecule-sentinel-app"), strict=True))


def knock(passwords: dict[str, str]) -> set[str]:
    """Return how the application is answered that shows these passwords on every host: let in, it may not PING."""
    lines = {
        (address, name): client_line(address, "PING", port=port, password=passwords[name])
        for address in ADDRESSES
        for name, port in PORT.items()
    }
    answers = together(ADDRESSES[0], lines).values()
    return {
        word for each in answers for word in re.findall("NOPERM|WRONGPASS", each.stdout + each.stderr) or [each.stderr]
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
            run_until("PLAY [Withdraw the former", command(playbook, *FLEET, "-e", "user=app", inventory=inventory))
            halfway = vault(inventory)
            assert {name: halfway[f"{name}_previous"] for name in FORMER} == FORMER
            assert knock(FORMER) == knock(halfway) == {"NOPERM"}
        assert writer.lost() == []
        assert writer.gap < 3

        verb("rotate_redis_password", "-e", "user=app", inventory=inventory)
        ended = vault(inventory)
        for name in FORMER:
            assert ended[name] == halfway[name] != FORMER[name]
            assert ended[f"{name}_previous"] == ""
        assert knock(ended) == {"NOPERM"}
        assert knock(FORMER) == {"WRONGPASS"}
    finally:
        converge("--tags", "redis,sentinel")


@pytest.mark.parametrize("extra", [[], ["-e", "user=nobody"]], ids=["nobody named", "unknown"])
def test_a_user_that_there_is_not_is_refused(extra: list[str]) -> None:
    """With the names that there are."""
    refused = verb("rotate_redis_password", *extra, check=False)
    assert refused.returncode != 0
    assert "one of admin, app, backup, peer, replica, sentinel" in " ".join(refused.stdout.split())
    assert not re.search("changed=[1-9]", refused.stdout)
