#!/usr/bin/python3
"""Add the static files of a release to those of former releases, and remove files that no kept release contains.

static_files.py FOLDER KEPT RELEASE [WANTED …]

FOLDER/RELEASE.tar.gz is the release. Its files are stored in FOLDER/static, where nginx serves them.
FOLDER/releases/RELEASE lists them and is written last: a run that was killed leaves no list, and is repeated. The
WANTED releases are kept, and the KEPT newest of the others.
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

# A name that contains a part of the checksum; a gzip-compressed copy has one more suffix.
NAME = re.compile(r"[A-Za-z0-9_-]+\.[0-9a-f]{12}\.[a-z0-9]+(?:\.gz)?")
SUMS = "SHA256SUMS"


def read(archive: Path) -> tuple[dict[str, bytes], float]:
    """Return the static files of a release after verifying their checksums, and the modification time in the archive.

    A release that predates static files has none.
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
        sys.exit(f"{archive}: the static files are not those that {SUMS} states. Build it again (`make release`).")
    files = {name.removeprefix("static/"): content for name, content in found.items()}
    wrong = sorted(name for name in files if not NAME.fullmatch(name))
    if wrong:
        sys.exit(f"{archive}: {', '.join(wrong)} must contain a part of its checksum, like site.0123456789ab.css.")
    return files, seconds


class Folder:
    """The static files of all releases on a load balancer."""

    def __init__(self, root: Path) -> None:
        """Create the folders if they do not exist, readable for nginx."""
        self.root, self.static, self.lists = root, root / "static", root / "releases"
        for folder in (self.static, self.lists):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755)

    def put(self, target: Path, content: bytes, seconds: float | None = None) -> None:
        """Write a file atomically."""
        new = self.root / ".new"
        new.write_bytes(content)
        new.chmod(0o644)
        if seconds is not None:
            os.utime(new, (seconds, seconds))
        new.replace(target)

    def deliver(self, release: str) -> None:
        """Store the files of a release, also compressed with brotli, and list them."""
        files, seconds = read(self.root / f"{release}.tar.gz")
        for name, content in files.items():
            # Browsers compare times and may use any load balancer, so all load balancers have the same times.
            self.put(self.static / name, content, seconds)
            # A load balancer that was last converged before brotli was introduced lacks the program.
            if not name.endswith(".gz") and shutil.which("brotli"):
                argv = ["brotli", "--best", "--stdout", "--", str(self.static / name)]
                compressed = subprocess.run(argv, check=True, capture_output=True).stdout  # noqa: S603 (a name that was checked)
                self.put(self.static / f"{name}.br", compressed, seconds)
        self.put(self.lists / release, "".join(f"{name}\n" for name in sorted(files)).encode())

    def prune(self, kept: int, wanted: list[str]) -> None:
        """Remove the lists of the oldest releases, and then the files that no list contains."""
        others = []
        for path in self.lists.iterdir():
            if path.name in wanted:
                # Clients may use this release. When that ends, it counts as the newest of the others.
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
    """Deliver one release, and remove outdated ones."""
    folder = Folder(root)
    folder.deliver(release)
    folder.prune(kept, [*wanted, release])
    (root / f"{release}.tar.gz").unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
