"""Build releases that contain only static files: one that changes with the release, and one that does not.

The arguments are a folder and the versions.
"""

import hashlib
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from tradefleet.domains.pages import assets

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for version in sys.argv[2:]:
    with TemporaryDirectory() as name:
        source, built = Path(name, "source"), Path(name, "built")
        source.mkdir()
        (source / "site.css").write_text(f"/* {version} */\n" + "main { margin: 3rem auto; }\n" * 40)
        (source / "icon.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>\n')
        assets.build(built / "static", source)
        files = sorted((built / "static").iterdir())
        sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  static/{file.name}\n" for file in files]
        (built / "SHA256SUMS").write_text("".join(sums))
        with tarfile.open(folder / f"tradefleet-{version}.tar.gz", "w:gz") as archive:
            for path in ("SHA256SUMS", "static"):
                archive.add(built / path, path)
