"""Playbooks are short, procedures have a contract, and neither knows what only a role knows."""

import re
from pathlib import Path
from typing import Any

import pytest
from repository import PROJECT, files, load, read, where

PLAYBOOKS = sorted(PROJECT.glob("playbooks/*.yml"))
PROCEDURES = sorted(path.name for path in PROJECT.glob("playbooks/procedures/*"))
# Entry points without inputs: an argument spec would cost a task.
UNCHECKED = {("status", "main")}
CALLS = ("ansible.builtin.import_role", "ansible.builtin.include_role")


def below(*parts: str) -> tuple[Path, ...]:
    """Return the files of the playbooks that Ansible reads, below these folders."""
    folders = [PROJECT / "playbooks" / part for part in parts]
    return tuple(path for path in files(".yml", ".j2") if any(path.is_relative_to(folder) for folder in folders))


def flat(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return tasks, with those of their blocks."""
    inner = [each for task in tasks for key in ("block", "rescue", "always") for each in task.get(key, [])]
    return tasks + (flat(inner) if inner else [])


def points(procedure: str) -> dict[str, Any]:
    """Return the options of each entry point."""
    specs = load(f"playbooks/procedures/{procedure}/meta/argument_specs.yml")["argument_specs"]
    return {name: spec.get("options", {}) for name, spec in specs.items()}


def options(procedure: str) -> dict[str, Any]:
    """Return all options of a procedure."""
    return {name: option for entry in points(procedure).values() for name, option in entry.items()}


def tasks(procedure: str) -> dict[Path, list[dict[str, Any]]]:
    """Return the tasks in each file of a procedure."""
    return {path: flat(load(path)) for path in PROJECT.glob(f"playbooks/procedures/{procedure}/tasks/*.yml")}


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
    """They read no result of a task, and name no file of tasks."""
    group_vars = below("group_vars")
    parts = [load(path) for path in {*below(""), *PROJECT.glob("roles/*/tasks/*.yml")} if path.suffix == ".yml"]
    plays = [part for content in parts if isinstance(content, list) for part in content]
    found = flat([task for play in plays for task in play.get("tasks", [play])])
    results = {task["register"] for task in found if "register" in task}
    results |= {name for task in found for name in task.get("ansible.builtin.set_fact", {})} - {"cacheable"}
    assert results
    assert where(rf"\b(?:{'|'.join(sorted(results))})\b", group_vars) == []
    assert where(r"\btasks/|\btasks_from\b", group_vars) == []


@pytest.mark.parametrize("procedure", PROCEDURES)
def test_procedure_has_the_files_of_a_role_and_a_readme(procedure: str) -> None:
    """The README names each entry point and option, and says what a failed, killed or second run does."""
    text = read(f"playbooks/procedures/{procedure}/README.md")
    assert text.startswith(f"# {procedure}\n")
    assert "\n## Running it again\n" in text
    for word in ("undoe?s", "interrupted"):
        assert re.search(rf"^## .*\b{word}\b", text, re.MULTILINE), f"no heading says {word}"
    wanted = [*options(procedure), *(set(points(procedure)) - {"main"})]
    assert [name for name in wanted if f"`{name}`" not in text] == []


@pytest.mark.parametrize("procedure", PROCEDURES)
def test_options_of_a_procedure_are_typed_and_described(procedure: str) -> None:
    """They carry its name. Those that are not required have their value in defaults/main.yml, and nothing else has."""
    for name, option in options(procedure).items():
        assert name.startswith(f"{procedure}_"), name
        assert option.get("type"), f"{name} has no type"
        assert option.get("description"), f"{name} has no description"
    optional = {name for name, option in options(procedure).items() if not option.get("required")}
    assert set(load(f"playbooks/procedures/{procedure}/defaults/main.yml")) == optional
    parts = [path for path in below(f"procedures/{procedure}") if path.parent.name not in ("meta", "defaults")]
    used = "".join(read(path) for path in parts)
    assert [name for name in options(procedure) if not re.search(rf"\b{name}\b", used)] == []


@pytest.mark.parametrize("procedure", PROCEDURES)
def test_tasks_of_a_procedure_are_named_after_their_file(procedure: str) -> None:
    """main.yml is a table of contents. Results and loop variables are private, or carry the procedure's name."""
    own = re.compile(rf"(?:__)?{procedure}_")
    for path, found in tasks(procedure).items():
        assert len(read(path).splitlines()) <= 80, path
        prefix = "" if path.stem == "main" else f"{path.stem.capitalize()} | "
        assert [task.get("name") for task in found if not str(task.get("name")).startswith(prefix)] == [], path
        names = [task["register"] for task in found if "register" in task]
        names += [task["loop_control"]["loop_var"] for task in found if "loop_var" in task.get("loop_control", {})]
        names += [name for task in found for name in task.get("ansible.builtin.set_fact", {})]
        assert [name for name in names if not own.match(name)] == [], path


def test_what_is_called_exists() -> None:
    """A playbook calls roles and entry points of procedures; a role never calls a procedure."""
    plays = [play for path in PLAYBOOKS for play in load(path)]
    roles = [role if isinstance(role, dict) else {"role": role} for play in plays for role in play.get("roles", [])]
    called = [{"name": role["role"]} for role in roles]
    called += calls(flat([task for play in plays for task in play.get("tasks", [])]))
    for call in called:
        name, entry = call["name"], call.get("tasks_from", "main")
        assert name not in PROCEDURES or entry in points(name) or (name, entry) in UNCHECKED, call
    called += calls([task for procedure in PROCEDURES for found in tasks(procedure).values() for task in found])
    for call in called:
        folder = "playbooks/procedures" if call["name"] in PROCEDURES else "roles"
        assert (PROJECT / folder / call["name"] / "tasks" / f"{call.get('tasks_from', 'main')}.yml").exists(), call
    for procedure in PROCEDURES:
        assert set(points(procedure)) <= {path.stem for path in tasks(procedure)}, procedure
    of_roles = calls(flat([task for path in PROJECT.glob("roles/*/tasks/*.yml") for task in load(path) or []]))
    assert {call["name"] for call in of_roles} & set(PROCEDURES) == set()
