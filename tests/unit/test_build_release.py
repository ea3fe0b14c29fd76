"""A release has the same bytes for the same input, and an existing one never gets other contents."""

import hashlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
from repository import PROJECT
from tradefleet.domains.pages import assets

OTHER = "other-1.0-py3-none-any.whl"
PIN = f"other==1.0 --hash=sha256:{'0' * 64}\n"
# Each of these would change the bytes or the contents if it had an effect.
HOSTILE = {
    "GIT_DIR": "/nonexistent",
    "GZIP": "-1",
    "LANG": "de_DE.UTF-8",
    "LC_ALL": "C",
    "PYTHONPATH": "/nonexistent",
    "SOURCE_DATE_EPOCH": "1700000000",
    "TAR_OPTIONS": "--exclude=manifest.json",
}
GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@tradefleet.test")


class Checkout:
    """A checkout with the application, whose only requirement is already downloaded."""

    def __init__(self, folder: Path) -> None:
        """Copy the sources of a release, and commit them."""
        self.folder = folder / "trade fleet, März"
        for name in ("pyproject.toml", "tools/build_release.py", "playbooks/group_vars/all/wiring.yml"):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, self.folder / name)
        package = self.folder / "app/tradefleet"
        shutil.copytree(PROJECT / "app/tradefleet", package, ignore=shutil.ignore_patterns("__pycache__"))
        self.requirements = self.folder / "app/requirements.txt"
        self.requirements.write_text(PIN)
        self.build = self.folder / "build"
        self.wheels = self.build / f"wheels-{hashlib.sha256(PIN.strip().encode()).hexdigest()[:16]}"
        self.wheels.mkdir(parents=True)
        (self.wheels / OTHER).write_bytes(b"a wheel")
        (self.folder / ".gitignore").write_text("build/\ndist/\n")
        self.git("init", "--quiet")
        self.commit()

    def git(self, *arguments: str) -> str:
        """Run git in the checkout and return its output."""
        return subprocess.run([*GIT, *arguments], cwd=self.folder, check=True, capture_output=True, text=True).stdout

    def commit(self) -> None:
        """Commit all changes."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=test")

    def command(self, *arguments: str, python: str = sys.executable) -> list[str]:
        """Return the command that builds a release."""
        return [python, str(self.folder / "tools/build_release.py"), *arguments]

    def run(self, *arguments: str, umask: int = 0o022, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a build, which may fail."""
        return subprocess.run(
            self.command(*arguments),
            env=os.environ | environment,
            umask=umask,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def release(self, version: str) -> Path:
        """Build a release and return its archive."""
        done = self.run("--version", version)
        assert done.returncode == 0, done.stderr
        return self.archive(version)

    def archive(self, version: str) -> Path:
        """Return the path of a release's archive."""
        return self.folder / f"dist/tradefleet-{version}.tar.gz"

    def left(self) -> set[str]:
        """Return what builds have left behind, without releases and the wheels of other projects."""
        found = {*self.build.iterdir(), *self.folder.glob("dist/*")} - {self.wheels}
        return {path.name for path in found if not re.fullmatch(r"tradefleet-[\w.-]+\.tar\.gz", path.name)}


@pytest.fixture(name="checkout")
def checkout_fixture(tmp_path: Path) -> Checkout:
    """Return a checkout of this test."""
    return Checkout(tmp_path)


def checksum(content: bytes) -> str:
    """Return the SHA-256 of some bytes."""
    return hashlib.sha256(content).hexdigest()


def contents(archive: Path) -> dict[str, bytes]:
    """Return the files of a release, with their contents."""
    with tarfile.open(archive) as tar:
        return {file.name: tar.extractfile(file).read() for file in tar if file.isfile()}  # type: ignore[union-attr]  # (a file has one)


def test_release_holds_what_its_manifest_and_checksums_name(checkout: Checkout) -> None:
    """A killed run's leftovers are not in it, and this run leaves nothing behind."""
    (checkout.build / "release/release/wheels").mkdir(parents=True)
    (checkout.build / "release/release/wheels/former.whl").touch()
    files = contents(checkout.release("1.2.3-rc1"))
    [own] = [name for name in files if name.startswith("wheels/tradefleet-")]
    static = {f"static/{served}" for served in assets.names().values()}
    static |= {f"{name}.gz" for name in static}
    parts = {own, f"wheels/{OTHER}", *static}
    assert set(files) == {"manifest.json", "requirements.txt", "SHA256SUMS", *parts}
    lines = [line.split("  ") for line in files["SHA256SUMS"].decode().splitlines()]
    assert {name: found for found, name in lines} == {name: checksum(files[name]) for name in parts}
    assert json.loads(files["manifest.json"]) == {
        "name": "tradefleet",
        "release": "1.2.3-rc1",
        "commit": checkout.git("log", "-1", "--format=%h", "--abbrev=12").strip(),
        "python": "3.13",
        "wheels": {name.removeprefix("wheels/"): checksum(files[name]) for name in (own, f"wheels/{OTHER}")},
    }
    version = own.split("-")[1]
    pin = f"tradefleet=={version} --hash=sha256:{checksum(files[own])}\n"
    assert files["requirements.txt"].decode() == PIN + pin
    assert checkout.left() == set()


def test_same_input_gives_the_same_bytes(checkout: Checkout, tmp_path: Path) -> None:
    """They do not depend on umask, locale, environment or time, nor on the umask with which the checkout was created.

    Documents and playbooks may change without a new version, and so may traffic.yml, even uncommitted.
    """
    archive = checkout.release("1.2.3")
    (checkout.folder / "README.md").write_text("more\n")
    checkout.commit()
    (checkout.folder / "README.md").write_text("uncommitted\n")
    for path in checkout.folder.glob("app/**/*"):
        os.utime(path, (1_600_000_000, 1_600_000_000))
        path.chmod(path.stat().st_mode & ~0o077)
    (checkout.folder / "app/tradefleet/__pycache__").mkdir()
    (checkout.folder / "app/tradefleet/__pycache__/stray.pyc").touch()
    (checkout.folder / ".git/info/exclude").write_text("__pycache__/\n")
    other = tmp_path / "elsewhere" / "other.tar.gz"
    done = checkout.run("--version", "1.2.3", "--output", str(other), umask=0o077, **HOSTILE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"other.tar.gz sha256:{checksum(archive.read_bytes())}\n")
    assert other.read_bytes() == archive.read_bytes()
    with tarfile.open(archive) as tar:
        assert {(file.mode, file.uid, file.gid, file.mtime) for file in tar if file.isfile()} == {
            (0o644, 0, 0, 315532800)
        }
        [own] = [file for file in tar if file.name.startswith("wheels/tradefleet-")]
        with zipfile.ZipFile(tar.extractfile(own)) as wheel:  # type: ignore[arg-type]  # (a file has one)
            assert {stat.S_IMODE(file.external_attr >> 16) for file in wheel.infolist()} <= {0o644, 0o664}


def test_existing_version_never_gets_other_contents(checkout: Checkout) -> None:
    """The message has the remedy; another version accepts the changed sources and reports them as modified."""
    archive = checkout.archive("1.2.3")
    archive.parent.mkdir()
    archive.write_bytes(b"another release")
    with (checkout.folder / "app/tradefleet/__init__.py").open("a") as file:
        file.write("# changed\n")
    done = checkout.run("--version", "1.2.3")
    assert done.returncode == 1
    assert f"{archive} exists with other contents" in done.stderr
    assert "--version" in done.stderr
    assert archive.read_bytes() == b"another release"
    assert checkout.left() == set()
    manifest = json.loads(contents(checkout.release("1.2.4"))["manifest.json"])
    assert manifest["commit"].endswith("-modified")


@pytest.mark.parametrize("version", ["", "1.2.3+fix", "../1", "v1", "1.2.3\n", "1" * 65])
def test_invalid_version_is_refused(version: str) -> None:
    """It is refused before anything is built; preflight uses the same pattern (tests/repo/test_limits.py)."""
    command = [sys.executable, "tools/build_release.py", "--version", version]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert f'The version of the release is "{version}"; it must look like 1.2.3' in done.stderr


def test_version_is_that_of_the_sources_unless_given(checkout: Checkout) -> None:
    """`--source` names another checkout; the release is stored in this one."""
    pyproject = checkout.folder / "pyproject.toml"
    pyproject.write_text(re.sub(r'(?m)^version = ".*"', 'version = "7.8.9"', pyproject.read_text()))
    other = Checkout(checkout.folder.parent / "other")
    done = other.run("--source", str(checkout.folder))
    assert done.returncode == 0, done.stderr
    files = contents(other.archive("7.8.9"))
    assert "wheels/tradefleet-7.8.9-py3-none-any.whl" in files
    assert json.loads(files["manifest.json"])["commit"].endswith("-modified")
    assert not checkout.archive("7.8.9").exists()


def test_failed_download_of_wheels_is_reported_and_leaves_nothing(checkout: Checkout) -> None:
    """No archive is left, and no partial set of wheels that a later run would regard as complete."""
    checkout.requirements.write_text(PIN.replace("1.0", "2.0"))
    done = checkout.run("--version", "1.2.3", PIP_NO_INDEX="1")
    assert done.returncode == 1
    assert "pip download" in done.stderr
    assert "other==2.0" in done.stderr
    assert "Traceback" not in done.stderr
    assert not checkout.archive("1.2.3").exists()
    assert checkout.left() == set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_build_leaves_nothing(checkout: Checkout, tmp_path: Path, number: signal.Signals) -> None:
    """Its last program, tar, takes long; the partial archive is removed."""
    programs = tmp_path / "bin"
    programs.mkdir()
    tar = programs / "tar"
    tar.write_text(
        '#!/bin/sh\nfor word; do case $word in --file=*) : > "${word#--file=}";; esac; done\nexec sleep 60\n'
    )
    tar.chmod(0o755)
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}
    partial = Path(f"{checkout.archive('1.2.3')}.partial")
    with subprocess.Popen(
        checkout.command("--version", "1.2.3"),
        env=environment,
        stderr=subprocess.PIPE,
        # A shell ignores SIGINT in what it runs in the background, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        deadline = time.monotonic() + 30
        while not partial.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert partial.exists()
        process.send_signal(number)
        _, errors = process.communicate(timeout=10)
    assert process.returncode == 128 + number, errors
    assert checkout.left() == set()
    assert not checkout.archive("1.2.3").exists()


def test_concurrent_builds_give_the_same_release(checkout: Checkout) -> None:
    """`make -j2` runs them like this; each waits for the other."""
    command = checkout.command("--version", "1.2.3")
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    printed = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    assert printed[0] == printed[1]
    assert checkout.left() == set()


def test_python_without_pip_is_reported_with_the_virtualenv(checkout: Checkout, tmp_path: Path) -> None:
    """A controller's own Python may lack pip."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    command = checkout.command("--version", "1.2.3", python=str(tmp_path / "bare/bin/python"))
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "has no pip and no setuptools" in done.stderr
    assert ".venv/bin/python tools/build_release.py" in done.stderr
