"""Secrets are added and changed, and nothing else in a vault, wherever its password comes from."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from repository import PROJECT, SECRETS, ansible, module

write_secrets = module("plugins/action/write_secrets.py")

TEXT = """\
# The desk's own
vault_alice_api_key: 'k#1'   # for Alice
vault_a: "first"
vault_banner: |
  two
  lines
vault_b: plain
other: {x: [1, 2]}
"""


def test_missing_secrets_are_added_and_everything_else_stays() -> None:
    """This includes comments, order and spelling; new secrets are long and differ from each other."""
    text = write_secrets.edited(TEXT, ["vault_a", "vault_c", "vault_d"], {}, [])
    assert text.startswith(TEXT)
    added = yaml.safe_load(text[len(TEXT) :])
    assert set(added) == {"vault_c", "vault_d"}
    assert len(added["vault_c"]) == len(added["vault_d"]) == 40
    assert added["vault_c"] != added["vault_d"]
    assert write_secrets.edited(text, ["vault_c"], {}, []) == text
    assert set(yaml.safe_load(write_secrets.edited("", ["vault_c"], {}, []))) == {"vault_c"}
    assert write_secrets.edited("a: 1", ["vault_c"], {}, []).startswith("a: 1\n")


def test_rotation_keeps_the_present_value_until_it_is_withdrawn() -> None:
    """Only the lines of the named secrets change."""
    rotated = write_secrets.edited(TEXT, [], {"vault_a": "?", "vault_banner": "?", "vault_x": 'from "elsewhere"'}, [])
    values = yaml.safe_load(rotated)
    assert (values["vault_a_previous"], values["vault_banner_previous"]) == ("first", "two\nlines\n")
    assert values["vault_x_previous"] == 'from "elsewhere"'
    assert len(values["vault_a"]) == len(values["vault_banner"]) == len(values["vault_x"]) == 40
    kept = [line for line in TEXT.splitlines() if not line.startswith(("vault_a:", "vault_banner", "  "))]
    assert [
        line for line in rotated.splitlines() if not line.startswith(("vault_a", "vault_banner", "vault_x", "  "))
    ] == [line for line in kept if not line.startswith("vault_a")]
    assert "vault_alice_api_key: 'k#1'   # for Alice" in rotated
    withdrawn = yaml.safe_load(write_secrets.edited(rotated, [], {}, ["vault_a", "vault_b"]))
    assert withdrawn == values | {"vault_a_previous": ""}


@pytest.mark.parametrize("text", ["{vault_a: 1}\n", "- vault_a\n", "vault_a: 1\n...\n", "vault_a: [\n"])
def test_vault_that_cannot_be_extended_is_left_unchanged(text: str) -> None:
    """An error is reported; no file with another meaning is written."""
    with pytest.raises((ValueError, yaml.YAMLError)):
        write_secrets.edited(text, ["vault_b"], {}, [])


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """Copy an environment without its vault."""
    copy = tmp_path / "production"
    shutil.copytree(PROJECT / "inventories/production", copy, ignore=shutil.ignore_patterns("vault.yml", "files"))
    return copy


def password(folder: Path, program: bool) -> Path:
    """Write a file that contains a password, or a program that prints another one."""
    file = folder / ("program" if program else "file")
    file.write_text("#!/bin/sh\necho from a program\n" if program else "from a file\n")
    file.chmod(0o700 if program else 0o600)
    return file


def view(vault: Path, *options: str) -> str:
    """Return the contents of a vault."""
    done = ansible("ansible-vault", "view", *options, vault)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("way", "program"), [("variable", True), ("list", False), ("file", True), ("id", False)])
def test_password_is_read_as_in_every_playbook(inventory: Path, tmp_path: Path, way: str, program: bool) -> None:
    """It is in a file or from a program, named in the environment or on the command line; the vault's ID stays."""
    source = password(tmp_path, program)
    vault = inventory / "group_vars/all/vault.yml"
    ways: dict[str, dict[str, str | Path]] = {
        "variable": {"ANSIBLE_VAULT_PASSWORD_FILE": source},
        "list": {"ANSIBLE_VAULT_IDENTITY_LIST": f"desk@{source}"},
    }
    options = {"file": ["--vault-password-file", str(source)], "id": ["--vault-id", f"desk@{source}"]}.get(way, [])
    labeled = way in ("list", "id")
    vault.write_text(TEXT)
    if labeled:
        argv = ["ansible-vault", "encrypt", "--vault-id", f"desk@{source}", "--encrypt-vault-id", "desk", str(vault)]
        subprocess.run(argv, check=True)
    done = ansible("ansible-playbook", "-i", inventory, *options, "playbooks/secrets.yml", **ways.get(way, {}))
    assert done.returncode == 0, done.stdout + done.stderr
    text = view(vault, "--vault-password-file", str(source))
    assert text.startswith(TEXT)
    assert set(SECRETS) <= set(yaml.safe_load(text))
    assert vault.read_text().splitlines()[0].endswith(";desk") is labeled


def test_without_a_password_nothing_is_written(inventory: Path) -> None:
    """The message states how to provide one."""
    done = ansible("ansible-playbook", "-i", inventory, "playbooks/secrets.yml")
    assert done.returncode == 2
    assert "No vault password. Type `make secrets ENV=…`" in " ".join((done.stdout + done.stderr).split())
    assert not (inventory / "group_vars/all/vault.yml").exists()


def test_second_run_changes_nothing(inventory: Path, tmp_path: Path) -> None:
    """A new vault is readable only by its owner."""
    own = {"ANSIBLE_VAULT_PASSWORD_FILE": password(tmp_path, False)}
    vault = inventory / "group_vars/all/vault.yml"
    for changed in (1, 0):
        before = vault.read_bytes() if vault.exists() else b""
        done = ansible("ansible-playbook", "-i", inventory, "playbooks/secrets.yml", **own)
        assert f"changed={changed} " in done.stdout, done.stdout + done.stderr
        assert (vault.read_bytes() == before) is (changed == 0)
    assert vault.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in vault.parent.iterdir() if path.name.startswith(".vault-")] == []
