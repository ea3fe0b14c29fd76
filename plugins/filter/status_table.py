"""Filter: a table of what runs where, with a warning for each difference from the inventory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

# Ansible loads a plugin by its path, but Python finds a package that several modules share only in sys.path.
sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from status import SERVICES, Host, Lines, Stated, nested, text

DOCUMENTATION = r"""
name: status_table
short_description: Renders the results of the procedure status
description:
  - Each host has a line that begins with its name, for scripts. Warnings follow, each with what to type.
  - A host or service that returned nothing is part of the answer, not an error.
positional: stated
options:
  _input:
    description: Variables of all hosts, with the registers of the procedure status and of the entry points status.
    type: dict
    required: true
  stated:
    description: What the inventory states (playbooks/procedures/status/vars/main.yml).
    type: dict
    required: true
"""
EXAMPLES = r"""
- name: Print the table
  ansible.builtin.debug:
    msg: "{{ hostvars | status_table(__status_stated) }}"
"""
RETURN = r"""
_value:
  description: The table.
  type: str
"""

# Groups that do not describe a host's services.
SILENT = ("app", "preflight_needed")


def one(host: str, on: Host, stated: Stated) -> Lines:
    """Yield the cells of a host, and its warnings."""
    systemd = nested(on, "__status_systemd", "stdout")
    if systemd is None:
        yield "cell", "unreachable"
        yield "warning", f"{host} is unreachable over SSH"
        return
    for group, service in SERVICES.items():
        if group in on["group_names"]:
            yield from service(host, on, stated)
    if systemd != "running":
        yield "warning", f"{host}: systemd reports {systemd} (systemctl --failed)"


def fleet(hostvars: Mapping[str, Host], stated: Stated) -> Iterator[str]:
    """Yield the warnings about all hosts together: one has the virtual IP, and PostgreSQL has one leader."""
    vips = [host for host in stated.groups.get("edge") or [] if text(hostvars[host], "__status_vip", "stdout")]
    if len(vips) != 1:
        yield f"{stated.vip} is on {' and '.join(vips) or 'no load balancer'}"
    leaders = {
        member["name"]
        for host in stated.groups.get("postgres") or []
        for member in nested(hostvars[host], "postgresql_status", "json", "members") or []
        if member["role"] == ("standby_leader" if stated.standby else "leader")
    }
    if len(leaders) != 1:
        yield f"PostgreSQL has {len(leaders)} leaders"


def status_table(hostvars: Mapping[str, Host], stated: Mapping[str, Any]) -> str:
    """Return the table, the lock with the last operations, and the warnings."""
    known = Stated(**stated)
    names, lines, warnings = known.groups["all"], [], []
    width = max(map(len, names))
    for host in names:
        on = hostvars[host]
        found = list(one(host, on, known))
        roles = ",".join(sorted(group for group in on["group_names"] if group not in SILENT))
        cells = "  ".join(line for kind, line in found if kind == "cell")
        lines.append(f"{host:<{width}}  {roles:<19}  {cells}")
        warnings += [line for kind, line in found if kind == "warning"]
    warnings += fleet(hostvars, known)
    if known.lock_host:
        operations = hostvars[known.lock_host].get("__status_operations") or {}
        said = text(operations, "stdout")
        lines += ["", said, ""] if "lock: " in said else []
        if operations.get("rc", 1) != 0:
            warnings.append(f"{known.lock_host}: {operations.get('stderr') or 'no lock and no journal'}")
    return "".join(f"{line}\n" for line in [*lines, *(f"warning: {warning}" for warning in warnings)])


class FilterModule:
    """The entry point for Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"status_table": status_table}
