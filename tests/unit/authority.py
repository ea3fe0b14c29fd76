"""A certificate authority for tests that use TLS on this machine."""

import subprocess
from pathlib import Path

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class Authority:
    """Issues certificates; its own certificate is `file`."""

    def __init__(self, folder: Path, name: str) -> None:
        """Create its key and its certificate."""
        folder.mkdir(parents=True)
        self.folder, self.file = folder, folder / "ca.crt"
        # Python 3.13 requires these of a CA.
        usage = ("-addext", "keyUsage=critical,keyCertSign", "-addext", "basicConstraints=critical,CA:TRUE")
        self._openssl("req", "-x509", *KEY, "-subj", f"/CN={name}", *usage, "-keyout", "ca.key", "-out", "ca.crt")

    def _openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True)

    def sign(self, to: Path, *names: str) -> Path:
        """Create host.crt and host.key for names like DNS:x and IP:y in a folder, and return the folder."""
        to.mkdir(parents=True, exist_ok=True)
        extensions = self.folder / "extensions"
        extensions.write_text(
            f"subjectAltName={','.join(names)}\nextendedKeyUsage=serverAuth,clientAuth\n"
            "authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\nbasicConstraints=critical,CA:FALSE\n"
        )
        self._openssl("req", *KEY, "-subj", "/CN=leaf", "-keyout", f"{to}/host.key", "-out", "leaf.csr")
        signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "extensions")
        self._openssl("x509", "-req", "-in", "leaf.csr", *signed, "-days", "2", "-out", f"{to}/host.crt")
        return to
