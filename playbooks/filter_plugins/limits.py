"""Filter: which values of an inventory no role could use, found before anything is changed.

Types and choices are those of each role's meta/argument_specs.yml, limits those of its meta/limits.yml. Only variables
that the inventory or the command line sets are checked: defaults and the wiring are the repository's own.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import stat
import zoneinfo
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

# What each daemon takes a letter for. nginx and systemd count in 1024 only.
BINARY = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
UNITS = {
    "nginx": {unit: BINARY[unit] for unit in ("", "k", "m", "g")},
    "systemd": BINARY,
    "postgresql": {"b": 1, **{f"{unit}b": BINARY[unit] for unit in ("k", "m", "g", "t")}},
    "redis": {"b": 1, **{unit: 1000**power for power, unit in enumerate(("", "k", "m", "g"))}}
    | {f"{unit}b": BINARY[unit] for unit in ("k", "m", "g")},
}
CLOCK = r"(\*|[0-2]?\d)(/\d+)?(,[0-2]?\d|\.\.[0-2]?\d)*:(\*|[0-5]?\d)(/\d+)?(,[0-5]?\d)*(:[0-5]?\d)?"
DAYS = r"(mon|tue|wed|thu|fri|sat|sun)([,.]+(mon|tue|wed|thu|fri|sat|sun))*"
DATE = r"(\*|\d{4})-(\*|[01]?\d)(,[01]?\d)*-(\*|[0-3]?\d)(,[0-3]?\d)*"
NAMED = "minutely|hourly|daily|weekly|monthly|quarterly|semiannually|yearly|annually"
LONGEST_NAME = 64  # of a common name (RFC 5280)
LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
# Kind: pattern, and what it asks for in words.
KINDS: dict[str, tuple[str, str]] = {
    "account": (r"[a-z_][a-z0-9_-]{0,30}", "the name of a Unix group"),
    "calendar": (
        rf"(?i)({NAMED}|({DAYS}( |$))?(({DATE})( |$))?({CLOCK})?)",
        "a time as in systemd's OnCalendar, such as hourly or *-*-* 03:30",
    ),
    "common_name": (r"[\w][\w .,'()-]{0,63}", "a name of 1 to 64 characters"),
    "domain": (rf"({LABEL}\.)+{LABEL}", "a domain name in lower case, such as trade.example.com"),
    "duration": (
        r"[1-9]\d*(s|sec|min|h|hour|hours|d|day|days|w|week|weeks|month|months|y|year|years)?",
        "a time span of systemd, such as 30day",
    ),
    "email": (r"([^@\s]+@[^@\s]+)?", "an e-mail address"),
    "header": (r"[^\"\\$\r\n]*", "the text of one header, without double quotes, $ and backslashes"),
    "local_path": (r"/.*", "an absolute path"),
    "name": (r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", "a name of letters, digits, dots, hyphens and underscores"),
    "network": ("", "an IP address or a network such as 192.0.2.0/24"),
    "package": (r"[a-z0-9][a-z0-9+.-]+", "the name of a Debian package"),
    "path": (r"/[\w./+@~-]*", "an absolute path without spaces, quotes or variables"),
    "port": ("", "a port from 1 to 65535"),
    "timezone": ("", "a time zone such as Etc/UTC"),
    "url": (r"(https://[^\s\"'\\]+)?", "a URL that begins with https://"),
    "url_path": (r"/[\w./~-]*", "a path such as /v1/instruments"),
    "nginx_size": (r"\d+[kKmMgG]?", "a size as nginx reads it, such as 16k or 8m"),
    "postgresql_size": (r"\d+(B|kB|MB|GB|TB)", "a size as PostgreSQL reads it, such as 64kB, 512MB or 4GB"),
    "redis_size": (r"(?i)\d+([kmg]b?|b)?", "a size as Redis reads it, such as 256mb or 2gb"),
    "systemd_size": (r"\d+[KMGT]?", "a size as systemd reads it, such as 512M or 4G"),
}
OWN = "playbooks/vars/limits.yml"
# Folders of an inventory that Ansible is told not to read (ansible.cfg).
OTHERS = ("files", "pki")
Spec = dict[str, Any]


def size(kind: str, value: str) -> int:
    """Return the bytes that a size means to the daemon that reads it."""
    number = value.rstrip("BbKkMmGgTt")
    factor: int = UNITS[kind.removesuffix("_size")][value.removeprefix(number).lower()]
    return int(number) * factor


def _zone(value: str) -> bool:
    known = zoneinfo.available_timezones()
    return value in known if known else bool(re.fullmatch(r"[A-Za-z_]+(/[A-Za-z0-9_+-]+)*", value))


def _network(value: str) -> bool:
    try:
        ipaddress.ip_network(value)
    except ValueError:
        return False
    return True


CHECKS: dict[str, Callable[[str], bool]] = {
    "network": _network,
    "port": lambda value: value.isdecimal() and 1 <= int(value) <= 65535,
    "timezone": _zone,
}


def outside(value: Any, limit: Spec) -> str:
    """Return what a value would have to be, or nothing if it is within its limits; a list's elements are looked at."""
    if isinstance(value, list):
        return next((f"a list, each element {found}" for element in value if (found := outside(element, limit))), "")
    kind = limit.get("kind", "")
    if kind:
        pattern, words = KINDS[kind]
        fits = CHECKS[kind](str(value)) if kind in CHECKS else re.fullmatch(pattern, str(value))
        if not fits:
            return words
    low, high = limit.get("min"), limit.get("max")
    if kind.endswith("_size"):
        number: float = size(kind, str(value))
        least, most = (None if end is None else size(kind, end) for end in (low, high))
    elif low is None and high is None:
        return ""
    else:
        number, least, most = float(value), low, high
    if (least is not None and number < least) or (most is not None and number > most):
        return f"from {low} to {high}" if None not in (low, high) else f"{low} or more"
    return ""


