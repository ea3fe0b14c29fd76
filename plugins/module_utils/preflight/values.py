"""Rules about single values: those that a role cannot use.

Types and choices are those of each role's meta/argument_specs.yml, limits those of its meta/limits.yml. Only variables
that the inventory or the command line sets are checked: defaults and the wiring are the repository's own.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from .fleet import Fleet, Host
from .kinds import LABEL, Spec, outside
from .sources import facts, files, former, specs, wired

PROJECT = Path(__file__).resolve().parents[3]
LONGEST_NAME = 64  # of a common name (RFC 5280)


def wrong(name: str, value: Any, spec: Spec) -> str:
    """Return what a variable must be, or nothing if its value can be used."""
    limit: Spec = {key: spec[key] for key in ("kind", "min", "max") if key in spec}
    plain = {key: content for key, content in spec.items() if key not in limit and key != "description"}
    result = ArgumentSpecValidator({name: plain | {"required": False}}).validate({name: value})
    if result.error_messages:
        # Ansible's message contains the value, which may be a secret.
        choices = f", one of {', '.join(map(str, spec['choices']))}" if "choices" in spec else ""
        inside = " with the options of the role's README" if "options" in spec else ""
        return f"of type {spec.get('type', 'str')}{choices}{inside}"
    return outside(result.validated_parameters[name], limit) if limit else ""


def mistakes(fleet: Fleet) -> list[str]:
    """Return each mistake in the values of an inventory."""
    known, fixed, old, set_in = specs(PROJECT), wired(PROJECT), former(PROJECT), files(fleet.inventory)
    found = [
        f"{name} cannot be set: {fixed[name]}. Take it out of {path}." for name, path in set_in.items() if name in fixed
    ]
    anywhere = set(set_in).union(*fleet.hosts.values())
    for name in sorted(_of_roles(anywhere) - known.keys() - fixed.keys() - facts(PROJECT)):
        near = difflib.get_close_matches(name, known, 1)
        hint = old.get(name) or (f"write {near[0]}" if near else "delete it")
        found.append(f"{name} is no variable of any role: {hint} {_place(set_in.get(name))}.")
    wanted = {name for name, spec in known.items() if spec.get("required") and name not in fixed}
    for host, own in fleet.hosts.items():
        where = f"{fleet.variables}/fleet.yml"
        found += [f"{name} is not set. Set it in {where}." for name in sorted(wanted - set(own))]
        found += _host(
            host,
            fleet.value(host, "fleet_domain", ""),
            fleet.address(host),
            f"Correct it in {fleet.inventory}/hosts.yml.",
        )
        for name in sorted(set(own) & known.keys() - fixed.keys()):
            found += _one(name, own, known[name], set_in.get(name))
    return list(dict.fromkeys(found))


def _of_roles(found: Iterable[str]) -> set[str]:
    """Return the variables with names like those of a role."""
    roles = tuple(f"{path.name}_" for path in PROJECT.glob("roles/*"))
    return {name for name in found if name.startswith(roles)}


def _host(host: str, domain: str, address: str, where: str) -> list[str]:
    """Return what prevents a certificate for a host, or its connection to the others."""
    found = []
    if not re.fullmatch(LABEL, host):
        found.append(f'Host "{host}": use lower-case letters, digits and hyphens only, for its certificate. {where}')
    full = f"{host}.{domain}" if domain else host
    if len(full) > LONGEST_NAME:
        found.append(f"{full} has {len(full)} characters, a certificate's name at most {LONGEST_NAME}. {where}")
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        remedy = f"If ansible_host must be a name, set fleet_address, too. {where}"
        found.append(f'Host {host} has the address "{address}"; the others need an IPv4 address. {remedy}')
    return found


def _place(path: Path | None) -> str:
    return f"in {path}" if path else "where it is set, on the command line (-e) or by a dynamic inventory"


def _one(name: str, own: Host, spec: Spec, path: Path | None) -> list[str]:
    where = f"Correct it {_place(path)}."
    try:
        value = own[name]
        should = wrong(name, value, spec)
    except Exception as error:
        return [f"{name} cannot be read: {str(error).splitlines()[0]} {where}"]
    if not should:
        return []
    shown = "a value that is hidden" if spec.get("no_log") or "options" in spec else f'"{value}"'
    return [f"{name} is {shown}; it must be {should}. {where}"]
