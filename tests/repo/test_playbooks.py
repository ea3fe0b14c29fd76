"""Playbooks are short, call only what exists, and contain no facts that belong to a role."""

import re
from pathlib import Path
from typing import Any

import pytest
from repository import PROJECT, files, load, read, where

PLAYBOOKS = sorted(PROJECT.glob("playbooks/*.yml"))
PROCEDURES = sorted(path.name for path in PROJECT.glob("playbooks/procedures/*"))
# Entry points without inputs: an argument specification would cost a task.
UNCHECKED = {("status", "main")}
CALLS = ("ansible.builtin.import_role", "ansible.builtin.include_role")


def below(*parts: str) -> tuple[Path, ...]:
    """Return the files in these folders of the playbooks that Ansible reads."""
    folders = [PROJECT / "playbooks" / part for part in parts]
    return tuple(path for path in files(".yml", ".j2") if any(path.is_relative_to(folder) for folder in folders))


def flat(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return tasks, including those in blocks."""
    inner = [each for task in tasks for key in ("block", "rescue", "always") for each in task.get(key, [])]
    return tasks + (flat(inner) if inner else [])


def calls(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the roles and procedures that tasks call."""
    return [task[call] for task in found for call in CALLS if call in task]


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: path.stem)
def test_playbook_fits_on_one_screen(path: Path) -> None:
    """A command of the operator is a list of plays, and a play a list of roles and procedures."""
    assert len(read(path).splitlines()) <= 45
    assert not (PROJECT / "playbooks/tasks").exists()


def test_paths_ports_and_units_are_stated_by_roles_only() -> None:
    """Playbooks, procedures and the wiring read them from the outputs of the role."""
    outside_comments = r"^(?! *#)[^\n]*"
    literal = r"(?:/(?:etc|run|var|opt|srv|usr/local)/[\w./-]*|\b[\w@-]+\.(?:service|timer|socket)\b|:[0-9]{4,5}\b)"
    assert where(outside_comments + literal, below(""), re.MULTILINE) == []


def test_group_vars_are_wiring_only() -> None:
    """They contain neither results of tasks nor names of task files."""
    group_vars = below("group_vars")
    parts = [load(path) for path in {*below(""), *PROJECT.glob("roles/*/tasks/*.yml")} if path.suffix == ".yml"]
    plays = [part for content in parts if isinstance(content, list) for part in content]
    found = flat([task for play in plays for task in play.get("tasks", [play])])
    results = {task["register"] for task in found if "register" in task}
    results |= {name for task in found for name in task.get("ansible.builtin.set_fact", {})} - {"cacheable"}
    assert results
    assert where(rf"\b(?:{'|'.join(sorted(results))})\b", group_vars) == []
    assert where(r"\btasks/|\btasks_from\b", group_vars) == []


def test_called_roles_and_procedures_exist() -> None:
    """A playbook calls roles and entry points of procedures; a role never calls a procedure."""
    plays = [play for path in PLAYBOOKS for play in load(path)]
    roles = [role if isinstance(role, dict) else {"role": role} for play in plays for role in play.get("roles", [])]
    called = [{"name": role["role"]} for role in roles]
    called += calls(flat([task for play in plays for task in play.get("tasks", [])]))
    for call in called:
        name, entry = call["name"], call.get("tasks_from", "main")
        checked = name in PROCEDURES and load(f"playbooks/procedures/{name}/meta/argument_specs.yml")["argument_specs"]
        assert not checked or entry in checked or (name, entry) in UNCHECKED, call
    called += calls(flat([task for path in PROJECT.glob("playbooks/procedures/*/tasks/*.yml") for task in load(path)]))
    for call in called:
        folder = "playbooks/procedures" if call["name"] in PROCEDURES else "roles"
        assert (PROJECT / folder / call["name"] / "tasks" / f"{call.get('tasks_from', 'main')}.yml").exists(), call
    of_roles = calls(flat([task for path in PROJECT.glob("roles/*/tasks/*.yml") for task in load(path) or []]))
    assert {call["name"] for call in of_roles} & set(PROCEDURES) == set()
