"""Archives the files of the controller in a restic repository on another host, and restores them on a new controller.

    python tools/controller_archive.py --repository DIR [--ssh COMMAND --owner USER] store [--dry-run] PATH…
    python tools/controller_archive.py … restore [--commit any]
    python tools/controller_archive.py … prune --hours 48 --days 30

The first line of the standard input is the passphrase. The repository is reached with SFTP through COMMAND, as the
user that owns it, or is a local folder. An archive is one tar file, whose name has its checksum: it is complete, or it
does not exist. Paths in the project are restored in the checkout that runs `restore`, and others where they were.
Each command prints its result as JSON. Exit status: 0 done, 1 failed, with the reason on standard error.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shlex
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import IO, Any

PROJECT = Path(__file__).resolve().parents[1]
MANIFEST = "manifest.json"
SFTP_SERVER = "/usr/lib/openssh/sftp-server -u 0077"
TAG = "controller"


class ArchiveError(Exception):
    """The command is refused or failed; the message names what to do."""


class MissingError(ArchiveError):
    """The repository does not exist."""


class Repository:
    """A restic repository: a local folder, or a folder of a user on another host."""

    def __init__(self, folder: str, ssh: str, owner: str, passphrase: str) -> None:
        """Remember where it is; nothing is contacted."""
        self.environment = os.environ | {"RESTIC_PASSWORD": passphrase}
        self.arguments = ["--repo", folder, "--quiet"]
        if ssh:
            command = f"{ssh} sudo --non-interactive --user={shlex.quote(owner)} {SFTP_SERVER}"
            # restic reads the option as a line of a CSV file.
            option = '"sftp.command=' + " ".join(command.split()).replace('"', '""') + '"'
            self.arguments = ["--repo", f"sftp:archive:{folder}", "--option", option, "--quiet"]

    def run(self, *arguments: str, stdin: bytes = b"", output: IO[bytes] | None = None) -> bytes:
        """Run restic and return its output, or write it to a file."""
        argv = ["restic", *self.arguments, *arguments]
        try:
            done = subprocess.run(
                argv,
                env=self.environment,
                input=stdin,
                stdout=output or subprocess.PIPE,
                stderr=subprocess.PIPE,
                check=False,
            )
        except FileNotFoundError as error:
            raise ArchiveError("restic is not installed on this machine: `apt-get install restic`") from error
        if done.returncode:
            lines = [line.strip() for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
            missing = any("Is there a repository at" in line for line in lines)
            raise (MissingError if missing else ArchiveError)(" ".join(lines[-8:]) or f"exit status {done.returncode}")
        return done.stdout or b""

    def snapshots(self) -> list[dict[str, Any]]:
        """Return all archives, the oldest first."""
        found: list[dict[str, Any]] = json.loads(self.run("--no-lock", "snapshots", "--json")) or []
        return sorted(found, key=moment)


def moment(snapshot: dict[str, Any]) -> datetime:
    """Return when an archive was stored."""
    return datetime.fromisoformat(snapshot["time"])


def within(path: Path) -> PurePosixPath:
    """Return the name of a path in an archive."""
    absolute = Path(os.path.abspath(path))
    if absolute.is_relative_to(PROJECT):
        return PurePosixPath("project") / absolute.relative_to(PROJECT)
    return PurePosixPath("root") / absolute.relative_to("/")


def target(name: str) -> Path:
    """Return where a file of an archive belongs on this machine."""
    first, _, rest = name.partition("/")
    if first not in ("project", "root") or not rest or ".." in PurePosixPath(rest).parts:
        raise ArchiveError(f"{name} is no file of a controller. Nothing was changed.")
    return (PROJECT if first == "project" else Path("/")) / rest


def contents(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield each file of the paths once, in order."""
    found = {file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()}
    if missing := [str(path) for path in paths if not path.exists()]:
        raise ArchiveError(f"{', '.join(missing)} does not exist. Nothing was archived.")
    yield from sorted(found)


