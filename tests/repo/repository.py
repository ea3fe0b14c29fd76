"""Access to the files of the repository, and Ansible's programs, for tests."""

import functools
import importlib.util
import os
import re
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

PROJECT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.parent.parent.name for path in PROJECT.glob("roles/*/tasks/main.yml"))
# The strategy that make uses. It is faster from about ten tasks on; ansible() uses the stock one.
LAB_STRATEGY: dict[str, str | Path] = {
    "ANSIBLE_STRATEGY": "lab_linear",
    "ANSIBLE_STRATEGY_PLUGINS": PROJECT / ".config/strategy",
    "ANSIBLE_DEPRECATION_WARNINGS": "false",
}
SECRETS: list[str] = yaml.safe_load((PROJECT / "playbooks/vars/secrets.yml").read_text())["secrets_names"]


@functools.cache
def files(*suffixes: str) -> tuple[Path, ...]:
    """Return the repository's files, committed or not yet, with one of these suffixes or with any."""
    command = ["git", "-C", str(PROJECT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
    found = sorted({PROJECT / name for name in names if name})
    return tuple(path for path in found if path.is_file() and (not suffixes or path.suffix in suffixes))


def read(path: str | Path) -> str:
    """Return a file's text; a relative path starts at the project."""
    return (PROJECT / path).read_text(encoding="utf-8")


def environment(**own: str | Path) -> dict[str, str]:
    """Return the default settings and the given ones: no vault password, strategy or other setting of the caller."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    stock = {"ANSIBLE_CONFIG": PROJECT / "ansible.cfg", "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"}
    return kept | {name: str(value) for name, value in (stock | own).items()}


def ansible(*command: str | Path, **own: str | Path) -> subprocess.CompletedProcess[str]:
    """Run one of Ansible's programs in the project with additional environment variables and without input."""
    return subprocess.run(
        [str(word) for word in command],
        cwd=PROJECT,
        env=environment(**own),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def load(path: str | Path) -> Any:
    """Return the contents of a YAML file; Ansible's own tags are read as strings."""
    return yaml.load(read(path), Loader=_Loader)  # noqa: S506 (a safe loader, below)


def module(path: str | Path) -> ModuleType:
    """Return a Python file as a module; its folder need not be in Python's search path."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, PROJECT / path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # (PyYAML has no types)
    """A safe loader that reads !vault and !unsafe."""


_Loader.add_multi_constructor("!", lambda loader, _, node: loader.construct_scalar(node))


def task_names(tasks: list[dict[str, Any]]) -> list[str]:
    """Return the names of tasks, including those in blocks."""
    names = []
    for task in tasks:
        names.append(task.get("name", "a task without a name"))
        for section in ("block", "rescue", "always"):
            names += task_names(task.get(section, []))
    return names


def where(pattern: str, paths: tuple[Path, ...], flags: re.RegexFlag = re.NOFLAG) -> list[str]:
    """Return "file:line: match" for each place where the pattern is found."""
    found = []
    for path in paths:
        text = read(path)
        for match in re.finditer(pattern, text, flags):
            line = text.count("\n", 0, match.start()) + 1
            found.append(f"{path.relative_to(PROJECT)}:{line}: {match[0].strip()}")
    return found
