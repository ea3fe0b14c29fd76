#!/usr/bin/python3
"""Puts the static files of a release beside those of former ones, and removes what none of the kept releases has.

static_files.py FOLDER KEPT RELEASE [WANTED …]

FOLDER/RELEASE.tar.gz is the release; its files go to FOLDER/static, where nginx finds them. FOLDER/releases/RELEASE
lists them, and is written last: a run that was killed left no list, and is repeated. The releases that are WANTED stay,
and of the others the KEPT newest.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

# A name and its sum; what gzip made of a file is one more.
NAME = re.compile(r"[A-Za-z0-9_-]+\.[0-9a-f]{12}\.[a-z0-9]+(?:\.gz)?")
SUMS = "SHA256SUMS"


def read(archive: Path) -> tuple[dict[str, bytes], float]:
    """Return the static files of a release, each checked against its sum, and the time that the archive gives them.

    A release from before there were any has none.
    """
    found: dict[str, bytes] = {}
    seconds = 0.0
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and (member.name == SUMS or member.name.startswith("static/")):
                found[member.name] = tar.extractfile(member).read()
                seconds = member.mtime
    lines = (line.split("  ", 1) for line in found.pop(SUMS).decode().splitlines())
    stated = {name: digest for digest, name in lines if name.startswith("static/")}
    if stated != {name: hashlib.sha256(content).hexdigest() for name, content in found.items()}:
        sys.exit(f"{archive}: the static files are not those that {SUMS} states. Build it anew («make release»).")
    files = {name.removeprefix("static/"): content for name, content in found.items()}
    wrong = sorted(name for name in files if not NAME.fullmatch(name))
    if wrong:
        sys.exit(f"{archive}: {', '.join(wrong)} must carry a part of its sum, like site.0123456789ab.css.")
    return files, seconds


class Folder:
    """What a load balancer has of all releases."""

    def __init__(self, root: Path) -> None:
        """Make the folders, if they are not there; nginx must be able to read them."""
        self.root, self.static, self.lists = root, root / "static", root / "releases"
        for folder in (self.static, self.lists):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755)

    def put(self, target: Path, content: bytes, seconds: float | None = None) -> None:
        """Write a file in one piece."""
        new = self.root / ".new"
        new.write_bytes(content)
        new.chmod(0o644)
        if seconds is not None:
            os.utime(new, (seconds, seconds))
        new.replace(target)

    def deliver(self, release: str) -> None:
        """Put the files of a release where nginx finds them, compressed by brotli as well, and list them."""
        files, seconds = read(self.root / f"{release}.tar.gz")
        for name, content in files.items():
            # Browsers compare times, and may ask any load balancer: they have the same.
            self.put(self.static / name, content, seconds)
            # One that has not been converged since there is brotli has no such program.
            if not name.endswith(".gz") and shutil.which("brotli"):
                argv = ["brotli", "--best", "--stdout", "--", str(self.static / name)]
                compressed = subprocess.run(argv, check=True, capture_output=True).stdout  # noqa: S603 (a name that was checked)
                self.put(self.static / f"{name}.br", compressed, seconds)
        self.put(self.lists / release, "".join(f"{name}\n" for name in sorted(files)).encode())

    def prune(self, kept: int, wanted: list[str]) -> None:
        """Remove the lists of the oldest releases, and then the files that no list names."""
        others = []
        for path in self.lists.iterdir():
            if path.name in wanted:
                # Clients may be sent there: when that ends, it counts as the newest of the others.
                path.touch()
            else:
                others.append(path)
        for path in sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)[kept:]:
            path.unlink()
        names = {name for path in self.lists.iterdir() for name in path.read_text().splitlines()}
        for path in self.static.iterdir():
            if path.name.removesuffix(".br") not in names:
                path.unlink()


def main(root: Path, kept: int, release: str, wanted: list[str]) -> None:
    """Deliver one release, and remove what is too old."""
    folder = Folder(root)
    folder.deliver(release)
    folder.prune(kept, [*wanted, release])
    (root / f"{release}.tar.gz").unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
