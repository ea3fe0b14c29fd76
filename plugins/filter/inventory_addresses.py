"""Filter: the addresses of the hosts of another inventory."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader

DOCUMENTATION = r"""
name: inventory_addresses
short_description: Returns the addresses of the hosts of another inventory, by group
description:
  - Reads only what its hosts.yml states about each host; group_vars and the vault are not read.
options:
  _input:
    description: Folder of the inventory.
    type: path
    required: true
"""
EXAMPLES = r"""
- name: Print the addresses of the other site's load balancers
  ansible.builtin.debug:
    msg: "{{ ('inventories/dr' | inventory_addresses).edge }}"
"""
RETURN = r"""
_value:
  description: For each group its hosts' names and addresses - fleet_address of a host, or its ansible_host.
  type: dict
"""


@lru_cache
def _read(hosts: Path, changed: float) -> dict[str, dict[str, str]]:
    """Return the addresses by group and host; the time of the last change is a part of the cache's key."""
    return {
        group.name: {
            host.name: str(host.vars.get("fleet_address", host.vars["ansible_host"])) for host in group.get_hosts()
        }
        for group in InventoryManager(loader=DataLoader(), sources=[str(hosts)]).groups.values()
    }


def inventory_addresses(folder: str) -> dict[str, dict[str, str]]:
    """Return the addresses of an inventory's hosts by group and host."""
    hosts = Path(folder) / "hosts.yml"
    try:
        return _read(hosts, hosts.stat().st_mtime)
    except (OSError, KeyError) as error:
        raise AnsibleFilterError(
            f"{hosts} is not the inventory of a site whose hosts have an ansible_host ({error}): correct site_peer in "
            "sites.yml"
        ) from error


class FilterModule:
    """The entry point for Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"inventory_addresses": inventory_addresses}