def git(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git in the checkout."""
    return subprocess.run(["git", "-C", PROJECT, *arguments], capture_output=True, text=True, check=False)


def packed(paths: Sequence[Path]) -> bytes:
    """Return a tar file; the same files give the same bytes."""
    buffer = io.BytesIO()
    manifest = json.dumps({"commit": git("rev-parse", "HEAD").stdout.strip()}).encode()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, mode, data in [(MANIFEST, 0o600, manifest)] + [
            (str(within(path)), path.stat().st_mode & 0o777, path.read_bytes()) for path in contents(paths)
        ]:
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), mode
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def store(repository: Repository, paths: Sequence[Path], dry: bool) -> dict[str, Any]:
    """Archive the files, unless the newest archive contains exactly them."""
    data = packed(paths)
    name = f"/controller-{hashlib.sha256(data).hexdigest()}.tar"
    try:
        last = repository.snapshots()[-1:]
    except MissingError:
        last = []
        if not dry:
            repository.run("init")
    if last and last[0]["paths"] == [name]:
        return {"changed": False, "bytes": len(data)}
    if dry:
        return {"changed": True, "bytes": len(data)}
    repository.run("backup", "--stdin", "--stdin-filename", name, "--host", TAG, "--tag", TAG, stdin=data)
    return {"changed": True, "bytes": len(data)}


def fetched(repository: Repository) -> dict[str, tuple[int, bytes]]:
    """Return mode and bytes of each file of the newest archive."""
    if not (found := repository.snapshots()):
        raise ArchiveError("The repository contains no archive of a controller. Nothing was changed.")
    archive, name = found[-1]["short_id"], found[-1]["paths"][0]
    with tempfile.TemporaryFile() as file:
        repository.run("--no-lock", "dump", archive, name, output=file)
        file.seek(0)
        if name != f"/controller-{hashlib.file_digest(file, 'sha256').hexdigest()}.tar":
            raise ArchiveError(f"Archive {archive} is damaged: its checksum differs. Nothing was changed.")
        file.seek(0)
        with tarfile.open(fileobj=file) as tar:
            read = ((member, tar.extractfile(member)) for member in tar if member.isfile())
            return {member.name: (member.mode, content.read()) for member, content in read if content}


def replaceable(path: Path) -> bool:
    """Return whether git has the present content of a file, so that nothing is lost."""
    return (
        git("ls-files", "--error-unmatch", path.as_posix()).returncode == 0
        and not git("diff", "--quiet", "HEAD", "--", path.as_posix()).returncode
    )


def restore(repository: Repository, commit: str) -> dict[str, Any]:
    """Restore the newest archive; refuse to overwrite a file that is neither the same nor in git."""
    files = fetched(repository)
    manifest = json.loads(files.pop(MANIFEST)[1])
    wanted = {target(name): content for name, content in files.items()}
    if commit != "any" and manifest["commit"] != git("rev-parse", "HEAD").stdout.strip():
        raise ArchiveError(
            f"The archive is from commit {manifest['commit'] or 'unknown'}, this checkout is not: `git checkout "
            f"{manifest['commit']}`, or `-e commit=any`. Nothing was changed."
        )
    new = {path: content for path, content in wanted.items() if not path.exists() or path.read_bytes() != content[1]}
    if lost := sorted(str(path) for path in new if path.exists() and not replaceable(path)):
        raise ArchiveError(f"These differ from the archive, move them away: {', '.join(lost)}. Nothing was changed.")
    for path, (mode, data) in new.items():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".restored")
        with os.fdopen(os.open(partial, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), mode)
        partial.replace(path)
    return {"changed": bool(new), "commit": manifest["commit"], "files": sorted(map(str, new))}


def prune(repository: Repository, hours: int, days: int) -> dict[str, Any]:
    """Remove archives that are older than the newest one by more than these times, and check that no file is lost."""
    try:
        before = repository.snapshots()
    except MissingError:
        before = []
    if not before:
        return {"changed": False, "removed": 0, "kept": 0}
    # The newest archive is the reference: with one of the future all others would be too old.
    if moment(before[-1]) > datetime.now(UTC) + timedelta(hours=1):
        raise ArchiveError(
            f"Archive {before[-1]['short_id']} is from the future ({before[-1]['time']}): a host has a wrong clock, or "
            "was compromised. Nothing was removed."
        )
    keep = (f"--keep-within-hourly={hours}h", f"--keep-within-daily={days}d")
    repository.run("unlock")
    output = repository.run("forget", "--group-by", "host,tags", *keep, "--prune", "--json").decode()
    groups, _ = json.JSONDecoder().raw_decode(output)
    removed = sum(len(group["remove"] or []) for group in groups)
    repository.run("check")  # a copy keeps what was lost, and follows what was pruned
    return {"changed": removed > 0, "removed": removed, "kept": len(before) - removed}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("repository", "ssh", "owner"):
        parser.add_argument(f"--{name}", default="", required=name == "repository")
    commands = parser.add_subparsers(dest="command", required=True)
    archive = commands.add_parser("store")
    archive.add_argument("--dry-run", action="store_true")
    archive.add_argument("paths", nargs="+", type=Path)
    commands.add_parser("restore").add_argument("--commit", default="")
    pruning = commands.add_parser("prune")
    for name in ("hours", "days"):
        pruning.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args(arguments)
    repository = Repository(options.repository, options.ssh, options.owner, sys.stdin.readline().strip())
    try:
        match options.command:
            case "store":
                result = store(repository, options.paths, options.dry_run)
            case "restore":
                result = restore(repository, options.commit)
            case _:
                result = prune(repository, options.hours, options.days)
    except ArchiveError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
