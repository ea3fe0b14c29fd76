"""Each procedure has a contract: it documents and specifies its inputs, and its tasks are named after their files."""

import re
from pathlib import Path
from typing import Any

import pytest
from repository import PROJECT, files, load, read, task_names

FOLDER = PROJECT / "playbooks/procedures"
PROCEDURES = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())

pytestmark = pytest.mark.parametrize("procedure", PROCEDURES)


def _specs(procedure: str) -> dict[str, Any]:
    return dict(load(FOLDER / procedure / "meta/argument_specs.yml")["argument_specs"])


def _options(procedure: str) -> dict[str, Any]:
    """Return the options of all entry points."""
    return {name: one for spec in _specs(procedure).values() for name, one in spec.get("options", {}).items()}


def _parts(procedure: str) -> list[Path]:
    """Return the procedure's files that Ansible reads, without its specification."""
    found = [path for path in files(".yml", ".j2") if path.is_relative_to(FOLDER / procedure)]
    return [path for path in found if path.parent.name != "meta"]


def test_readme_documents_entry_points_options_and_a_second_run(procedure: str) -> None:
    """Reviewers judge the rest: what it asserts, changes and leaves behind."""
    text = read(FOLDER / procedure / "README.md")
    assert text.startswith(f"# {procedure}\n")
    assert "\n## Running it again\n" in text
    names = {*_specs(procedure), *_options(procedure)} - {"main"}
    assert {name for name in names if f"`{name}`" not in text} == set()
    for word in ("undoes", "interrupted"):
        assert re.search(rf"^## .*\b{word}\b", text, re.MULTILINE), f"no heading says {word}"


def test_options_are_typed_described_and_used(procedure: str) -> None:
    """Each name begins with the procedure's name."""
    used = "".join(read(path) for path in _parts(procedure))
    for name, option in _options(procedure).items():
        assert name.startswith(f"{procedure}_"), name
        assert option.get("type"), f"{name} has no type"
        assert option.get("description"), f"{name} has no description"
        assert name in used, f"{name} is not used"


def test_defaults_are_the_options_that_are_not_required(procedure: str) -> None:
    """Values are only in defaults/main.yml."""
    optional = {name for name, option in _options(procedure).items() if not option.get("required")}
    assert set(load(FOLDER / procedure / "defaults/main.yml")) == optional


def test_entry_points_are_called_from_outside(procedure: str) -> None:
    """An entry point costs a task that validates it; files that the procedure itself includes have none."""
    outside = [path for path in files(".yml") if not path.is_relative_to(FOLDER / procedure)]
    text = "".join(read(path) for path in outside if path.is_relative_to(PROJECT / "playbooks"))
    for name in _specs(procedure):
        assert (FOLDER / procedure / f"tasks/{name}.yml").exists(), name
        assert procedure in text if name == "main" else f"tasks_from: {name}" in text, f"nothing calls {name}"


def test_tasks_are_named_after_their_files(procedure: str) -> None:
    """A line of the log then names the file; main.yml is a table of contents."""
    for path in _parts(procedure):
        if path.parent.name == "tasks" and path.name != "main.yml":
            assert len(read(path).splitlines()) <= 80, f"{path} is too long"
            prefix = f"{path.stem.capitalize()} | "
            assert [name for name in task_names(load(path)) if not name.startswith(prefix)] == [], path


def test_results_and_loop_variables_carry_the_procedures_name(procedure: str) -> None:
    """Ansible has one name space. Names without leading underscores are for other procedures."""
    own = re.compile(rf"(?:__)?{procedure}_")
    for path in _parts(procedure):
        text = read(path) if path.parent.name == "tasks" else ""
        names = re.findall(r"\b(?:register|loop_var): (\w+)", text)
        assert [name for name in names if not own.match(name)] == [], path
