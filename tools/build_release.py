"""Builds `dist/tradefleet-VERSION.tar.gz`, the release that `deploy.yml` and `site.yml` put on hosts.

    python tools/build_release.py --version 1.2.3

It contains the wheels of the application and its dependencies, for the Python of the hosts, and the static files for
the load balancers, with a manifest and checksums. The same input gives the same bytes with any umask, locale and
environment. The contents of an existing release never change. Run this with the Python of the controller's virtualenv,
whose pip and setuptools it uses. Concurrent runs in one checkout wait for each other.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
# The Python of Debian 13, and the platforms whose wheels it can use.
PYTHON = "3.13"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux2014_x86_64", "manylinux_2_17_x86_64")
# A program of the application names and compresses its static files; its pages use the same rule.
ASSETS = "app/tradefleet/domains/pages/assets.py"
# The time of every file in the archives. Any fixed time works; this is 1980-01-01, the earliest one in a wheel.
EPOCH = "315532800"
# Variables that a login shell may set and that would change what is built.
FOREIGN = {"GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE", "GZIP", "TAR_OPTIONS"}
FOREIGN |= {"PYTHONHOME", "PYTHONOPTIMIZE", "PYTHONPATH", "PYTHONSAFEPATH"}


class ReleaseError(Exception):
    """The release cannot be built; the message names what to change."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Build a release and print its path and checksum; return 1, with the reason on standard error, if it fails."""
    options = _parser().parse_args(arguments)
    os.umask(0o022)
    # Like Ctrl-C: an incomplete release is removed before the program exits.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        source = options.source.resolve()
        version = options.version
        if version is None:
            version = tomllib.loads((source / "pyproject.toml").read_text("utf-8"))["project"]["version"]
        check(version)
        tarball = (options.output or PROJECT / f"dist/tradefleet-{version}.tar.gz").absolute()
        build(source, version, tarball)
    except (ReleaseError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    print(f"{tarball} sha256:{_checksum(tarball)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Build a release of the application.", allow_abbrev=False)
    parser.add_argument("--version", help="version of the release [version in pyproject.toml]")
    parser.add_argument("--source", type=Path, default=PROJECT, help="checkout whose application is built [this one]")
    parser.add_argument("--output", type=Path, help="file to write [dist/tradefleet-VERSION.tar.gz of this checkout]")
    return parser


def check(version: str) -> None:
    """Raise ReleaseError unless this Python can build a release and `version` can be its name."""
    # This pattern exists once, in the wiring: preflight.yml checks the releases in traffic.yml with it.
    wiring = (PROJECT / "playbooks/group_vars/all/wiring.yml").read_text("utf-8")
    [pattern] = re.findall(r"^release_pattern: (.+)$", wiring, re.MULTILINE)
    if not re.fullmatch(pattern, version):
        raise ReleaseError(
            f'The version of the release is "{version}"; it must look like 1.2.3 or 1.2.3-rc1: a digit, then up to 63 '
            "digits, letters, dots and hyphens. Type another one: --version 1.2.3 (make: VERSION=1.2.3)."
        )
    missing = [name for name in ("pip", "setuptools") if importlib.util.find_spec(name) is None]
    if missing:
        raise ReleaseError(
            f"{sys.executable} has no {' and no '.join(missing)}. Run this program with the controller's virtualenv: "
            "`.venv/bin/python tools/build_release.py` (created by `make venv`; see docs/install.md)."
        )


def build(source: Path, version: str, tarball: Path) -> None:
    """Build the release of a checkout's application; keep only the archive and the downloaded wheels."""
    with _work() as work:
        release, copy = work / "release", work / "source"
        shutil.copytree(_wheels(source / "app/requirements.txt", work), release / "wheels")
        _copy_sources(source, copy)
        if not (copy / ASSETS).exists():
            raise ReleaseError(
                f"{source} has no {ASSETS}. Build a release of that version with the program of its own checkout."
            )
        _run(sys.executable, "-I", str(copy / ASSETS), str(release / "static"))
        options = ("--no-deps", "--no-index", "--no-build-isolation", "--check-build-dependencies")
        _pip("wheel", *options, "--wheel-dir", str(work / "own"), str(copy))
        [own] = (work / "own").iterdir()
        shutil.copy(own, release / "wheels")
        _describe(release, source, version, own.name)
        _pack(release, tarball)


@contextlib.contextmanager
def _work() -> Iterator[Path]:
    """Yield an empty folder that only this run uses, and remove it afterward; also one that a killed run left."""
    folder = PROJECT / "build"
    folder.mkdir(exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    work = folder / "release"
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)
    finally:
        os.close(lock)


def _wheels(requirements: Path, work: Path) -> Path:
    """Return the folder with the wheels of other projects, downloaded once for each set of requirements."""
    wheels = PROJECT / f"build/wheels-{hashlib.sha256(_pins(requirements).encode()).hexdigest()[:16]}"
    if not wheels.exists():
        fetched = work / "wheels"
        fetched.mkdir()
        options = ["--require-hashes", "--no-deps", "--only-binary=:all:", "--implementation", "cp"]
        options += ["--python-version", PYTHON, *(f"--platform={platform}" for platform in PLATFORMS)]
        _pip("download", *options, "--requirement", str(requirements), "--dest", str(fetched))
        fetched.rename(wheels)
    return wheels


def _copy_sources(source: Path, copy: Path) -> None:
    """Copy the sources of the wheel and nothing else, with modes that do not depend on the umask."""
    copy.mkdir()
    shutil.copy(source / "pyproject.toml", copy)
    shutil.copytree(source / "app/tradefleet", copy / "app/tradefleet", ignore=shutil.ignore_patterns("__pycache__"))
    for path in copy.rglob("*"):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o111 else 0o644)


