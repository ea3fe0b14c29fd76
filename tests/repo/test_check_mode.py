"""Requirements for correct reports of `--check`.

Ansible skips commands and requests in check mode. A skipped query has no result, so later tasks decide wrongly; a
command that would change something must report "changed", not "skipping".
"""

from collections.abc import Iterator
from typing import Any

from repository import PROJECT, load

COMMAND, REQUEST, SCRIPT = "ansible.builtin.command", "ansible.builtin.uri", "ansible.builtin.script"
# Files that do not run in check mode, and why.
AWAY = {
    "playbooks/procedures/recovery/tasks/follow.yml": "main.yml does not include it",
    "playbooks/procedures/recovery/tasks/switch.yml": "main.yml does not include it",
    "playbooks/procedures/restore/tasks/bring.yml": "main.yml does not include it",
    "playbooks/procedures/restore/tasks/exchange.yml": "part of load.yml",
    "playbooks/procedures/restore/tasks/load.yml": "main.yml does not include it",
    "playbooks/procedures/switchover/tasks/switchover.yml": "main.yml and upgrade.yml do not include it",
    "playbooks/procedures/switchover/tasks/unfinished.yml": "part of switchover.yml",
    "playbooks/procedures/traffic/tasks/judge.yml": "the target has no clients",
    "playbooks/procedures/traffic/tasks/sample.yml": "part of judge.yml",
    "playbooks/procedures/traffic/tasks/soak.yml": "there was no cutover",
    "roles/app/tasks/ready.yml": "activate.yml started nothing",
}

Task = dict[str, Any]


def _tasks() -> Iterator[tuple[str, Task]]:
    """Yield ("file: name", task) for each task; a task includes the conditions of the blocks around it."""
    folders = ("playbooks", "playbooks/procedures/*/tasks", "roles/*/tasks", "roles/*/handlers")
    for pattern in (f"{folder}/*.yml" for folder in folders):
        for path in sorted(PROJECT.glob(pattern)):
            name = str(path.relative_to(PROJECT))
            for part in load(path) if name not in AWAY else []:
                tasks = [part] if "hosts" not in part else part.get("pre_tasks", []) + part.get("tasks", [])
                for task in tasks:
                    yield from ((f"{name}: {found['name']}", found) for found in _flat(task, ""))


def _flat(task: Task, around: str) -> Iterator[Task]:
    condition = f"{around} {task.get('when', '')}"
    inner = [each for key in ("block", "rescue", "always") for each in task.get(key, [])]
    for each in inner:
        yield from _flat(each, condition)
    if not inner:
        yield task | {"when": condition}


def _changes(task: Task) -> bool:
    """Return whether a task changes something, as it declares; a GET never does."""
    if REQUEST in task and (task[REQUEST] or {}).get("method", "GET") == "GET" and "body" not in task[REQUEST]:
        return False
    return task.get("changed_when", False) is not False


def test_queries_run_in_check_mode() -> None:
    """A query sets `check_mode: false`, unless its conditions exclude check mode."""
    unasked = [
        where
        for where, task in _tasks()
        if {COMMAND, REQUEST} & set(task) and not _changes(task) and "creates" not in task.get(COMMAND, {})
        if task.get("check_mode") is not False and "ansible_check_mode" not in task["when"]
    ]
    assert unasked == []


def test_no_change_is_made_in_check_mode() -> None:
    """A task that always changes something never sets `check_mode: false`."""
    assert [
        where for where, task in _tasks() if task.get("check_mode") is False and task.get("changed_when") is True
    ] == []


def test_commands_that_would_change_something_report_it() -> None:
    """With `creates` or `removes` Ansible reports them as changed in check mode; without, as skipped."""
    assert [
        where
        for where, task in _tasks()
        for module in {COMMAND, SCRIPT} & set(task)
        if _changes(task) and task.get("check_mode") is not False and "ansible_check_mode" not in task["when"]
        if not {"creates", "removes"} & set(task[module])
    ] == []


def test_check_mode_does_not_pause() -> None:
    """A pause would take its time in check mode, too."""
    assert [
        where
        for where, task in _tasks()
        if "ansible.builtin.pause" in task and "ansible_check_mode" not in task["when"]
    ] == []
