"""The repository is also a collection: its contents and its requirements."""

import re
import tarfile
import tomllib
from pathlib import Path

from repository import PROJECT, ansible, files, load, read

PAGES = {"README.md", "LICENSE", "CHANGELOG.md", "meta/runtime.yml"}
WRITTEN_BY_GALAXY = {"MANIFEST.json", "FILES.json"}


def test_collection_carries_roles_and_modules_and_no_secrets(tmp_path: Path) -> None:
    """The build does not read .gitignore: it must contain no vault, lab, virtualenv, test or playbook."""
    done = ansible("ansible-galaxy", "collection", "build", f"--output-path={tmp_path}")
    assert done.returncode == 0, done.stderr
    [archive] = tmp_path.glob("tradefleet-fleet-*.tar.gz")
    with tarfile.open(archive) as content:
        carried = {each.name for each in content if each.isfile()}
    tracked = {str(path.relative_to(PROJECT)) for path in files()}
    expected = {name for name in tracked if name.startswith(("roles/", "plugins/modules/"))} | PAGES
    assert carried - WRITTEN_BY_GALAXY == expected


def test_collection_and_project_state_the_same_versions() -> None:
    """They agree on the version, the oldest core, and the collections that roles and plugins use."""
    galaxy = load("galaxy.yml")
    assert galaxy["version"] == tomllib.loads(read("pyproject.toml"))["project"]["version"]
    pinned = {each["name"]: each["version"] for each in load("requirements.yml")["collections"]}
    used = {
        name
        for name in pinned
        for path in files(".yml", ".j2", ".py")
        if path.is_relative_to(PROJECT / "roles") and re.search(rf"\b{re.escape(name)}\.\w+", path.read_text())
    }
    assert galaxy["dependencies"] == {name: f">={pinned[name]}" for name in sorted(used)}
