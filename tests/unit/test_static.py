"""Static files of releases on a load balancer: which exist, which are kept, and what a killed run leaves."""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from repository import PROJECT, module
from tradefleet.domains.pages import assets

PROGRAM = PROJECT / "roles/nginx/files/static_files.py"
# Stands in for Debian's program, which the machine that runs the tests may not have.
BROTLI = """#!/bin/sh
test "$1 $2 $3" = "--best --stdout --" && echo "small" && cat "$4"
"""


class Balancer:
    """The files of one load balancer."""

    def __init__(self, folder: Path) -> None:
        """Create its folder, and the folder of its programs."""
        self.root, self.programs = folder / "edge", folder / "bin"
        self.root.mkdir()
        self.programs.mkdir()
        (self.programs / "brotli").write_text(BROTLI)
        (self.programs / "brotli").chmod(0o755)
        (self.programs / "cat").symlink_to("/bin/cat")

    def archive(self, release: str, files: dict[str, bytes], checksums: dict[str, bytes] | None = None) -> None:
        """Write a release's archive as the role copies it; its checksums are those of `checksums`."""
        listed = files if checksums is None else checksums
        lines = [f"{hashlib.sha256(content).hexdigest()}  static/{name}\n" for name, content in listed.items()]
        members = {f"static/{name}": content for name, content in files.items()}
        members |= {"SHA256SUMS": f"{'0' * 64}  wheels/x.whl\n{''.join(lines)}".encode(), "wheels/x.whl": b"wheel"}
        with tarfile.open(self.root / f"{release}.tar.gz", "w:gz") as tar:
            for name, content in members.items():
                member = tarfile.TarInfo(name)
                member.size, member.mtime = len(content), 315532800
                tar.addfile(member, io.BytesIO(content))

    def deliver(self, release: str, *wanted: str, kept: int = 3) -> subprocess.CompletedProcess[str]:
        """Run the program as the role does."""
        argv = [sys.executable, str(PROGRAM), str(self.root), str(kept), release, *wanted]
        return subprocess.run(argv, env={"PATH": str(self.programs)}, capture_output=True, text=True, check=False)

    def bring(self, release: str, *wanted: str, kept: int = 3, css: str = "") -> None:
        """Deliver a release with its own style sheet and a script that all releases share."""
        self.archive(release, built(css or f"/* {release} */", "// the same"))
        done = self.deliver(release, *wanted, kept=kept)
        assert done.returncode == 0, done.stderr
        # The next release is newer.
        for path in self.lists.iterdir():
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 60))

    @property
    def lists(self) -> Path:
        """Return the folder with the list of each release's files."""
        return self.root / "releases"

    def releases(self) -> set[str]:
        """Return the releases whose files are all present."""
        found = {path.name for path in self.lists.iterdir()}
        for release in found:
            assert set((self.lists / release).read_text().split()) <= self.files()
        return found

    def files(self) -> set[str]:
        """Return the files that nginx serves."""
        return {path.name for path in (self.root / "static").iterdir()}


def built(css: str, js: str) -> dict[str, bytes]:
    """Return the files that a release makes of two sources: under its name, and compressed."""
    files: dict[str, bytes] = {}
    for stem, suffix, content in (("site", ".css", css), ("site", ".js", js)):
        name = f"{stem}.{hashlib.sha256(content.encode()).hexdigest()[:12]}{suffix}"
        files |= {name: content.encode(), f"{name}.gz": b"gzip " + content.encode()}
    return files


@pytest.fixture
def balancer(tmp_path: Path) -> Balancer:
    """Return a load balancer without releases."""
    return Balancer(tmp_path)


def test_files_of_a_release_are_delivered(balancer: Balancer, tmp_path: Path) -> None:
    """The repository's own files are delivered plain and in two compressed forms, with one timestamp, and readable."""
    assets.build(tmp_path / "built")
    files = {path.name: path.read_bytes() for path in (tmp_path / "built").iterdir()}
    balancer.archive("1.0.0", files)
    old = os.umask(0o077)
    try:
        done = balancer.deliver("1.0.0")
    finally:
        os.umask(old)
    assert done.returncode == 0, done.stderr
    plain = {name for name in files if not name.endswith(".gz")}
    assert balancer.files() == {*files, *(f"{name}.br" for name in plain)}
    for name in plain:
        assert (balancer.root / "static" / name).read_bytes() == files[name]
        assert (balancer.root / "static" / f"{name}.br").read_bytes() == b"small\n" + files[name]
    for path in (balancer.root / "static").iterdir():
        assert (path.stat().st_mtime, path.stat().st_mode & 0o777) == (315532800, 0o644)
    assert (balancer.root / "static").stat().st_mode & 0o777 == 0o755
    assert {path.name for path in balancer.root.iterdir()} == {"static", "releases"}


