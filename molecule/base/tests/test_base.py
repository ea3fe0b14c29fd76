"""Does a host admit the right people, keep its journal and use its time zone?"""

import os
import subprocess
from pathlib import Path

import pytest
from testinfra.host import Host

LAB = f"{os.environ['MOLECULE_PROJECT_DIRECTORY']}/.lab"
ADDRESS = "10.203.0.101"


def ssh(user: str, *command: str, key: bool = True) -> subprocess.CompletedProcess[str]:
    """Log in over the network as an operator would, with the key or with anything but a key."""
    options = ["-o", f"UserKnownHostsFile={LAB}/known_hosts/{ADDRESS}", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5"]
    options += ["-i", f"{LAB}/ssh_key", "-o", "IdentitiesOnly=yes"] if key else ["-o", "PubkeyAuthentication=no"]
    return subprocess.run(["ssh", *options, f"{user}@{ADDRESS}", *command], capture_output=True, text=True, check=False)


def test_operator_logs_in_and_becomes_root() -> None:
    """Alex has sudo, Kim does not."""
    assert ssh("alex", "sudo", "-n", "id", "-u").stdout == "0\n"
    assert ssh("kim", "id", "-un").stdout == "kim\n"
    assert ssh("kim", "sudo", "-n", "true").returncode != 0


@pytest.mark.parametrize("user", ["root", "former", "nobody"])
def test_others_do_not_log_in(user: str) -> None:
    """Root, a former operator and system users cannot log in, even with a key."""
    assert ssh(user, "true").returncode == 255


def test_passwords_are_not_requested() -> None:
    """Without a key the server offers no method."""
    refused = ssh("alex", "true", key=False)
    assert refused.returncode == 255
    assert "Permission denied (publickey)" in refused.stderr


def test_bridge_of_the_lab_network_keeps_its_address(host: Host) -> None:
    """The type 3 means that the address was set; the kernel does not change it when hosts are added or removed."""
    route = subprocess.check_output(["ip", "route", "get", ADDRESS], text=True)
    bridge = Path("/sys/class/net") / route.partition(" dev ")[2].split()[0]
    assert (bridge / "addr_assign_type").read_text() == "3\n"
    assert (bridge / "address").read_text().strip() in host.check_output("ip neighbour show 10.203.0.1")


def test_sshd_runs_with_this_scenarios_settings(host: Host) -> None:
    """sshd's own parser applies the precedence of files."""
    effective = host.check_output("/usr/sbin/sshd -T -C user=alex,host=x,addr=10.203.0.1").splitlines()
    for line in ("maxauthtries 2", "permitrootlogin no", "passwordauthentication no", "x11forwarding no"):
        assert line in effective


def test_time_zone_and_packages(host: Host) -> None:
    """The scenario's zone is in effect, and its package is installed."""
    assert host.check_output("date -d 2026-01-15T12:00Z +%H%z") == "14+0200"
    assert host.package("tree").is_installed


def test_journal_is_kept_within_its_limit(host: Host) -> None:
    """Entries are on disk, and journald reports the limit of this scenario."""
    host.check_output("logger --tag base-test kept && journalctl --flush --sync")
    assert "kept" in host.check_output("journalctl --directory=/var/log/journal -t base-test -o cat")
    assert "max 64M" in host.check_output("journalctl -u systemd-journald -o cat | grep 'System Journal' | tail -1")
