"""Does a host log in the right people, keep its journal and know its time zone?"""

import os
import subprocess
from pathlib import Path

import pytest
from testinfra.host import Host

LAB = f"{os.environ['MOLECULE_PROJECT_DIRECTORY']}/.lab"
ADDRESS = "10.203.0.101"


def ssh(user: str, *command: str, key: bool = True) -> subprocess.CompletedProcess[str]:
    """Log in over the network as an operator would, by key or by anything but a key."""
    options = ["-o", f"UserKnownHostsFile={LAB}/known_hosts/{ADDRESS}", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5"]
    options += ["-i", f"{LAB}/ssh_key", "-o", "IdentitiesOnly=yes"] if key else ["-o", "PubkeyAuthentication=no"]
    return subprocess.run(["ssh", *options, f"{user}@{ADDRESS}", *command], capture_output=True, text=True, check=False)


def test_operator_logs_in_and_becomes_root() -> None:
    """Alex has sudo, Kim has not."""
    assert ssh("alex", "sudo", "-n", "id", "-u").stdout == "0\n"
    assert ssh("kim", "id", "-un").stdout == "kim\n"
    assert ssh("kim", "sudo", "-n", "true").returncode != 0


@pytest.mark.parametrize("user", ["root", "former", "nobody"])
def test_others_do_not_log_in(user: str) -> None:
    """Root, a former operator and system users stay outside, even with a key."""
    assert ssh(user, "true").returncode == 255


def test_passwords_are_not_asked_for() -> None:
    """Without a key the server offers nothing to try."""
    refused = ssh("alex", "true", key=False)
    assert refused.returncode == 255
    assert "Permission denied (publickey)" in refused.stderr


def test_the_machine_keeps_its_address_on_the_labs_network(host: Host) -> None:
    """Its bridge was given one, which is what 3 says; the kernel changes no such address when hosts come and go."""
    route = subprocess.check_output(["ip", "route", "get", ADDRESS], text=True)
    bridge = Path("/sys/class/net") / route.partition(" dev ")[2].split()[0]
    assert (bridge / "addr_assign_type").read_text() == "3\n"
    assert (bridge / "address").read_text().strip() in host.check_output("ip neighbour show 10.203.0.1")


def test_sshd_runs_with_this_scenarios_settings(host: Host) -> None:
    """Asked of sshd's own parser, which knows what wins."""
    effective = host.check_output("/usr/sbin/sshd -T -C user=alex,host=x,addr=10.203.0.1").splitlines()
    for line in ("maxauthtries 2", "permitrootlogin no", "passwordauthentication no", "x11forwarding no"):
        assert line in effective


def test_time_zone_and_packages(host: Host) -> None:
    """The scenario's zone is in effect and its package there."""
    assert host.check_output("date -d 2026-01-15T12:00Z +%H%z") == "14+0200"
    assert host.package("tree").is_installed


def test_journal_is_kept_within_its_limit(host: Host) -> None:
    """Entries are on disk, and journald knows the limit that this scenario set."""
    host.check_output("logger --tag base-test kept && journalctl --flush --sync")
    assert "kept" in host.check_output("journalctl --directory=/var/log/journal -t base-test -o cat")
    assert "max 64M" in host.check_output("journalctl -u systemd-journald -o cat | grep 'System Journal' | tail -1")
