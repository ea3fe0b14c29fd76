"""Is a lost controller restored from ops, and a lost ops host rebuilt, while clients are served?"""

import json
import os
import shutil
import subprocess
import threading
import time
import uuid
from pathlib import Path

import pytest
from clients import Api, secret
from inside import on
from lab import ADDRESSES, LAB, PROJECT, changes, play, wait

pytestmark = pytest.mark.thorough
OPS = ADDRESSES["ops1"]


def run(checkout: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run ansible-playbook in another checkout, with its own configuration and vault password."""
    environment = os.environ | {
        "ANSIBLE_CONFIG": str(checkout / "ansible.cfg"),
        "ANSIBLE_STRATEGY_PLUGINS": str(checkout / ".config/strategy"),
    }
    environment.pop("ANSIBLE_VAULT_PASSWORD_FILE", None)
    if (checkout / ".vault/lab").exists():
        environment["ANSIBLE_VAULT_PASSWORD_FILE"] = str(checkout / ".vault/lab")
    argv = ["ansible-playbook", *arguments]
    done = subprocess.run(argv, cwd=checkout, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done


def test_lost_controller_is_restored_and_changes_nothing(tmp_path: Path) -> None:
    """The new one has a clone, the SSH key of its operator, and the passphrase."""
    play("archive")
    given = tmp_path / "passphrase"
    given.write_text(secret("vault_archive_passphrase"))
    checkout = tmp_path / "checkout"
    subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(checkout)], check=True)
    (checkout / ".lab").mkdir(mode=0o700)
    shutil.copytree(LAB / "known_hosts", checkout / ".lab/known_hosts")
    shutil.copy(LAB / "ssh_key", checkout / ".lab/ssh_key")
    ssh = f"-i {checkout}/.lab/ssh_key -o UserKnownHostsFile={checkout}/.lab/known_hosts/{OPS} -o IdentitiesOnly=yes"
    inputs = {"ops": OPS, "user": "debian", "ssh_args": ssh, "passphrase_file": str(given)}
    start = time.monotonic()
    run(checkout, "-e", json.dumps(inputs), "playbooks/restore_controller.yml")
    print(f"controller restored in {time.monotonic() - start:.0f} s")
    for name in (".vault/lab", ".lab/ca.key", "inventories/lab/group_vars/all/vault.yml"):
        assert (checkout / name).read_bytes() == (PROJECT / name).read_bytes()
    site = ("-i", "inventories/lab", "playbooks/site.yml")
    assert changes(run(checkout, *site, "--check")) == []
    assert changes(run(checkout, *site)) == []
    print(f"site.yml changed nothing after {time.monotonic() - start:.0f} s")


def test_lost_ops_host_is_rebuilt_while_clients_are_served(api: Api) -> None:
    """It has a new journal and new repositories; orders are acknowledged throughout, and archives arrive again."""
    refused: list[int] = []
    placed: list[int] = []
    done = threading.Event()

    def place() -> None:
        while not done.wait(0.1):
            status = api.order(uuid.uuid4().hex).status
            (placed if status == 201 else refused).append(status)

    thread = threading.Thread(target=place)
    thread.start()
    try:
        wait(lambda: len(placed) > 10, 30, "orders are placed")
        start = time.monotonic()
        for playbook in ("destroy", "create"):
            run(PROJECT, "-i", "inventories/lab", "--limit=ops1,localhost", f"molecule/shared/{playbook}.yml")
        play("site")
        print(f"ops1 rebuilt in {time.monotonic() - start:.0f} s")
    finally:
        done.set()
        thread.join()
    assert refused == []
    for host in ("ops1", "data1", "data2", "data3"):
        # The timer of the next hour does the same.
        on(host, "systemctl start tradefleet-archive@store")
        assert json.loads(on(host, "tradefleet-archive report"))["problems"] == []
    assert on("ops1", "ls /var/lib/tradefleet-archives").split() == ["controller", "data1", "data2", "data3", "ops1"]
    assert changes(play("site")) == []
