"""Dependencies are pinned with hashes, and no file names the server that they come from."""

import json
import re
from importlib.metadata import distribution, version
from pathlib import Path

import pytest
from repository import PROJECT, files, load, read, where

LOCKS = ("app/requirements.txt", ".config/controller.txt")
COLLECTIONS = Path(str(distribution("ansible").locate_file("ansible_collections")))


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_has_hashes(name: str) -> None:
    """Each has one version and at least one SHA-256."""
    text = read(name).replace("\\\n", " ")
    pins = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert pins
    good = re.compile(r"[a-z0-9._\[\]-]+==\S+( ; .+?)?( +--hash=sha256:[0-9a-f]{64})+ *")
    assert [pin for pin in pins if not good.fullmatch(pin)] == []


def test_pins_name_no_package_index() -> None:
    """Each installation has its own index; a lock file that names one would not work elsewhere."""
    pinned = tuple(path for path in files() if re.search(r"requirements|controller\.txt|\.lock$|pip\.conf", path.name))
    assert len(pinned) >= len(LOCKS) + 1
    assert where(r"https?://.*|--(?:extra-)?index-url.*|--find-links.*|\bfile:.*", pinned) == []
    # Settings of uv would have an effect as well.
    assert where(r"index-url.*|\[\[tool\.uv\.index.*", (PROJECT / "pyproject.toml",)) == []


@pytest.mark.skipif(version("ansible-core") < "2.21", reason="an older core gets an older package, pinned as well")
def test_collections_are_those_of_the_ansible_package() -> None:
    """With the current core both ways of installation give the same modules."""
    wanted = {each["name"]: each["version"] for each in load("requirements.yml")["collections"]}
    carried = {
        name: json.loads((COLLECTIONS / name.replace(".", "/") / "MANIFEST.json").read_text())["collection_info"][
            "version"
        ]
        for name in wanted
    }
    assert wanted == carried


def test_requirements_list_exactly_the_used_collections() -> None:
    """This covers names of modules, filters, lookups and groups of modules."""
    used = set()
    for path in files(".yml", ".j2", ".cfg"):
        if path.relative_to(PROJECT).parts[0] in ("playbooks", "roles", "molecule", "inventories", "ansible.cfg"):
            used |= set(re.findall(r"(?<![\w./-])([a-z_]+\.[a-z_]+)\.[a-z_]+", read(path)))
    wanted = {each["name"] for each in load("requirements.yml")["collections"]}
    manifests = [path for path in distribution("ansible").files or [] if path.name == "MANIFEST.json"]
    assert used & {".".join(path.parts[1:3]) for path in manifests} == wanted


def test_virtualenv_has_only_used_collections() -> None:
    """Mitogen reads the metadata of each installed collection many times (docs/lab.md)."""
    wanted = {each["name"] for each in load("requirements.yml")["collections"]}
    assert {".".join(path.parts[-3:-1]) for path in COLLECTIONS.glob("*/*/MANIFEST.json")} == wanted
