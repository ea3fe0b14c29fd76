"""Filter: the mistakes in the inputs of a playbook, found before any change."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# Ansible loads a plugin by its path, but Python finds a package that several modules share only in sys.path.
sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))

from preflight import Fleet, Variables, mistakes

DOCUMENTATION = r"""
name: preflight_mistakes
short_description: Returns the mistakes in the inputs of a playbook
description:
  - Changes nothing and contacts no host. Each mistake is a sentence with variable, file and remedy.
positional: hostvars, groups
options:
  _input:
    description: What the playbook is about to use (playbooks/vars/preflight.yml).
    type: dict
    required: true
  hostvars:
    description: Variables of all hosts.
    type: dict
    required: true
  groups:
    description: Hosts of each group.
    type: dict
    required: true
"""
EXAMPLES = r"""
- name: Fail if an input is wrong
  ansible.builtin.assert:
    that: preflight_inputs | preflight_mistakes(hostvars, groups) | length == 0
"""
RETURN = r"""
_value:
  description: The mistakes; an empty list without any.
  type: list
  elements: str
"""


def preflight_mistakes(inputs: Mapping[str, Any], hostvars: Any, groups: Mapping[str, list[str]]) -> list[str]:
    """Return a sentence for each mistake."""
    paths = {name: Path(inputs[name]) for name in ("inventory", "release_dir")}
    hosts = {host: Variables(hostvars, host) for host in groups["all"]}
    return mistakes(Fleet(**(dict(inputs) | paths), groups=groups, hosts=hosts))


class FilterModule:
    """The entry point for Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"preflight_mistakes": preflight_mistakes}
