"""The hosts of role scenarios start with packages that roles would install."""

import re

from repository import ROLES, load, read


def test_packages_of_the_image_are_those_of_roles() -> None:
    """A package that no role installs would be present in scenarios only."""
    lists = [
        re.findall(r"^__\w+_packages: (.*(?:\n  .*)*)", read(f"roles/{role}/vars/main.yml"), re.MULTILINE)
        for role in ROLES
    ]
    installed = set(re.findall(r"[a-z0-9][a-z0-9.+-]+", " ".join(text for found in lists for text in found)))
    assert "patroni" in installed
    assert set(load("molecule/shared/vars.yml")["lab_packages"]) - installed == set()
