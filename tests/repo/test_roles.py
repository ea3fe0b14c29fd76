"""Each role documents and uses exactly its options, and depends on no other role."""

import re
from pathlib import Path
from typing import Any

import pytest
from repository import PROJECT, ROLES, files, load, read, task_names, where

pytestmark = pytest.mark.parametrize("role", ROLES)


def _entry_points(role: str) -> dict[str, Any]:
    specs: dict[str, Any] = load(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]
    return {name: spec.get("options", {}) for name, spec in specs.items()}


def _options(role: str) -> dict[str, Any]:
    """Return the options of all entry points."""
    return {name: option for options in _entry_points(role).values() for name, option in options.items()}


def _parts(role: str, *suffixes: str) -> tuple[Path, ...]:
    """Return the role's files that Ansible reads."""
    return tuple(
        path for path in files(*suffixes) if path.is_relative_to(PROJECT / "roles" / role) and path.suffix != ".md"
    )


def _keys(value: Any) -> set[str]:
    """Return every key below a value."""
    if isinstance(value, dict):
        return set(value) | {key for each in value.values() for key in _keys(each)}
    return {key for each in value for key in _keys(each)} if isinstance(value, list) else set()


def test_readme_describes_another_run(role: str) -> None:
    """Another run is part of the contract."""
    text = read(f"roles/{role}/README.md")
    assert text.startswith(f"# {role}\n")
    assert "\n## Running it again\n" in text


def test_readme_names_every_variable(role: str) -> None:
    """It names no variable that does not exist."""
    text = read(f"roles/{role}/README.md")
    assert {name for name in _options(role) if f"`{name}`" not in text} == set()


def test_entry_points_exist_and_the_readme_names_them(role: str) -> None:
    """Each entry point that a playbook or procedure calls has a specification, except vars, which has no options."""
    points = set(_entry_points(role)) - {"main"}
    text = read(f"roles/{role}/README.md")
    assert {name for name in points if not (PROJECT / f"roles/{role}/tasks/{name}.yml").exists()} == set()
    assert {name for name in points if f"`{name}`" not in text and f"tasks_from: {name}" not in text} == set()
    calls = rf"name: {role}(?:\n *|, *)tasks_from: (\w+)"
    called = {entry for path in PROJECT.glob("playbooks/**/*.yml") for entry in re.findall(calls, read(path))}
    assert called - points - {"vars"} == set()


def test_outputs_are_documented(role: str) -> None:
    """Variables of vars/main.yml are private, or outputs that the README names."""
    public = {name for name in load(f"roles/{role}/vars/main.yml") if not name.startswith(f"__{role}_")}
    text = read(f"roles/{role}/README.md")
    assert {name for name in public if not name.startswith(f"{role}_") or f"`{name}`" not in text} == set()


def test_tls_files_are_those_that_pki_creates(role: str) -> None:
    """Roles do not know each other, so each has its own defaults; roles/pki states their values.

    A role with a purpose has a key and a certificate of its own, next to those of the host.
    """
    outputs = load("roles/pki/vars/main.yml")
    created = {kind: outputs[f"pki_{kind}_file"] for kind in ("ca", "certificate", "key")}
    readme = read("roles/pki/README.md")
    assert {path for kind, path in created.items() if f"| `pki_{kind}_file` | `{path}` |" not in readme} == set()
    defaults = load(f"roles/{role}/defaults/main.yml")
    named = {name for name in defaults if re.search(r"_tls_\w+_file$|_(cert|certificate|key)_file$", name)}
    named |= {name for name, value in defaults.items() if str(value).startswith(str(Path(created["ca"]).parent) + "/")}
    purpose = load(f"roles/{role}/vars/main.yml").get(f"{role}_purpose", "host")
    expected = {f"{role}_tls_{kind}_file": path.replace("/host.", f"/{purpose}.") for kind, path in created.items()}
    assert {name: defaults[name] for name in named} == {name: expected.get(name) for name in named}


def test_specification_states_no_values(role: str) -> None:
    """Values are only in defaults/main.yml."""
    assert "default" not in _keys(_entry_points(role)) - set(_options(role))


def test_defaults_are_the_options_that_are_not_required(role: str) -> None:
    """It has all options but secrets, and nothing else. An option of another entry point than main is required."""
    options = _options(role)
    optional = {name for name, option in options.items() if not option.get("required") and not option.get("no_log")}
    assert set(load(f"roles/{role}/defaults/main.yml")) == optional
    assert optional <= set(_entry_points(role)["main"])


def test_options_are_the_roles_own_typed_and_described(role: str) -> None:
    """Passwords are not logged, nor listed as choices in an error."""
    for name, option in _options(role).items():
        assert name.startswith(f"{role}_"), name
        assert option.get("type"), f"{name} has no type"
        assert option.get("description"), f"{name} has no description"
        if name.endswith(("_password", "_passphrase")):
            assert option.get("no_log") is True, f"{name} needs no_log"
            assert "choices" not in option, f"{name} would be listed in errors"


def test_every_option_is_used(role: str) -> None:
    """A task, a template, a handler, a variable or another default uses it."""
    defaults = read(f"roles/{role}/defaults/main.yml")
    used = "".join(read(path) for path in _parts(role) if path.parent.name not in ("meta", "defaults"))
    used += "".join(line.partition(":")[2] for line in defaults.splitlines() if not line.startswith("#"))
    assert {name for name in _options(role) if not _word(name, used)} == set()


def _word(name: str, text: str) -> bool:
    return any(part[:1].isidentifier() is False for part in f"{text} ".split(name)[1:])


def test_role_contains_neither_groups_nor_hosts(role: str) -> None:
    """Facts about other roles are passed as variables: the wiring is playbooks/group_vars."""
    assert where(r"(\bgroups *[\[.]|\bhostvars\b|\bgroup_names\b).{0,20}", _parts(role, ".yml", ".j2")) == []


def test_role_uses_no_variables_of_other_roles(role: str) -> None:
    """Neither public nor private ones are used."""
    foreign = [name for other in ROLES if other != role for name in _options(other)]
    others = "|".join([*foreign, *(rf"__{other}_\w+" for other in ROLES if other != role), "vault_\\w+", "fleet_\\w+"])
    assert where(rf"(?<![\w'])(?:{others})(?!\w)", _parts(role, ".yml", ".j2")) == []


def test_role_depends_on_no_other_and_some_scenario_runs_it(role: str) -> None:
    """Each role can be read, replaced and tested alone."""
    assert load(f"roles/{role}/meta/main.yml").get("dependencies") == []
    plays = [play for path in PROJECT.glob("molecule/*/converge.yml") for play in load(path)]
    names = {each if isinstance(each, str) else each["role"] for play in plays for each in play.get("roles", [])}
    tasks = [task for play in plays for task in play.get("tasks", [])]
    names |= {task.get("ansible.builtin.import_role", {}).get("name") for task in tasks}
    assert role in names


def test_stages_are_short_and_their_tasks_are_named_after_them(role: str) -> None:
    """A line of the log then names the file; main.yml is a table of contents."""
    for path in _parts(role, ".yml"):
        if path.parent.name != "tasks" or path.name == "main.yml":
            continue
        assert len(read(path).splitlines()) <= 80, f"{path} is too long"
        prefix = f"{path.stem.capitalize()} | "
        wrong = [name for name in task_names(load(path)) if not name.startswith(prefix)]
        assert wrong == [], f'{path}: each name begins with "{prefix}"'
