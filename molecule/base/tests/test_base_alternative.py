"""Does every variable take effect on a host that prepare.yml left as clouds and people do?"""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import scenario
import testinfra

HOST = testinfra.get_host("podman://tf-base2")
LAB = f"{os.environ['MOLECULE_PROJECT_DIRECTORY']}/.lab"
ADDRESS, PORT = "10.203.0.160", 2222


def ssh(user: str, *command: str, wrong_keys: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Log in over the network on this host's port, offering unknown keys before the right one."""
    options = ["-p", str(PORT), "-o", f"UserKnownHostsFile={LAB}/known_hosts/{ADDRESS}", "-o", "BatchMode=yes"]
    options += ["-o", "ConnectTimeout=5", "-o", "IdentityAgent=none", "-o", "IdentitiesOnly=yes"]
    for key in (*wrong_keys, f"{LAB}/ssh_key"):
        options += ["-i", str(key)]
    return subprocess.run(["ssh", *options, f"{user}@{ADDRESS}", *command], capture_output=True, text=True, check=False)


def test_operators_log_in_on_this_port() -> None:
    """One of the two keys is enough; the operator has no sudo."""
    assert ssh("robin", "id", "-un").stdout == "robin\n"
    assert ssh("robin", "sudo", "-n", "true").returncode == 1
    assert len(HOST.check_output("grep ssh- /home/robin/.ssh/authorized_keys").splitlines()) == 2


def test_operator_without_keys_has_an_account_but_cannot_log_in() -> None:
    """The account has its permissions already."""
    assert ssh("on-leave", "true").returncode == 255
    assert HOST.check_output("runuser -u on-leave -- sudo -n id -u") == "0"


def test_configured_number_of_keys_may_be_tried(tmp_path: Path) -> None:
    """Three wrong keys and the right one are four attempts."""
    keys = tuple(tmp_path / str(number) for number in range(4))
    for key in keys:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    assert ssh("robin", "true", wrong_keys=keys[:3]).returncode == 0
    refused = ssh("robin", "true", wrong_keys=keys)
    assert refused.returncode == 255
    assert "Too many authentication failures" in refused.stderr


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Return the environment of a German laptop whose agent offers three other keys before the right one."""
    started = subprocess.run(
        ["ssh-agent", "-s", "-a", str(tmp_path / "agent")], capture_output=True, text=True, check=True
    )
    environment = os.environ | {
        "SSH_AUTH_SOCK": str(tmp_path / "agent"),
        "LANG": "de_DE.UTF-8",
        "LC_ALL": "de_DE.UTF-8",
    }
    for name in ("1", "2", "3"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
        subprocess.run(["ssh-add", "-q", str(tmp_path / name)], env=environment, check=True)
    subprocess.run(["ssh-add", "-q", f"{LAB}/ssh_key"], env=environment, check=True)
    yield environment
    subprocess.run(["kill", started.stdout.partition("pid ")[2].split(";")[0]], check=True)


def agent_login(environment: dict[str, str], command: str) -> subprocess.CompletedProcess[str]:
    """Log in with the keys of the agent."""
    options = [
        "-F",
        "none",
        "-p",
        str(PORT),
        "-o",
        f"UserKnownHostsFile={LAB}/known_hosts/{ADDRESS}",
        "-o",
        "BatchMode=yes",
    ]
    options += ["-o", "SendEnv=LANG", "-o", "SendEnv=LC_ALL"]
    argv = ["ssh", *options, f"robin@{ADDRESS}", command]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=30, check=False)


def test_sessions_have_a_locale_that_the_host_has(agent: dict[str, str]) -> None:
    """This holds whatever the laptop sends: a Perl program would print a warning otherwise."""
    session = agent_login(agent, "perl -e 'print 1'; echo $LANG $LC_ALL")
    assert (session.stdout, session.stderr) == ("1C.UTF-8 C.UTF-8\n", "")


def test_configuration_that_locks_ansible_out_is_undone(agent: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent's fourth key is the right one, after three attempts: the run fails, and the host returns to four."""
    monkeypatch.setenv("SSH_AUTH_SOCK", agent["SSH_AUTH_SOCK"])
    common = f"-F none -o UserKnownHostsFile={LAB}/known_hosts/%h"
    options = [
        "--limit",
        "base2",
        "-e",
        f'{{"ansible_ssh_private_key_file": "", "ansible_ssh_common_args": "{common}"}}',
    ]
    # The port that Ansible uses, or the role would also try the other one.
    stopped = scenario.converge(*options, "-e", "base_ssh_max_auth_tries=3", "-e", "base_ssh_port=22", check=False)
    unit = "sshd-undo.service"
    HOST.check_output(f"systemctl is-active sshd-undo.timer && systemctl start {unit}")
    HOST.check_output(f"while systemctl --quiet is-active {unit}; do sleep 0.1; done; sleep 1")
    assert "offers more than 3 keys (base_ssh_max_auth_tries)" in " ".join(stopped.stdout.split())
    assert agent_login(agent, "id -un").stdout == "robin\n"


def test_keys_are_read_from_one_file_only(tmp_path: Path) -> None:
    """A second file, which OpenSSH reads by default, was left behind."""
    key = tmp_path / "forgotten"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    line = key.with_suffix(".pub").read_text().strip()
    forgotten = "/home/robin/.ssh/authorized_keys2"
    HOST.check_output(f"install -o robin -m 0600 /dev/null {forgotten} && echo {line} > {forgotten}")
    options = [
        "-p",
        str(PORT),
        "-o",
        f"UserKnownHostsFile={LAB}/known_hosts/{ADDRESS}",
        "-o",
        "BatchMode=yes",
        "-o",
        "IdentityAgent=none",
    ]
    argv = ["ssh", *options, "-o", "IdentitiesOnly=yes", "-i", str(key), f"robin@{ADDRESS}", "true"]
    refused = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert "Permission denied (publickey)" in refused.stderr


def test_passwords_and_settings_of_a_later_file_have_no_effect() -> None:
    """50-cloud-init.conf allows passwords, but comes later."""
    effective = HOST.check_output("/usr/sbin/sshd -T -C user=robin,host=x,addr=10.203.0.1").splitlines()
    assert "passwordauthentication no" in effective
    assert HOST.check_output("getent shadow robin | cut -d: -f2") == "!"


def test_settings_that_another_file_overrides_stop_the_role() -> None:
    """The message names the setting, and how to find it."""
    HOST.check_output("echo 'PermitRootLogin yes' > /etc/ssh/sshd_config.d/01-provider.conf")
    try:
        output = " ".join(scenario.converge("--limit", "base2", check=False).stdout.split())
        assert (
            "sshd on base2 does not apply permitrootlogin no from /etc/ssh/sshd_config.d/10-tradefleet.conf" in output
        )
        assert "`grep -rni permitrootlogin /etc/ssh`" in output
    finally:
        HOST.check_output("rm /etc/ssh/sshd_config.d/01-provider.conf")


def test_time_zone_and_packages() -> None:
    """The zone is in effect, and the package is installed."""
    assert HOST.check_output("date -d 2026-01-15T12:00Z +%H:%M%z") == "17:30+0530"
    assert HOST.check_output("echo 6 '*' 7 | bc") == "42"


def test_journal_has_the_configured_retention_and_size() -> None:
    """Entries that are three hours old are dropped, and those that are one hour old stay."""
    assert "max 128M" in HOST.check_output("journalctl -u systemd-journald -o cat | grep 'System Journal' | tail -1")
    archived = "ls -t /var/log/journal/*/system@*.journal | head -1"
    for hours in (3, 1):
        HOST.check_output(f"logger --tag base-test {hours} hours old && journalctl --sync && journalctl --rotate")
        HOST.check_output(f"touch --date='{hours} hours ago' $({archived})")
    HOST.check_output("journalctl --rotate")
    kept = HOST.check_output("journalctl --directory=/var/log/journal -t base-test -o cat")
    assert set(kept.splitlines()) == {"1 hours old"}


def test_silent_client_is_disconnected() -> None:
    """This happens after a little more than two seconds; the default is twenty."""
    with socket.create_connection((ADDRESS, PORT), timeout=15) as session:
        began = time.monotonic()
        while session.recv(999):
            pass
        assert time.monotonic() - began > 1
