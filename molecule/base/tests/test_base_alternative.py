"""Does every variable have its effect: a host with none of the defaults, asked from outside?"""

import os
import socket
import subprocess
import time
from pathlib import Path

import testinfra

HOST = testinfra.get_host("podman://tf-base2")
LAB = f"{os.environ['MOLECULE_PROJECT_DIRECTORY']}/.lab"
ADDRESS, PORT = "10.203.0.160", 2222


def ssh(user: str, *command: str, wrong_keys: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Log in over the network, on this host's port, with keys that it does not know before the right one."""
    options = ["-p", str(PORT), "-o", f"UserKnownHostsFile={LAB}/known_hosts/{ADDRESS}", "-o", "BatchMode=yes"]
    options += ["-o", "ConnectTimeout=5", "-o", "IdentityAgent=none", "-o", "IdentitiesOnly=yes"]
    for key in (*wrong_keys, f"{LAB}/ssh_key"):
        options += ["-i", str(key)]
    return subprocess.run(["ssh", *options, f"{user}@{ADDRESS}", *command], capture_output=True, text=True, check=False)


def test_operators_log_in_on_this_port() -> None:
    """With one key of two, and without sudo."""
    assert ssh("robin", "id", "-un").stdout == "robin\n"
    assert ssh("robin", "sudo", "-n", "true").returncode == 1
    assert len(HOST.check_output("grep ssh- /home/robin/.ssh/authorized_keys").splitlines()) == 2


def test_an_operator_without_keys_has_an_account_and_no_way_in() -> None:
    """Its rights wait for its keys."""
    assert ssh("on-leave", "true").returncode == 255
    assert HOST.check_output("runuser -u on-leave -- sudo -n id -u") == "0"


def test_so_many_keys_may_be_tried(tmp_path: Path) -> None:
    """Three wrong ones and the right one are four tries."""
    keys = tuple(tmp_path / str(number) for number in range(4))
    for key in keys:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    assert ssh("robin", "true", wrong_keys=keys[:3]).returncode == 0
    refused = ssh("robin", "true", wrong_keys=keys)
    assert refused.returncode == 255
    assert "Too many authentication failures" in refused.stderr


def test_time_zone_and_packages() -> None:
    """The zone is in effect, and the package there."""
    assert HOST.check_output("date -d 2026-01-15T12:00Z +%H:%M%z") == "17:30+0530"
    assert HOST.check_output("echo 6 '*' 7 | bc") == "42"


def test_journal_is_kept_for_as_long_and_as_large_as_told() -> None:
    """What is three hours old goes, what is one hour old stays."""
    assert "max 128M" in HOST.check_output("journalctl -u systemd-journald -o cat | grep 'System Journal' | tail -1")
    archived = "ls -t /var/log/journal/*/system@*.journal | head -1"
    for hours in (3, 1):
        HOST.check_output(f"logger --tag base-test {hours} hours old && journalctl --sync && journalctl --rotate")
        HOST.check_output(f"touch --date='{hours} hours ago' $({archived})")
    HOST.check_output("journalctl --rotate")
    kept = HOST.check_output("journalctl --directory=/var/log/journal -t base-test -o cat")
    assert set(kept.splitlines()) == {"1 hours old"}


def test_who_says_nothing_is_disconnected() -> None:
    """After two seconds and a little; by default after twenty."""
    with socket.create_connection((ADDRESS, PORT), timeout=15) as session:
        began = time.monotonic()
        while session.recv(999):
            pass
        assert time.monotonic() - began > 1
