"""Copies of the repository's inventories, changed for a test, and preflight's mistakes in them."""

import re
import shutil
from pathlib import Path
from typing import Any

import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.utils.collection_loader import AnsibleCollectionConfig
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager
from preflight import Fleet, Variables
from repository import PROJECT, SECRETS, ansible

# Keys must be at least this long.
FILLER = "not-a-secret-not-a-secret-not-a-secret"
INVENTORIES = sorted(path.parent.name for path in PROJECT.glob("inventories/*/hosts.yml"))


def inventory(folder: Path, name: str, secrets: list[str] = SECRETS) -> Path:
    """Copy an environment with a plain-text vault instead of its own."""
    copy = folder / name
    shutil.copytree(PROJECT / "inventories" / name, copy, ignore=shutil.ignore_patterns("vault.yml"))
    # docs/install.md lets the operator create this file.
    (copy / "files").mkdir(exist_ok=True)
    (copy / "files/deploy.pub").write_text("ssh-ed25519 AAAA operator\n")
    write(copy / "group_vars/all/vault.yml", dict.fromkeys(secrets, FILLER))
    return copy


def unreachable_lab(folder: Path) -> Path:
    """Copy the lab with unreachable addresses (RFC 5737) and a release on either color."""
    copy = inventory(folder, "lab")
    hosts = copy / "hosts.yml"
    hosts.write_text(hosts.read_text().replace("10.203.0.", "192.0.2."))
    record_traffic(copy)
    return copy


def write(path: Path, content: Any) -> None:
    """Write YAML."""
    path.write_text(yaml.safe_dump(content))


def change(path: Path, **values: Any) -> None:
    """Change variables in a YAML file; None removes one."""
    content = yaml.safe_load(path.read_text()) | values
    write(path, {name: value for name, value in content.items() if value is not None})


def record_traffic(copy: Path, live: str = "blue", blue: str = "0.1.0", green: str = "0.1.0", canary: Any = 0) -> None:
    """Record traffic and releases in traffic.yml."""
    content = {"traffic_live_color": live, "release_blue": blue, "release_green": green}
    content["traffic_canary_percent"] = canary
    write(copy / "group_vars/all/traffic.yml", content)


def change_groups(copy: Path, change: Any) -> None:
    """Change the groups of an inventory."""
    hosts = yaml.safe_load((copy / "hosts.yml").read_text())
    change(hosts["all"]["children"])
    write(copy / "hosts.yml", hosts)


def parsed(copy: Path) -> Fleet:
    """Return groups and hosts of an inventory as Ansible reads them, with the wiring, in this process."""
    if AnsibleCollectionConfig.collection_finder is None:
        init_plugin_loader([])
    loader = DataLoader()
    loader.set_basedir(str(PROJECT / "playbooks"))
    parsed = InventoryManager(loader=loader, sources=[str(copy / "hosts.yml")])
    hostvars = HostVars(parsed, VariableManager(loader=loader, inventory=parsed), loader)
    groups = {name: [str(host) for host in hosts] for name, hosts in parsed.get_groups_dict().items()}
    return Fleet(inventory=copy, groups=groups, hosts={host: Variables(hostvars, host) for host in groups["all"]})


def refusal(copy: Path, playbook: str, **extra: str) -> str:
    """Run a playbook, assert that preflight ends it and that no host was contacted, and return the output."""
    options = [f"-e{key}={value}" for key, value in extra.items()]
    done = ansible("ansible-playbook", "-i", str(copy), f"playbooks/{playbook}.yml", *options)
    output = done.stdout + done.stderr
    assert done.returncode == 2, output
    last = re.findall(r"^(?:TASK|PLAY) \[([^\]]*)\]", done.stdout, re.MULTILINE)[-1]
    assert last == "Fail if an input is wrong", output
    recap = re.findall(r"^(\S+) +: ok=\d+ +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", done.stdout, re.MULTILINE)
    assert recap == [("localhost", "0", "0", "1")], output
    return " ".join(output.split())
