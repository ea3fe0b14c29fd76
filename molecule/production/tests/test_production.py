"""Following docs/install.md literally on a bare Debian 13 controller creates a fleet like the production inventory.

The tests run in the order of the page; each depends on those before it.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from scenario import PROJECT, SCENARIO

PAGE = (PROJECT / "docs/install.md").read_text()
# The hosts of inventories/production have other addresses in the lab's network (inventory/hosts.yml).
HOSTS = yaml.safe_load((SCENARIO / "inventory/hosts.yml").read_text())["all"]["children"]["fleet"]["hosts"]
VIP, NAME = "10.203.0.200", "trade.example.com"
CLONE = "/home/alex/tradefleet"
INVENTORY = f"{CLONE}/inventories/production"
# Commands whose effect a later command inherits: the current folder and exported variables.
LASTING = ("cd ", "export ")
TRADER = """app_api_keys:
  - {trader: demo, key: "{{ vault_demo_api_key }}"}"""
MOVE = f"""
import re
from pathlib import Path
for path in Path("{INVENTORY}").rglob("*.yml"):
    text = re.sub(r"192[.]0[.]2[.]([0-9]+)", lambda found: f"10.203.0.{{int(found[1]) + 190}}", path.read_text())
    path.write_text(text)
"""
# The confirmation that an operator would type, and the address that a name server would return.
CONFIRM = """-e "confirm='green 0.2.0'\""""
RESOLVE = f"--resolve {NAME}:443:{VIP}"


def controller(script: str, user: str = "alex", seconds: float = 900, stdin: bytes | None = None) -> str:
    """Run a script on the controller as the operator, with the environment of a login; return its output."""
    argv = ["podman", "exec", "--interactive", "--user", user, "--workdir", f"/home/{user}", "tf-controller"]
    argv += ["env", "-i", f"HOME=/home/{user}", f"USER={user}", "PATH=/usr/local/bin:/usr/bin:/bin", "bash", "-c"]
    done = subprocess.run(
        [*argv, f"set -euo pipefail\n{script}"],
        input=stdin or b"",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=seconds,
        check=False,
    )
    output = done.stdout.decode()
    assert done.returncode == 0, f"{script}\n{output[-6000:]}"
    return output


def commands(section: str, **changes: str) -> list[str]:
    """Return the commands of a section of the page, without comments."""
    [text] = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    found = []
    for line in "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)).splitlines():
        if command := re.sub(r"\s+# .*", "", line).replace("URL", "/home/alex/tradefleet.git"):
            found.append(command + "".join(f" {more}" for word, more in changes.items() if word in command))
    return found


class Session:
    """The lasting commands that the operator has typed so far."""

    def __init__(self) -> None:
        """Start without commands."""
        self.typed: list[str] = []

    def follow(self, section: str, **changes: str) -> str:
        """Type the commands of a section of the page in order; return their output.

        `changes` adds arguments to commands that need them here, by a word of the command.
        """
        return "".join(self.type(command) for command in commands(section, **changes))

    def type(self, command: str) -> str:
        """Run one command after the lasting ones."""
        output = controller("\n".join([*self.typed, command]))
        if command.startswith(LASTING):
            self.typed.append(command)
        assert not re.search(r"\[WARNING\]: .*(parse inventory|Unable to parse)", output), output[-6000:]
        return output


@pytest.fixture(scope="module")
def session() -> Session:
    """Return the operator's session, which all tests share."""
    return Session()


@contextmanager
def meter(ca: Path, key: str, seconds: int) -> Iterator[None]:
    """Send reads and orders through the VIP during the block; none may fail."""
    argv = [sys.executable, "-m", "tools.meter", f"--target={VIP}:443", f"--name={NAME}", f"--ca={ca}"]
    argv += [f"--duration={seconds}", "--rate=30", "--max-failed=0"]
    environment = os.environ | {"TRADEFLEET_API_KEY": key}
    with subprocess.Popen(argv, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as load:
        try:
            yield
            output, _ = load.communicate(timeout=seconds + 60)
        finally:
            load.terminate()
    assert load.returncode == 0, output.decode()


def recap(output: str) -> dict[str, str]:
    """Return the result of the last play for each host."""
    return dict(re.findall(r"^(\S+) +: (ok=.*)$", output[output.rindex("PLAY RECAP") :], re.MULTILINE))


def test_controller(session: Session, tmp_path: Path) -> None:
    """The clone contains the present sources with uncommitted changes, and the virtualenv the newest core."""
    git = ["git", "-C", str(PROJECT)]
    changes = subprocess.run([*git, "stash", "create"], check=True, capture_output=True, text=True).stdout.strip()
    bare = tmp_path / "tradefleet.git"
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", bare], check=True)
    subprocess.run(
        [*git, "push", "--quiet", bare, f"{changes or 'HEAD'}:refs/heads/main"], check=True, capture_output=True
    )
    tar = subprocess.run(["tar", "-C", tmp_path, "-c", bare.name], check=True, capture_output=True).stdout
    controller("tar -x", stdin=tar)
    session.follow("The controller")
    assert re.search(r"core 2\.21\.\d+", session.type("ansible --version"))


def test_core(session: Session) -> None:
    """The parts of the repository that depend on Ansible work with this Python and the newest core."""
    names = ("unit/test_begin", "unit/test_vault", "repo/test_limits", "repo/test_supply")
    session.type("pytest -q " + " ".join(f"tests/{name}.py" for name in names))


@pytest.mark.thorough
def test_lint_and_units(session: Session) -> None:
    """All of the repository does."""
    session.type("make lint")
    session.type("pytest -q tests/unit tests/repo tests/templates -m 'not thorough'")


def test_inventory(session: Session) -> None:
    """It is the shipped inventory with the addresses of this network and a trader; no other value is changed."""
    session.type(f"python3 -c {shlex.quote(MOVE)}")
    session.type(f"echo {shlex.quote(TRADER)} >> {INVENTORY}/group_vars/all/fleet.yml")
    for host in HOSTS.values():
        session.type(f"ssh -o StrictHostKeyChecking=accept-new deploy@{host['ansible_host']} true")
    assert session.follow("The inventory").count("uid=0(root)") == len(HOSTS)


def test_secrets(session: Session) -> None:
    """The vault is new, and only its password decrypts it."""
    assert "vault_demo_api_key" in session.follow("Secrets")


def test_first_run(session: Session, tmp_path: Path) -> None:
    """It uses the stock strategy, approval and soak; the cutover loses no request."""
    ca = tmp_path / "ca.crt"
    output = ""
    for command in commands("The first run", **{"deploy.yml": CONFIRM, "cutover.yml": CONFIRM, "curl": RESOLVE}):
        if "cutover.yml" in command:
            ca.write_text(controller(f"cat {INVENTORY}/pki/ca.crt"))
            vault = session.type("ansible-vault view inventories/production/group_vars/all/vault.yml")
            with meter(ca, dict(re.findall(r"^(\w+): \"?([^\"\n]*)", vault, re.MULTILINE))["vault_demo_api_key"], 80):
                session.type(command)
        elif "--limit" not in command:  # an example with a dead host
            output = session.type(command)
        if "status.yml" in command:
            assert re.search(r"\blb-1 .*live=green", output), output
    assert '"color":"green"' in output.replace(" ", "")


@pytest.mark.thorough
def test_second_run(session: Session) -> None:
    """It changes nothing with the stock strategy either; the fleet's tests use the lab's own."""
    again = session.type("ansible-playbook -i inventories/production playbooks/site.yml")
    assert {
        host: found for host, found in recap(again).items() if "changed=0 " not in found or "failed=0 " not in found
    } == {}
