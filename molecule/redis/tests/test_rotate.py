"""Is a password rotated without a moment in which a client has the wrong one?"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from redis_fleet import ADDRESSES, DOORS, PORTS, client_line, healthy, on, query, query_sentinel, together
from redis_writer import writing
from scenario import FLEET, PROJECT, SCENARIO, command, converge, run_playbook

# The doors that accept each secret of a user, by its name in the vault.
OPENS: dict[str, dict[str, list[str]]] = {
    "admin": {"vault_redis_admin_password": list(PORTS), "vault_sentinel_admin_password": ["sentinel"]},
    "app": {
        "vault_redis_app_password": ["state"],
        "vault_redis_cache_app_password": ["cache"],
        "vault_sentinel_app_password": ["sentinel"],
    },
    "backup": {"vault_redis_backup_password": ["state"]},
    "peer": {"vault_sentinel_peer_password": ["sentinel"]},
    "replica": {"vault_redis_replica_password": list(PORTS)},
    "sentinel": {"vault_redis_sentinel_password": list(PORTS)},
}


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield a copy of the scenario's inventory, whose vault changes; afterward restore the hosts."""
    copy = tmp_path_factory.mktemp("rotate") / "inventory"
    shutil.copytree(SCENARIO / "inventory", copy)
    yield copy
    converge("--tags", "redis,sentinel")


def knock(user: str, passwords: dict[str, str]) -> set[str]:
    """Return the responses to a user with these passwords at every door; the application may not PING."""
    lines = {
        (address, door): client_line(address, "PING", port=DOORS[door], user=user, password=passwords[name])
        for address in ADDRESSES
        for name, doors in OPENS[user].items()
        for door in doors
    }
    answers = together(ADDRESSES[0], lines).values()
    pattern = "PONG|NOPERM|WRONGPASS"
    return {word for each in answers for word in re.findall(pattern, each.stdout + each.stderr) or [each.stderr]}


def vault(inventory: Path) -> dict[str, str]:
    """Return the contents of the vault."""
    first, now = (inventory / f"group_vars/all/{name}.yml" for name in ("secrets", "vault"))
    argv = ["ansible-vault", "view", str(now)]
    text = subprocess.run(argv, cwd=PROJECT, check=True, capture_output=True, text=True).stdout if now.exists() else ""
    found: dict[str, str] = yaml.safe_load(first.read_text()) | (yaml.safe_load(text) or {})
    return found


def run_until(marker: str, argv: list[str]) -> None:
    """Run a playbook and kill all of its processes as soon as it prints the marker."""
    with subprocess.Popen(argv, cwd=PROJECT, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        seen = []
        for line in process.stdout:
            seen.append(line)
            if marker in line:
                os.killpg(process.pid, signal.SIGKILL)
                return
    raise AssertionError("".join(seen)[-4000:])


@pytest.mark.parametrize("extra", [[], ["-e", "user=nobody"]], ids=["nobody named", "unknown"])
def test_unknown_user_is_rejected(extra: list[str]) -> None:
    """The message lists the existing users."""
    refused = run_playbook("rotate_redis_password", *extra, check=False)
    assert refused.returncode != 0
    assert "one of admin, app, backup, peer, replica, sentinel" in " ".join(refused.stdout.split())
    assert not re.search("changed=[1-9]", refused.stdout)


@pytest.mark.parametrize(
    "user",
    ["replica", "sentinel", *(pytest.param(each, marks=pytest.mark.thorough) for each in ("peer", "backup", "admin"))],
)
def test_internal_users_get_new_passwords(user: str, inventory: Path) -> None:
    """No write is lost, the former password is rejected everywhere, and every link is up."""
    former = vault(inventory)
    with writing() as writer:
        run_playbook("rotate_redis_password", "-e", f"user={user}", inventory=inventory)
    assert writer.lost() == []
    assert writer.gap < 3
    assert knock(user, former) == {"WRONGPASS"}
    assert knock(user, vault(inventory)) == {"PONG"}
    assert_linked()


def test_links_return_with_the_new_passwords() -> None:
    """Open connections survive a change of password, so they are closed here."""
    for address in ADDRESSES:
        for user in ("replica", "sentinel"):
            for service in PORTS:
                query(address, "CLIENT", "KILL", "USER", user, service=service)
        on(address, "sentinel-cli-state", "CLIENT", "KILL", "USER", "peer")
    # A replica or Sentinel that is rejected is regarded as down after 3 s.
    time.sleep(5)
    assert_linked()
    for address in ADDRESSES:
        on(address, "systemctl", "start", "redis-backup")


def assert_linked() -> None:
    """Wait up to five seconds, because Sentinel sometimes reconnects, which takes a moment."""
    for _ in range(10):
        if not (wrong := links()):
            return
        time.sleep(0.5)
    raise AssertionError(wrong)


def links() -> dict[str, str]:
    """Return the defects: replicas without their primary, and Sentinels without it or each other."""
    wrong = {service: "replicas" for service in PORTS if not healthy(service)}
    for address in ADDRESSES:
        for service in PORTS:
            watched = json.loads(on(address, "sentinel-cli-state", "--json", "SENTINEL", "MASTER", service))
            if watched["flags"] != "master":
                wrong[f"{address} {service}"] = watched["flags"]
            if not (output := query_sentinel(address, "CKQUORUM", service)).startswith("OK 3 "):
                wrong[f"{address} {service} quorum"] = output
    return wrong


# The last test, because the others write as the application.
def test_killed_rotation_continues_and_no_client_is_rejected(inventory: Path) -> None:
    """Half-way both passwords are accepted everywhere; afterward only the new one, and no write is lost."""
    former = vault(inventory)
    with writing() as writer:
        playbook = PROJECT / "playbooks/rotate_redis_password.yml"
        run_until(
            "TASK [rotation : Redis | Give the new password",
            command(playbook, *FLEET, "-e", "user=app", inventory=inventory),
        )
        halfway = vault(inventory)
        assert {name: halfway[f"{name}_previous"] for name in OPENS["app"]} == {
            name: former[name] for name in OPENS["app"]
        }
        assert knock("app", former) == knock("app", halfway) == {"NOPERM"}
    assert writer.lost() == []
    assert writer.gap < 3

    run_playbook("rotate_redis_password", "-e", "user=app", inventory=inventory)
    ended = vault(inventory)
    for name in OPENS["app"]:
        assert ended[name] == halfway[name] != former[name]
        assert ended[f"{name}_previous"] == ""
    assert knock("app", ended) == {"NOPERM"}
    assert knock("app", former) == {"WRONGPASS"}
