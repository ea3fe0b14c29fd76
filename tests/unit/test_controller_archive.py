"""The archive of the controller: what a restore refuses, and what an interrupted one leaves."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tools import controller_archive
from tools.controller_archive import ArchiveError, Repository, prune, restore, store


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository in a folder of this machine."""
    return Repository(str(tmp_path / "repository"), "", "", "passphrase")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with two files that git does not know, and one that it does."""
    folder = tmp_path / "project"
    for name in ("vault.yml", "ca.key", "traffic.yml"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"{name}\n")
    (folder / "ca.key").chmod(0o600)
    for words in ("init --quiet", "add traffic.yml", "commit --quiet --message=x"):
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.com")
        subprocess.run(["git", *identity, *words.split()], cwd=folder, check=True)
    monkeypatch.setattr(controller_archive, "PROJECT", folder)
    return folder


def archived(repository: Repository, project: Path) -> None:
    """Archive the checkout's files."""
    assert store(repository, [project / name for name in ("vault.yml", "ca.key", "traffic.yml")], dry=False)["changed"]


def test_files_return_with_their_modes_and_those_of_git_are_replaced(repository: Repository, project: Path) -> None:
    """A deploy has changed traffic.yml, whose former content is in git."""
    (project / "traffic.yml").write_text("green\n")
    archived(repository, project)
    subprocess.run(["git", "checkout", "--quiet", "traffic.yml"], cwd=project, check=True)
    for name in ("vault.yml", "ca.key"):
        (project / name).unlink()
    assert len(restore(repository, "")["files"]) == 3
    assert (project / "traffic.yml").read_text() == "green\n"
    assert (project / "ca.key").stat().st_mode & 0o777 == 0o600
    assert restore(repository, "") == restore(repository, "") | {"changed": False}


def test_different_file_and_different_commit_are_refused(repository: Repository, project: Path) -> None:
    """Before any file is restored. The message names the file, or the commit to check out."""
    archived(repository, project)
    (project / "vault.yml").write_text("another\n")
    (project / "ca.key").unlink()
    with pytest.raises(ArchiveError, match=r"move them away: .*/vault\.yml\. Nothing was changed"):
        restore(repository, "")
    assert not (project / "ca.key").exists()
    shutil.rmtree(project / ".git")
    with pytest.raises(ArchiveError, match=r"`git checkout [0-9a-f]{40}`"):
        restore(repository, "")


def test_killed_restore_leaves_complete_files_and_the_next_run_continues(
    repository: Repository, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed between two files."""
    archived(repository, project)
    (project / "vault.yml").unlink()
    (project / "ca.key").unlink()
    replace = Path.replace

    def killed(path: Path, target: Path) -> Path:
        if target.name == "vault.yml":
            raise KeyboardInterrupt
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        restore(repository, "")
    monkeypatch.setattr(Path, "replace", replace)
    assert [(project / name).exists() for name in ("ca.key", "vault.yml")] == [True, False]
    assert restore(repository, "")["files"] == [str(project / "vault.yml")]
    assert sorted(path.name for path in project.iterdir() if path.is_file()) == ["ca.key", "traffic.yml", "vault.yml"]


def test_archive_of_the_future_prevents_pruning(repository: Repository, project: Path) -> None:
    """All others would be too old."""
    archived(repository, project)
    assert prune(repository, 48, 30) == {"changed": False, "removed": 0, "kept": 1}
    repository.run("backup", "--stdin", "--stdin-filename=/x", "--time=2199-01-01 00:00:00", stdin=b"x")
    with pytest.raises(ArchiveError, match="from the future"):
        prune(repository, 48, 30)
    assert len(repository.snapshots()) == 2


def test_repository_that_lost_a_file_is_not_pruned(repository: Repository, project: Path, tmp_path: Path) -> None:
    """Even if no archive is old enough: a copy may still have the file."""
    archived(repository, project)
    packs = (path for path in (tmp_path / "repository/data").rglob("*") if path.is_file())
    max(packs, key=lambda path: path.stat().st_size).unlink()
    with pytest.raises(ArchiveError, match="repository contains errors"):
        prune(repository, 48, 30)


def test_missing_path_and_missing_restic_are_reported(
    repository: Repository, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is archived; the message has the remedy."""
    with pytest.raises(ArchiveError, match=r"gone does not exist\. Nothing was archived"):
        store(repository, [project / "gone"], dry=False)
    monkeypatch.setattr(os, "environ", {"PATH": "/nonexistent"})
    missing = Repository("/nonexistent", "", "", "passphrase")
    with pytest.raises(ArchiveError, match="apt-get install restic"):
        missing.snapshots()


def test_command_with_quotes_reaches_ssh_whole(tmp_path: Path) -> None:
    """restic reads its options as lines of a CSV file, and splits the command as a shell does."""
    ssh = tmp_path / "ssh"
    ssh.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/seen\nexit 1\n')
    ssh.chmod(0o755)
    reached = Repository("/srv/x", f"""{ssh} -o 'UserKnownHostsFile="/a b/%h",x' ops""", "owner", "passphrase")
    with pytest.raises(ArchiveError):
        reached.snapshots()
    words = (tmp_path / "seen").read_text().splitlines()
    assert words[:4] == ["-o", 'UserKnownHostsFile="/a b/%h",x', "ops", "sudo"]
    assert json.dumps(words[4:6]) == '["--non-interactive", "--user=owner"]'
