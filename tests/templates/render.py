"""Renders a template as for a host, but without one: Ansible's own engine, with fatal undefined variables."""

import functools
from pathlib import Path
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template
from ansible.utils.collection_loader import AnsibleCollectionConfig

PROJECT = Path(__file__).resolve().parents[2]


@functools.cache
def _loader() -> DataLoader:
    if AnsibleCollectionConfig.collection_finder is None:  # other tests of this process may have initialized it
        init_plugin_loader([])
    return DataLoader()


@functools.cache
def _values(path: Path) -> dict[str, Any]:
    return dict(_loader().load_from_file(str(path), trusted_as_template=True) or {}) if path.exists() else {}


def render(role: str, template: str, **inputs: Any) -> str:
    """Return a role's template rendered with its defaults, its vars, and inputs that override the defaults."""
    folder = PROJECT / "roles" / role
    values = _values(folder / "defaults/main.yml") | inputs | _values(folder / "vars/main.yml")
    # Registered results are passed as role variables of the same name.
    values |= {name: value for name, value in inputs.items() if name.startswith("__")}
    return render_file(folder / "templates" / template, **values)


def render_file(path: Path, **variables: Any) -> str:
    """Return any template rendered with only these variables."""
    search = [str(path.parent.parent)]
    loader = _loader()
    loader.set_basedir(search[0])
    templar = Templar(loader=loader, variables={**variables, "ansible_search_path": search})
    # The lookup renders as the module does: with the same settings of Jinja and the same ansible_managed.
    expression = trust_as_template("{{ lookup('ansible.builtin.template', " + repr(str(path)) + ") }}")
    return str(templar.template(expression))


def lines(text: str) -> list[str]:
    """Return the relevant lines: no comments, no empty lines, no indentation."""
    stripped = (line.strip() for line in text.splitlines())
    return [line for line in stripped if line and not line.startswith("#")]
