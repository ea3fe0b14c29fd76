"""Does the controller archive and prune on a schedule, as root or as another user, with the operator's command?"""

import subprocess
import sys
from pathlib import Path

import pytest
from archives import CLIENT, Checkout, changes, moved
from scenario import PROJECT, SCENARIO
from testinfra.backend.base import CommandResult

PROGRAM = Path(sys.executable).parent / "ansible-playbook"
# Records how it was called, and ends as the test requests.
STUB = """#!/bin/sh
(pwd; echo "$ANSIBLE_CONFIG"; echo "$ANSIBLE_VAULT_PASSWORD_FILE"; printf '%s\\n' "$@") > "$HOME/called"
exit "$(cat "$HOME/status" 2> /dev/null || echo 0)"
"""
HOMES = {"root": "/root", "debian": "/home/debian"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A folder of the same name on this machine, where Ansible runs, and on the host that is the controller."""
    found = Checkout(tmp_path_factory.mktemp("controller") / "check out $1")
    found.fill()
    CLIENT.check_output("apt-get install --yes --no-install-recommends libpam-systemd")
    CLIENT.check_output("loginctl disable-linger root debian")
    CLIENT.check_output("mkdir -p %s %s", str(PROGRAM.parent), str(found.folder))
    CLIENT.check_output("printf %%s %s > %s && chmod 0755 %s", STUB, str(PROGRAM), str(PROGRAM))
    return found


def schedule(checkout: Checkout, user: str, **values: str) -> "subprocess.CompletedProcess[str]":
    """Run the playbook as a user of the controller."""
    become = ["--become"] if user == "root" else []
    extra = [f"--extra-vars={name}={value}" for name, value in values.items()]
    return checkout.archive(*become, *extra, playbook="schedule.yml")


def session(user: str, command: str) -> CommandResult:
    """Run a command with the user's service manager."""
    return CLIENT.run(f"runuser -u {user} -- env XDG_RUNTIME_DIR=/run/user/$(id -u {user}) {command}")


@pytest.mark.parametrize("user", ["debian", pytest.param("root", marks=pytest.mark.thorough)])
def test_timers_run_the_playbooks_of_the_operator(checkout: Checkout, user: str) -> None:
    """Also while nobody is logged in. A second run changes nothing; a run that failed does not stop the next one."""
    if user != "root":
        refused = schedule(checkout, user)
        assert refused.returncode != 0
        assert f"Run `sudo loginctl enable-linger {user}`, and repeat" in " ".join(refused.stdout.split())
        CLIENT.check_output(f"loginctl enable-linger {user}")
    assert changes(schedule(checkout, user)) > 0
    assert changes(schedule(checkout, user)) == 0
    units = [f"tradefleet-site-{job}" for job in ("archive", "prune")]
    files = [f"{HOMES[user]}/.config/systemd/user/{name}.{kind}" for name in units for kind in ("service", "timer")]
    assert session(user, f"systemd-analyze --user verify {' '.join(files)}").rc == 0
    for name, playbook in zip(units, ("archive", "prune_archives"), strict=True):
        assert session(user, f"systemctl --user is-active {name}.timer").stdout == "active\n"
        assert session(user, f"systemctl --user is-enabled {name}.timer").stdout == "enabled\n"
        CLIENT.check_output(f"echo 2 > {HOMES[user]}/status")
        assert session(user, f"systemctl --user start {name}.service").rc != 0
        CLIENT.check_output(f"rm {HOMES[user]}/status")
        assert session(user, f"systemctl --user start {name}.service").rc == 0
        assert CLIENT.check_output(f"cat {HOMES[user]}/called").splitlines() == [
            str(checkout.folder),
            f"{checkout.folder}/ansible.cfg",
            f"{checkout.folder}/.vault/site",
            *("-i", f"{PROJECT}/molecule/shared/inventory", "-i", f"{SCENARIO}/inventory"),
            f"playbooks/{playbook}.yml",
        ]


def test_controller_without_systemd_or_password_file_is_refused(checkout: Checkout) -> None:
    """The message has the commands for another scheduler."""
    with moved(CLIENT, "/run/systemd/system"):
        refused = " ".join(schedule(checkout, "root").stdout.split())
    assert "This controller does not run systemd" in refused
    assert f"{PROGRAM} -i {PROJECT}/molecule/shared/inventory -i {SCENARIO}/inventory playbooks/archive.yml" in refused
    refused = " ".join(schedule(checkout, "root", controller_password_file="").stdout.split())
    assert "export ANSIBLE_VAULT_PASSWORD_FILE=" in refused
