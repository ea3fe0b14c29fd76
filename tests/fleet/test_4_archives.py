"""Is a lost controller restored from ops, and a lost ops or data host rebuilt, while clients are served?"""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from clients import Api, secret
from inside import on
from lab import ADDRESSES, DATA, LAB, PROJECT, changes, leader, measured, play, sql, wait
from ordering import ordering

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
    measured(f"controller restored in {time.monotonic() - start:.0f} s")
    for name in (".vault/lab", ".lab/ca.key", "inventories/lab/group_vars/all/vault.yml"):
        assert (checkout / name).read_bytes() == (PROJECT / name).read_bytes()
    site = ("-i", "inventories/lab", "playbooks/site.yml")
    assert changes(run(checkout, *site, "--check")) == []
    assert changes(run(checkout, *site)) == []
    measured(f"site.yml changed nothing after {time.monotonic() - start:.0f} s")


def rebuild(host: str) -> None:
    """Replace a host by an empty one with the same name and address."""
    for playbook in ("destroy", "create"):
        run(PROJECT, "-i", "inventories/lab", f"--limit={host},localhost", f"molecule/shared/{playbook}.yml")


def test_lost_ops_host_is_rebuilt_while_clients_are_served(api: Api) -> None:
    """It has a new journal and new repositories; orders are acknowledged throughout, and archives arrive again."""
    with ordering(api) as (_, refused):
        start = time.monotonic()
        rebuild("ops1")
        play("site")
        measured(f"ops1 rebuilt in {time.monotonic() - start:.0f} s; {len(refused)} orders failed")
    assert refused == []
    for host in ("ops1", *DATA):
        # The timer of the next hour does the same.
        on(host, "systemctl start tradefleet-archive@store")
        assert json.loads(on(host, "tradefleet-archive report"))["problems"] == []
    assert on("ops1", "ls /var/lib/tradefleet-archives").split() == ["controller", *DATA, "ops1"]
    assert changes(play("site")) == []


def test_lost_data_host_is_rebuilt_while_clients_are_served(api: Api) -> None:
    """It is the leader's. The steps are those of docs/runbooks/data-lost.md."""
    lost = leader()
    with ordering(api) as (placed, refused):
        start = time.monotonic()
        rebuild(lost)
        play("replace_etcd_member", member=lost)
        play("site")
        measured(f"{lost} rebuilt in {time.monotonic() - start:.0f} s; {len(refused)} of {len(placed)} orders failed")
    assert {order for _, order in placed} - set(sql(leader(), "SELECT id FROM orders").split()) == set()
    wait(lambda: sql(lost, "SELECT pg_is_in_recovery()") == "t", 60, "the rebuilt member follows")
    streams = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
    wait(lambda: sql(leader(), streams) == "2", 60, "both replicas stream")
    assert changes(play("site")) == []
