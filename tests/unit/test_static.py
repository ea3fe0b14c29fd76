"""The static files of releases on a load balancer: which are there, which stay, and what a killed run leaves."""

import hashlib
import importlib.util
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import pytest
from repository import PROJECT
from tradefleet.domains.pages import assets

PROGRAM = PROJECT / "roles/nginx/files/static_files.py"
# Stands in for Debian's program, which the machine that runs the tests need not have.
BROTLI = """#!/bin/sh
test "$1 $2 $3" = "--best --stdout --" && echo "small" && cat "$4"
"""


class Balancer:
    """What one load balancer has."""

    def __init__(self, folder: Path) -> None:
        """Make its folder, and that of the programs that it has."""
        self.root, self.programs = folder / "edge", folder / "bin"
        self.root.mkdir()
        self.programs.mkdir()
        (self.programs / "brotli").write_text(BROTLI)
        (self.programs / "brotli").chmod(0o755)
        (self.programs / "cat").symlink_to("/bin/cat")

    def archive(self, release: str, files: dict[str, bytes], sums: dict[str, bytes] | None = None) -> None:
        """Put a release there, as the role copies it; its sums are those of `sums`."""
        stated = files if sums is None else sums
        lines = [f"{hashlib.sha256(content).hexdigest()}  static/{name}\n" for name, content in stated.items()]
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
        """Deliver a release with a style sheet of its own and a script that all have."""
        self.archive(release, built(css or f"/* {release} */", "// the same"))
        done = self.deliver(release, *wanted, kept=kept)
        assert done.returncode == 0, done.stderr
        # The next one comes later.
        for path in self.lists.iterdir():
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 60))

    @property
    def lists(self) -> Path:
        """Where it is said which files a release has."""
        return self.root / "releases"

    def releases(self) -> set[str]:
        """Return the releases whose files are there, each of them."""
        found = {path.name for path in self.lists.iterdir()}
        for release in found:
            assert set((self.lists / release).read_text().split()) <= self.files()
        return found

    def files(self) -> set[str]:
        """Return what nginx finds."""
        return {path.name for path in (self.root / "static").iterdir()}


def built(css: str, js: str) -> dict[str, bytes]:
    """Return what a release makes of two files: each under its name, and compressed."""
    files: dict[str, bytes] = {}
    for stem, suffix, content in (("site", ".css", css), ("site", ".js", js)):
        name = f"{stem}.{hashlib.sha256(content.encode()).hexdigest()[:12]}{suffix}"
        files |= {name: content.encode(), f"{name}.gz": b"gzip " + content.encode()}
    return files


@pytest.fixture
def balancer(tmp_path: Path) -> Balancer:
    """Return one that nobody has touched."""
    return Balancer(tmp_path)


def test_what_a_release_builds_is_delivered(balancer: Balancer, tmp_path: Path) -> None:
    """The repository's own files: as they are, compressed by the release, and here; all of one time, and readable."""
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


def test_a_page_that_was_opened_before_a_cutover_finds_its_files_after_it(balancer: Balancer) -> None:
    """Those of the last three releases beside the wanted ones stay, older ones go, and what several have is kept."""
    for number in range(6):
        balancer.bring(f"1.{number}", f"1.{max(number - 1, 0)}")
    assert balancer.releases() == {"1.1", "1.2", "1.3", "1.4", "1.5"}
    gone = set(built("/* 1.0 */", "// the same"))
    assert {name.removesuffix(".gz").rpartition(".")[2] for name in gone & balancer.files()} == {"js"}
    balancer.bring("1.6", kept=0)
    assert balancer.releases() == {"1.6"}
    names = set(built("/* 1.6 */", "// the same"))
    assert balancer.files() == names | {f"{name}.br" for name in names if not name.endswith(".gz")}


def test_a_release_that_served_until_now_is_the_newest_of_the_others(balancer: Balancer) -> None:
    """However long ago it came, and however many were deployed meanwhile that never served."""
    balancer.bring("1.0")
    for number in range(1, 6):
        balancer.bring(f"1.{number}", "1.0", kept=2)
    assert balancer.releases() == {"1.0", "1.5", "1.4", "1.3"}
    balancer.bring("1.6", "1.5", kept=2)
    assert balancer.releases() == {"1.6", "1.5", "1.0", "1.4"}


def test_a_killed_run_is_repeated(balancer: Balancer) -> None:
    """Until the list is there nothing counts as delivered; what it left is taken over, or removed."""
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
def test_files_other_than_the_release_states_are_not_served(balancer: Balancer, change: str) -> None:
    """None of them, and the release counts as not delivered."""
    files = built("a", "b")
    stated = dict(files)
    match change:
        case "changed":
            files[next(iter(files))] += b"x"
        case "added":
            files |= built("c", "b")
        case _:
            del files[next(iter(files))]
    balancer.archive("1.0", files, stated)
    done = balancer.deliver("1.0")
    assert done.returncode != 0
    assert "the static files are not those that SHA256SUMS states" in done.stderr
    assert (balancer.files(), balancer.releases()) == (set(), set())


@pytest.mark.parametrize("name", ["site.css", "../x.0123456789ab.css", "sub/x.0123456789ab.css", ".x.0123456789ab.css"])
def test_a_name_that_could_get_other_contents_is_refused(balancer: Balancer, name: str) -> None:
    """Browsers would keep the first ones for a year; and no name leads elsewhere."""
    balancer.archive("1.0", {name: b"x"})
    done = balancer.deliver("1.0")
    assert done.returncode != 0
    assert f"{name} must contain a part of its checksum" in done.stderr
    assert balancer.files() == set()


def test_a_release_without_static_files_has_none(balancer: Balancer) -> None:
    """As those were that are from before there were any; and a load balancer may have no brotli yet."""
    balancer.archive("0.9", {})
    assert balancer.deliver("0.9").returncode == 0
    assert (balancer.files(), balancer.releases()) == (set(), {"0.9"})
    (balancer.programs / "brotli").unlink()
    files = built("a", "b")
    balancer.archive("1.0", files)
    assert balancer.deliver("1.0").returncode == 0
    assert balancer.files() == set(files)


def test_every_name_that_a_release_gives_is_accepted() -> None:
    """The two sides share the form of a name."""
    spec = importlib.util.spec_from_file_location("static_files", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    program: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    names = assets.names().values()
    assert names
    assert all(program.NAME.fullmatch(name) and program.NAME.fullmatch(f"{name}.gz") for name in names)
