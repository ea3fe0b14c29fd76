"""The static files of pages. Their names change with their contents, so browsers may cache them forever.

This file imports nothing except Python's standard library, because the build of a release runs it alone.
"""

import gzip
import hashlib
import io
import sys
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).with_name("static")


@cache
def names(folder: Path = FOLDER) -> dict[str, str]:
    """Return the name under which each file is served: site.css as site.<12 digits of its SHA-256>.css."""
    return {file.name: _fingerprinted(file) for file in sorted(folder.iterdir()) if file.is_file()}


def address(name: str) -> str:
    """Return the path of a file for use in a page.

    Raises:
        KeyError: the file does not exist.

    """
    return f"/static/{names()[name]}"


def build(target: Path, folder: Path = FOLDER) -> None:
    """Write each file under the name at which it is served, and next to it a copy compressed with gzip.

    The same files give the same bytes.
    """
    target.mkdir(parents=True, exist_ok=True)
    for name, served in names(folder).items():
        content = (folder / name).read_bytes()
        (target / served).write_bytes(content)
        (target / f"{served}.gz").write_bytes(_compressed(content))


def _fingerprinted(file: Path) -> str:
    return f"{file.stem}.{hashlib.sha256(file.read_bytes()).hexdigest()[:12]}{file.suffix}"


def _compressed(content: bytes) -> bytes:
    # Not gzip.compress(), which writes a header that depends on Python's version.
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as file:
        file.write(content)
    return buffer.getvalue()


if __name__ == "__main__":
    build(Path(sys.argv[1]))