def _describe(release: Path, source: Path, version: str, own: str) -> None:
    """Write the manifest, the checksums and the requirements that pip installs on a host."""
    wheels = {path.name: _checksum(path) for path in sorted(release.glob("wheels/*"))}
    static = {path.name: _checksum(path) for path in sorted(release.glob("static/*"))}
    parts = ("--", "app", "pyproject.toml")
    # The last commit that changed what is built: with any other commit the release stays the same.
    commit = _run("git", "-C", str(source), "log", "-1", "--format=%h", "--abbrev=12", *parts).strip()
    modified = _run("git", "-C", str(source), "status", "--porcelain", *parts)
    manifest = {
        "name": "tradefleet",
        "release": version,
        "commit": commit + ("-modified" if modified else ""),
        "python": PYTHON,
        "wheels": wheels,
    }
    (release / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    checksums = [f"{checksum}  wheels/{name}\n" for name, checksum in wheels.items()]
    checksums += [f"{checksum}  static/{name}\n" for name, checksum in static.items()]
    (release / "SHA256SUMS").write_text("".join(checksums))
    # With a hash of the application's own wheel, too, so that pip verifies everything it installs.
    pin = f"tradefleet=={own.split('-')[1]} --hash=sha256:{wheels[own]}"
    (release / "requirements.txt").write_text(f"{_pins(source / 'app/requirements.txt')}\n{pin}\n", "utf-8")


def _pack(release: Path, tarball: Path) -> None:
    """Pack the release and move it to its place, unless that version exists with other contents."""
    tarball.parent.mkdir(parents=True, exist_ok=True)
    partial = tarball.with_name(f"{tarball.name}.partial")
    options = ["--use-compress-program=gzip --no-name", "--sort=name", "--format=gnu", f"--mtime=@{EPOCH}"]
    options += ["--owner=0", "--group=0", "--numeric-owner", "--mode=u=rwX,go=rX", f"--directory={release}"]
    names = ["manifest.json", "requirements.txt", "SHA256SUMS", "static", "wheels"]
    try:
        _run("tar", "--create", f"--file={partial}", "--force-local", *options, *names)
        if tarball.exists() and _checksum(tarball) != _checksum(partial):
            raise ReleaseError(
                f"{tarball} exists with other contents (sources or commit have changed since), and hosts may run it. "
                "Releases never change: raise version in pyproject.toml, or build another version: --version 1.2.3 "
                "(make: VERSION=1.2.3)."
            )
        partial.replace(tarball)
    finally:
        partial.unlink(missing_ok=True)


def _pins(requirements: Path) -> str:
    return requirements.read_text("utf-8").rstrip()


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pip(command: str, *arguments: str) -> None:
    _run(sys.executable, "-m", "pip", command, "--quiet", "--disable-pip-version-check", *arguments)


def _run(*command: str) -> str:
    """Run a command and return its output; raise ReleaseError with its messages if it fails."""
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    environment |= {"LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": EPOCH}
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        output = (done.stderr + done.stdout).strip()
        raise ReleaseError(f"{' '.join(command)} failed with status {done.returncode}:\n{output}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
