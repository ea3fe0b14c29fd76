"""Access to the archives of the scenario, and to a checkout whose files the controller's archive contains."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import testinfra
from scenario import PROJECT, SCENARIO
from testinfra.host import Host

SERVER: Host = testinfra.get_host("podman://tf-operations1")
CLIENT: Host = testinfra.get_host("podman://tf-operations2")
REPOSITORIES = "/var/lib/tradefleet-archives"
BACKUPS = "/var/backups/redis"
# On the client, which has the S3 server as well.
COPY = "/srv/s3/archives/tradefleet/restic"
KEY = "molecule-passphrase-of-the-controller"
SSH = (
    f"-i {PROJECT}/.lab/ssh_key -o UserKnownHostsFile={PROJECT}/.lab/known_hosts/10.203.0.177 -o IdentitiesOnly=yes "
    "-o StrictHostKeyChecking=yes -o BatchMode=yes"
)


def back_up(name: str, content: str = "") -> str:
    """Write a file as the backup of Redis would, and return its checksum."""
    CLIENT.check_output(f"install -d -m 0700 -o nobody {BACKUPS}")
    CLIENT.check_output(f"(echo '{content}'; head -c 2000000 /dev/urandom) > {BACKUPS}/state-{name}.rdb")
    return str(CLIENT.check_output(f"sha256sum < {BACKUPS}/state-{name}.rdb"))


def run(host: Host, command: str, check: bool = True) -> str:
    """Run a command of the service; return what it printed, also if it failed and `check` is not set."""
    # Tests start it more often than systemd permits.
    done = host.run(f"systemctl reset-failed 'tradefleet-archive@*'; systemctl start tradefleet-archive@{command}")
    assert done.rc == 0 or not check, host.check_output(f"journalctl --unit=tradefleet-archive@{command} --lines=9")
    return str(done.rc)


def listed(host: Host, source: str) -> list[dict[str, Any]]:
    """Return the archives of a host."""
    found: list[dict[str, Any]] = json.loads(host.check_output(f"tradefleet-archive list {source}"))
    return found


def problems(host: Host) -> list[str]:
    """Return the problems that a host reports."""
    found: list[str] = json.loads(host.check_output("tradefleet-archive report"))["problems"]
    return found


@contextmanager
def moved(host: Host, path: str) -> Iterator[str]:
    """Move a file or folder away for the length of the block; yield where it is."""
    kept = f"/root/{Path(path).name}.kept"
    host.check_output(f"mv {path} {kept}")
    try:
        yield kept
    finally:
        host.check_output(f"rm -rf {path} && mv {kept} {path}")


@contextmanager
def missing(host: Host, path: str) -> Iterator[None]:
    """Ensure that a folder, which may exist, does not for the length of the block."""
    if not host.file(path).exists:
        yield
        return
    with moved(host, path):
        yield


class Checkout:
    """A checkout with the playbooks of this one, and an inventory of its own or none."""

    def __init__(self, folder: Path) -> None:
        """Copy what the playbooks need."""
        self.folder = folder
        for name in ("playbooks", "roles", "plugins", "tools"):
            shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(PROJECT / "ansible.cfg", folder)
        for name in ("prune.yml", "schedule.yml"):
            shutil.copy(SCENARIO / name, folder / "playbooks")

    def fill(self) -> None:
        """Create the files that exist on a controller only."""
        for path, content, mode in (
            ("inventories/site/hosts.yml", "all:\n", 0o644),
            ("inventories/site/group_vars/all/traffic.yml", "release_blue: '1.0'\nrelease_green: ''\n", 0o644),
            ("inventories/site/group_vars/all/vault.yml", "$ANSIBLE_VAULT;1.1;AES256\n31\n", 0o600),
            ("inventories/site/pki/ca.key", "key\n", 0o600),
            ("inventories/site/pki/ca.crt", "certificate\n", 0o644),
            (".vault/site", "password\n", 0o600),
            ("dist/tradefleet-1.0.tar.gz", "release\n" * 100_000, 0o644),
        ):
            file = self.folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
            file.chmod(mode)

    def files(self) -> dict[str, tuple[int, bytes]]:
        """Return mode and content of the files that exist on a controller only."""
        paths = [path for name in ("inventories", ".vault", "dist") for path in (self.folder / name).rglob("*")]
        return {
            str(path.relative_to(self.folder)): (path.stat().st_mode & 0o777, path.read_bytes())
            for path in paths
            if path.is_file()
        }

    def play(self, playbook: Path, *arguments: str, **values: str) -> "subprocess.CompletedProcess[str]":
        """Run a playbook with extra variables."""
        argv = ["ansible-playbook", *arguments, f"--extra-vars={json.dumps(values)}", str(playbook)]
        environment = os.environ | {
            "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"),
            "ANSIBLE_VAULT_PASSWORD_FILE": str(self.folder / ".vault/site"),
        }
        return subprocess.run(
            argv, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    def archive(self, *arguments: str, playbook: str = "archive.yml") -> "subprocess.CompletedProcess[str]":
        """Run archive.yml, or another playbook, with the inventory of the scenario."""
        return self.play(
            self.folder / "playbooks" / playbook,
            *(f"--inventory={path}" for path in (PROJECT / "molecule/shared/inventory", SCENARIO / "inventory")),
            *arguments,
            fleet_inventory_dir=str(self.folder / "inventories/site"),
            pki_ca_dir=str(self.folder / "inventories/site/pki"),
            fleet_edge_ca_path="",
            vault_archive_passphrase=KEY,
            vault_archive_key="molecule-archive-key-of-enough-characters",
        )

    def restore(self, key: str = KEY, **values: str) -> "subprocess.CompletedProcess[str]":
        """Run restore_controller.yml, which has no inventory."""
        given = self.folder.parent / "passphrase"
        given.write_text(key)
        # A new controller has no vault password either.
        (self.folder / ".vault").mkdir(exist_ok=True)
        argv = [
            "ansible-playbook",
            "-e",
            json.dumps({"ops": "10.203.0.177", "user": "debian", "ssh_args": SSH} | values),
        ]
        argv += ["-e", f"passphrase_file={given}", "playbooks/restore_controller.yml"]
        environment = {name: value for name, value in os.environ.items() if name != "ANSIBLE_VAULT_PASSWORD_FILE"}
        environment["ANSIBLE_CONFIG"] = str(self.folder / "ansible.cfg")
        return subprocess.run(
            argv, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120, check=False
        )


def changes(done: "subprocess.CompletedProcess[str]") -> int:
    """Return the number of changed tasks of a run that succeeded."""
    assert done.returncode == 0, done.stdout + done.stderr
    return sum(map(int, re.findall(r"changed=(\d+)", done.stdout)))