def test_page_of_a_former_release_finds_its_files_after_a_cutover(balancer: Balancer) -> None:
    """The last three other releases stay, older ones are removed, and files that several releases share are kept."""
    for number in range(6):
        balancer.bring(f"1.{number}", f"1.{max(number - 1, 0)}")
    assert balancer.releases() == {"1.1", "1.2", "1.3", "1.4", "1.5"}
    gone = set(built("/* 1.0 */", "// the same"))
    assert {name.removesuffix(".gz").rpartition(".")[2] for name in gone & balancer.files()} == {"js"}
    balancer.bring("1.6", kept=0)
    assert balancer.releases() == {"1.6"}
    names = set(built("/* 1.6 */", "// the same"))
    assert balancer.files() == names | {f"{name}.br" for name in names if not name.endswith(".gz")}


def test_release_that_was_live_counts_as_the_newest_of_the_others(balancer: Balancer) -> None:
    """It may be old, and any number of releases that never served may have been deployed since."""
    balancer.bring("1.0")
    for number in range(1, 6):
        balancer.bring(f"1.{number}", "1.0", kept=2)
    assert balancer.releases() == {"1.0", "1.5", "1.4", "1.3"}
    balancer.bring("1.6", "1.5", kept=2)
    assert balancer.releases() == {"1.6", "1.5", "1.0", "1.4"}


def test_killed_run_is_completed(balancer: Balancer) -> None:
    """A release counts as delivered only with its list; leftovers are reused or removed."""
    balancer.bring("1.0", css="/* before */")
    (balancer.root / "static/site.0123456789ab.css").write_text("half")
    (balancer.root / ".new").write_text("half")
    files = built("/* 1.1 */", "// the same")
    (name,) = [name for name in files if name.endswith(".css")]
    (balancer.root / "static" / name).write_text("ha")
    balancer.bring("1.1", "1.0")
    assert (balancer.root / "static" / name).read_bytes() == files[name]
    assert "site.0123456789ab.css" not in balancer.files()
    before = {path: path.read_bytes() for path in balancer.root.rglob("*") if path.is_file()}
    balancer.bring("1.1", "1.0")
    assert {path: path.read_bytes() for path in balancer.root.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("change", ["changed", "added", "missing"])
def test_files_that_differ_from_the_release_are_not_served(balancer: Balancer, change: str) -> None:
    """None is served, and the release does not count as delivered."""
    files = built("a", "b")
    listed = dict(files)
    match change:
        case "changed":
            files[next(iter(files))] += b"x"
        case "added":
            files |= built("c", "b")
        case _:
            del files[next(iter(files))]
    balancer.archive("1.0", files, listed)
    done = balancer.deliver("1.0")
    assert done.returncode != 0
    assert "the static files are not those that SHA256SUMS states" in done.stderr
    assert (balancer.files(), balancer.releases()) == (set(), set())


@pytest.mark.parametrize("name", ["site.css", "../x.0123456789ab.css", "sub/x.0123456789ab.css", ".x.0123456789ab.css"])
def test_name_without_a_checksum_or_with_a_path_is_refused(balancer: Balancer, name: str) -> None:
    """Browsers would keep the first contents for a year, and a path could lead elsewhere."""
    balancer.archive("1.0", {name: b"x"})
    done = balancer.deliver("1.0")
    assert done.returncode != 0
    assert f"{name} must contain a part of its checksum" in done.stderr
    assert balancer.files() == set()


def test_release_without_static_files_has_none(balancer: Balancer) -> None:
    """Such releases predate static files; a load balancer may also lack brotli."""
    balancer.archive("0.9", {})
    assert balancer.deliver("0.9").returncode == 0
    assert (balancer.files(), balancer.releases()) == (set(), {"0.9"})
    (balancer.programs / "brotli").unlink()
    files = built("a", "b")
    balancer.archive("1.0", files)
    assert balancer.deliver("1.0").returncode == 0
    assert balancer.files() == set(files)


def test_every_name_of_a_release_is_accepted() -> None:
    """Both programs use the same form of names."""
    program = module(PROGRAM)
    names = assets.names().values()
    assert names
    assert all(program.NAME.fullmatch(name) and program.NAME.fullmatch(f"{name}.gz") for name in names)