def wrong(name: str, value: Any, spec: Spec) -> str:
    """Return what a variable would have to be, or nothing if its value can be used."""
    limit: Spec = {key: spec[key] for key in ("kind", "min", "max") if key in spec}
    plain = {key: content for key, content in spec.items() if key not in limit and key != "description"}
    result = ArgumentSpecValidator({name: plain | {"required": False}}).validate({name: value})
    if result.error_messages:
        # Ansible repeats the value, which may be a secret.
        choices = f", one of {', '.join(map(str, spec['choices']))}" if "choices" in spec else ""
        inside = " with the options of the role's README" if "options" in spec else ""
        return f"of type {spec.get('type', 'str')}{choices}{inside}"
    return outside(result.validated_parameters[name], limit) if limit else ""


def load(path: Path) -> Any:
    """Return what a YAML file holds; what the vault encrypts is nothing to look at."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return {} if text.startswith("$ANSIBLE_VAULT") else yaml.load(text, Loader=_Loader) or {}  # noqa: S506 (a safe one)


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # (PyYAML has no types)
    """Safe, and knows !vault and !unsafe."""


_Loader.add_multi_constructor("!", lambda loader, _, node: getattr(node, "value", None))


def specs(project: Path) -> dict[str, Spec]:
    """Return type, choices and limits of each public variable that a role or the repository has."""
    found: dict[str, Spec] = dict(load(project / OWN)["values"])
    for path in sorted(project.glob("roles/*/meta/argument_specs.yml")):
        limits = load(path.with_name("limits.yml"))
        for name, spec in load(path)["argument_specs"]["main"].get("options", {}).items():
            found[name] = spec | limits.get(name, {})
    return found


def wired(project: Path) -> dict[str, str]:
    """Return the variables that are the same for every fleet, and why."""
    paths = sorted(project.glob("playbooks/group_vars/*/*.yml"))
    found = {name: f"{path.relative_to(project)} sets it" for path in paths for name in load(path)}
    return found | dict(load(project / OWN)["fixed"])


def files(inventory: Path) -> dict[str, Path]:
    """Return the variables that an inventory sets, and the first file that does; a dynamic inventory is not run."""
    found: dict[str, Path] = {}
    for path in sorted(inventory.rglob("*")):
        parts = path.relative_to(inventory).parts
        if path.is_file() and not path.name.startswith(".") and parts[0] not in OTHERS:
            for name in _set_in(path, of_group=parts[0] in ("group_vars", "host_vars")):
                found.setdefault(name, path)
    return found


def _set_in(path: Path, of_group: bool) -> Iterator[str]:
    """Yield the variables that a file sets: of one group or host, or an inventory in YAML, JSON or INI."""
    if path.suffix in (".yml", ".yaml", ".json") or (of_group and not path.suffix):
        yield from load(path) if of_group else names(load(path))
    elif not of_group and path.suffix in ("", ".ini") and not path.stat().st_mode & stat.S_IXUSR:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith(("#", ";"))]
        yield from re.findall(r"(?:^|\s)(\w+)\s*=", "\n".join(lines), re.MULTILINE)


def names(tree: Any) -> Iterator[str]:
    """Yield the variables in an inventory file: those of groups, and those of hosts."""
    for key, content in tree.items() if isinstance(tree, dict) else ():
        if key == "vars" and isinstance(content, dict):
            yield from content
        elif key == "hosts" and isinstance(content, dict):
            for own in content.values():
                yield from own or ()
        else:
            yield from names(content)


class Variables(Mapping[str, Any]):
    """A host's variables, templated as they are read; Ansible's own view of another host lacks `hostvars`."""

    def __init__(self, hostvars: Any, host: str) -> None:
        """Take what is known of the host."""
        self._raw = dict(hostvars.raw_get(host)) | {"hostvars": hostvars}
        self._templar = Templar(loader=DataLoader(), variables=self._raw)

    def __getitem__(self, name: str) -> Any:
        """Return a value as the host has it."""
        return self._templar.template(self._raw[name])

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._raw)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._raw)


def mistakes(hostvars: Any, hosts: list[str], project: str, inventory: str) -> list[str]:
    """Return each mistake in the values of an inventory, in a sentence that names variable, file and remedy."""
    known, fixed, set_in = specs(Path(project)), wired(Path(project)), files(Path(inventory))
    found = [
        f"{name} cannot be set: {fixed[name]}. Take it out of {path}." for name, path in set_in.items() if name in fixed
    ]
    anywhere = set(set_in).union(*(hostvars.raw_get(host) for host in hosts))
    for name in sorted(_of_roles(anywhere, Path(project)) - known.keys() - fixed.keys()):
        near = difflib.get_close_matches(name, known, 1)
        hint = f"write {near[0]}" if near else "delete it"
        found.append(f"{name} is no variable of any role: {hint} {_place(set_in.get(name))}.")
    wanted = {name for name, spec in known.items() if spec.get("required") and name not in fixed}
    for host in hosts:
        own = Variables(hostvars, host)
        where = f"{inventory}/group_vars/all/fleet.yml"
        found += [f"{name} is not set. Set it in {where}." for name in sorted(wanted - set(own))]
        found += _host(host, own, Path(inventory))
        for name in sorted(set(own) & known.keys() - fixed.keys()):
            found += _one(name, own, known[name], set_in.get(name))
    return list(dict.fromkeys(found))


def _of_roles(found: Iterable[str], project: Path) -> set[str]:
    """Return the variables that are named like those of a role."""
    roles = tuple(f"{path.name}_" for path in project.glob("roles/*"))
    return {name for name in found if name.startswith(roles)}


def _host(host: str, own: Mapping[str, Any], inventory: Path) -> list[str]:
    """Return what keeps a host from having a certificate, and the others from reaching it."""
    found, where = [], f"Correct it in {inventory}/hosts.yml."
    if not re.fullmatch(LABEL, host):
        found.append(f'Host "{host}": use lower-case letters, digits and hyphens only, for its certificate. {where}')
    full = f"{host}.{own['fleet_domain']}" if "fleet_domain" in own else host
    if len(full) > LONGEST_NAME:
        found.append(f"{full} has {len(full)} characters, a certificate's name at most {LONGEST_NAME}. {where}")
    address = str(own["fleet_address"])
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        remedy = f"Where ansible_host has to be a name, set fleet_address beside it. {where}"
        found.append(f'Host {host} has the address "{address}"; the others need an IPv4 address. {remedy}')
    return found


def _place(path: Path | None) -> str:
    return f"in {path}" if path else "where it is set, on the command line (-e) or by a dynamic inventory"


def _one(name: str, own: Mapping[str, Any], spec: Spec, path: Path | None) -> list[str]:
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


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"value_mistakes": mistakes}
