"""What the repository and an inventory state about variables: types, limits, and values that a fleet cannot change."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from .kinds import Spec

OWN = "playbooks/vars/limits.yml"
# Folders of an inventory that Ansible ignores (ansible.cfg).
OTHERS = ("files", "pki")


def load(path: Path) -> Any:
    """Return what a YAML file contains; a file that the vault encrypts counts as empty."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return {} if text.startswith("$ANSIBLE_VAULT") else yaml.load(text, Loader=_Loader) or {}  # noqa: S506 (a safe one)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # (PyYAML has no types)
    """Safe, accepts !vault and !unsafe, and parses in C where PyYAML was built with libyaml: ten times as fast."""


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


def former(project: Path) -> dict[str, str]:
    """Return the variables that roles had once, and what to do about each."""
    return dict(load(project / OWN)["former"])


def facts(project: Path) -> set[str]:
    """Return the variables that roles set for one another; an earlier playbook of the same run may have left them."""
    return set(load(project / OWN)["facts"])


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
