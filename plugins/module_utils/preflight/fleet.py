"""What the rules of preflight examine: the inventory, and what a playbook is about to do with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

Host = Mapping[str, Any]


@dataclass(frozen=True)
class Fleet:
    """Groups and hosts of an inventory, the state that traffic.yml records, and the inputs of one playbook."""

    inventory: Path
    groups: Mapping[str, list[str]]
    hosts: Mapping[str, Host]
    # Whether the inventory is that of a role's scenario, whose values are not checked.
    scenario: bool = False
    # What traffic.yml records.
    live: str = ""
    canary: Any = 0
    releases: Mapping[str, str] = field(default_factory=dict)
    # Whether the failure of a host must not stop the site.
    redundant: bool = True
    # What the wiring states.
    colors: tuple[str, ...] = ("blue", "green")
    release_pattern: str = ".+"
    # The name of the playbook, the color and release that it uses, and how many hosts of the color it drains at a time.
    playbook: str = ""
    color: str = ""
    release: str = ""
    batch: Any = ""
    needs_release: bool = False
    one_release: bool = False
    # What the operator typed, or set in releases.yml.
    percent: Any = None
    maintenance: Any = ""
    canary_steps: Any = None
    # Names of the secrets that the wiring reads, and of the variables that the vault contains.
    secrets: tuple[str, ...] = ()
    vault: tuple[str, ...] = ()
    vip: str = ""
    acme_directory: str = ""
    acme_email: str = ""
    # Where archives of releases are on the controller, and the Python version of the hosts.
    release_dir: Path = Path("dist")
    python: str = ""

    @property
    def variables(self) -> Path:
        """Return the folder of the variables that all hosts share."""
        return self.inventory / "group_vars/all"

    @property
    def idle(self) -> str:
        """Return the color that traffic.yml does not call live."""
        return next(color for color in self.colors if color != self.live)

    def of(self, group: str) -> list[str]:
        """Return the hosts of a group, which need not exist."""
        return list(self.groups.get(group) or [])

    def values(self, group: str, name: str, default: Any = None) -> list[Any]:
        """Return a variable of each host of a group."""
        return [self.value(host, name, default) for host in self.of(group)]

    def value(self, host: str, name: str, default: Any = None) -> Any:
        """Return a variable of a host. One that refers to nothing counts as not set; values.py reports it."""
        try:
            return self.hosts[host].get(name, default)
        except AnsibleError:
            return default

    def address(self, host: str) -> str:
        """Return the address at which the others reach a host, or nothing if the inventory states none."""
        return str(self.value(host, "fleet_address", ""))  # a template that reads ansible_host


class Variables(Host):
    """A host's variables, templated on access; Ansible's own view of another host lacks `hostvars`."""

    def __init__(self, hostvars: Any, host: str) -> None:
        """Use the variables that Ansible has for the host."""
        self._raw = dict(hostvars.raw_get(host)) | {"hostvars": hostvars}
        self._templar = Templar(loader=DataLoader(), variables=self._raw)

    def __getitem__(self, name: str) -> Any:
        """Return a value as the host has it."""
        return self._templar.template(self._raw[name])

    def __contains__(self, name: object) -> bool:
        """Return whether the host has a variable, even one that refers to nothing."""
        return name in self._raw

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._raw)

    def __len__(self) -> int:
        """Return the number of variables."""
        return len(self._raw)


def number(value: Any) -> int:
    """Return the whole number that a value means; text that is not a number means 0."""
    try:
        return int(float(str(value).strip()))
    except (ValueError, OverflowError):
        return 0


def listed(values: Any) -> str:
    """Return values as an enumeration."""
    return ", ".join(map(str, values))
