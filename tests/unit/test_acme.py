"""One certificate on every load balancer, verified there: the real programs, with stand-ins for certbot and nginx."""

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from authority import Authority
from repository import PROJECT

PROGRAMS = PROJECT / "roles/acme/files"
NAME = "trade.example"
ISSUER, EDGES = "127.0.0.51", ("127.0.0.11", "127.0.0.12")

# Serves the files at its start, and reloads them on SIGHUP; if a file named stubborn exists it ignores the signal.
NGINX = """
import signal, socket, ssl, sys
from pathlib import Path

folder, address, port = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
context = None


def load(*_):
    global context
    with (folder / "reloads").open("a") as reloads:
        reloads.write("x")
    if context is None or not (folder / "stubborn").exists():
        new = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        new.load_cert_chain(folder / "edge/current/host.crt", folder / "edge/current/host.key")
        context = new


load()
signal.signal(signal.SIGHUP, load)
with socket.create_server((address, port)) as listener:
    (folder / "ready").touch()
    while True:
        plain, _ = listener.accept()
        try:
            context.wrap_socket(plain, server_side=True).close()
        except OSError:
            plain.close()
"""

# Renews if a file named due exists, or if a new certificate is requested; fails if a file named away exists.
CERTBOT = """#!/bin/sh
cd {folder}
echo "$@" >> commands
if [ "$1" = renew ] && [ ! -e due ]; then exit 0; fi
[ ! -e away ] || exit 1
server=$(echo "$@" | sed -n 's/.*--server \\([^ ]*\\).*/\\1/p')
mkdir -p le/live/{name} le/renewal
cp next/host.crt le/live/{name}/fullchain.pem
cp next/host.key le/live/{name}/privkey.pem
[ -z "$server" ] || printf 'version = 4\\n[renewalparams]\\nserver = %s\\n' "$server" > le/renewal/{name}.conf
rm -f due
"""


def free_ports() -> tuple[int, int]:
    """Return two unused ports."""
    with socket.create_server((EDGES[0], 0)) as one, socket.create_server((EDGES[0], 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


class Fleet:
    """A host that renews the certificate, and two load balancers."""

    def __init__(self, folder: Path) -> None:
        """Create all files; nothing runs yet."""
        self.folder = folder
        self.own, self.public = Authority(folder / "own", "fleet"), Authority(folder / "public", "clients trust it")
        self.https, self.delivery = free_ports()
        self.next("DNS:" + NAME)
        (folder / "certbot").write_text(CERTBOT.format(folder=folder, name=NAME))
        (folder / "certbot").chmod(0o755)
        (folder / "nginx.py").write_text(NGINX)
        # Tests wait for a shorter time than a fleet.
        text = (PROGRAMS / "acme-receive").read_text()
        assert "\nSECONDS = 10\n" in text
        (folder / "acme-receive").write_text(text.replace("\nSECONDS = 10\n", "\nSECONDS = 1\n"))
        for address in (ISSUER, *EDGES):
            self.own.sign(folder / address, f"IP:{address}")
            self.set(address)
        for address in EDGES:
            (folder / address / "edge").mkdir()
            (folder / address / "edge/current").symlink_to(folder / address)

    def next(self, *names: str, authority: Authority | None = None) -> None:
        """Create the certificate that certbot will get next."""
        (authority or self.public).sign(self.folder / "next", *names)

    def set(self, address: str, **settings: object) -> None:
        """Write the settings as the role does; JSON's strings, numbers and lists are valid TOML."""
        values = {
            "directory": "https://acme.example/dir",
            "email": "ops@example",
            "names": [NAME],
            "issuer": ISSUER,
            "receivers": EDGES,
            "address": address,
            "ca_file": str(self.public.file),
            "challenge_port": 8402,
            "delivery_port": self.delivery,
            "https_port": self.https,
            "tls_ca_file": str(self.own.file),
            "tls_certificate_file": str(self.folder / address / "host.crt"),
            "tls_key_file": str(self.folder / address / "host.key"),
        }
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in (values | settings).items()]
        (self.folder / address / "acme.toml").write_text("".join(lines))

    def renew(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the command of the timer."""
        environment = os.environ | {
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "TRADEFLEET_ACME_SETTINGS": str(self.folder / ISSUER / "acme.toml"),
            "TRADEFLEET_LETSENCRYPT": str(self.folder / "le"),
        }
        argv = [sys.executable, str(PROGRAMS / "acme-renew"), *words]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)

    def certbot_commands(self) -> list[str]:
        """Return the subcommands of certbot that were run."""
        return [line.split()[0] for line in (self.folder / "commands").read_text().splitlines()]

    def served(self, address: str) -> str:
        """Return the certificate that a client gets."""
        return ssl.get_server_certificate((address, self.https))

    def reloads(self) -> list[int]:
        """Return how often each nginx has loaded its files."""
        return [len((self.folder / address / "reloads").read_text()) for address in EDGES]

    def issued(self) -> str:
        """Return the certificate that certbot holds."""
        return (self.folder / f"le/live/{NAME}/fullchain.pem").read_text()

    @contextlib.contextmanager
    def nginx(self, address: str) -> Iterator[None]:
        """Run a load balancer's nginx."""
        folder = self.folder / address
        argv = [sys.executable, str(self.folder / "nginx.py"), str(folder), address, str(self.https)]
        with subprocess.Popen(argv) as process:
            (folder / "nginx.pid").write_text(f"{process.pid}\n")
            deadline = time.monotonic() + 10
            while not (folder / "ready").exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            try:
                yield
            finally:
                process.kill()

    @contextlib.contextmanager
    def receiver(self, address: str) -> Iterator[None]:
        """Serve like acme-receive.socket of systemd."""
        environment = os.environ | {
            "TRADEFLEET_ACME_SETTINGS": str(self.folder / address / "acme.toml"),
            "TRADEFLEET_EDGE_CERTIFICATES": str(self.folder / address / "edge"),
            "TRADEFLEET_NGINX_PID": str(self.folder / address / "nginx.pid"),
        }

        def serve() -> None:
            while True:
                try:
                    plain, _ = listener.accept()
                except OSError:
                    return
                with plain, (self.folder / address / "journal").open("a") as journal:
                    argv = [sys.executable, str(self.folder / "acme-receive")]
                    subprocess.run(argv, env=environment, stdin=plain.fileno(), stderr=journal, timeout=30, check=False)

        with socket.create_server((address, self.delivery)) as listener:
            thread = threading.Thread(target=serve)
            thread.start()
            try:
                yield
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                thread.join()

    def send(self, line: bytes, who: str, where: str = ISSUER) -> bytes:
        """Send a line to the first load balancer with a host's certificate, from an address; return the response."""
        context = ssl.create_default_context(cafile=self.own.file)
        context.load_cert_chain(self.folder / who / "host.crt", self.folder / who / "host.key")
        with (
            socket.create_connection((EDGES[0], self.delivery), 10, (where, 0)) as plain,
            context.wrap_socket(plain, server_hostname=EDGES[0]) as connection,
        ):
            connection.sendall(line)
            return connection.makefile("rb").readline()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Yield a fleet whose load balancers serve their own certificates."""
    fleet = Fleet(tmp_path)
    with contextlib.ExitStack() as running:
        for address in EDGES:
            running.enter_context(fleet.nginx(address))
            running.enter_context(fleet.receiver(address))
        yield fleet


def test_all_load_balancers_serve_one_certificate(fleet: Fleet) -> None:
    """This covers the first one and a renewed one; an unchanged one causes no reload."""
    assert fleet.renew("check").returncode == 1
    done = fleet.renew()
    assert done.returncode == 0, done.stderr
    assert {fleet.served(address) for address in EDGES} == {fleet.issued()}
    assert (fleet.renew().returncode, fleet.renew("check").returncode, fleet.reloads()) == (0, 0, [2, 2])
    first = fleet.issued()
    (fleet.folder / "due").touch()
    fleet.next("DNS:" + NAME)
    assert fleet.renew().returncode == 0
    assert fleet.issued() != first
    assert {fleet.served(address) for address in EDGES} == {fleet.issued()}
    assert fleet.certbot_commands() == ["certonly", "renew", "renew"]
    # The present one and the previous one.
    assert len([each for each in (fleet.folder / EDGES[0] / "edge").iterdir() if not each.is_symlink()]) == 2


def test_failed_renewal_is_reported_and_changes_nothing(fleet: Fleet) -> None:
    """A load balancer that lacks the certificate receives it nevertheless."""
    fleet.renew()
    current = fleet.folder / EDGES[1] / "edge/current"
    current.unlink()
    current.symlink_to(fleet.folder / EDGES[1])
    os.kill(int((fleet.folder / EDGES[1] / "nginx.pid").read_text()), signal.SIGHUP)
    (fleet.folder / "due").touch()
    (fleet.folder / "away").touch()
    failed = fleet.renew()
    assert failed.returncode == 1
    assert "This host must reach https://acme.example/dir, and that server must reach port 80" in failed.stderr
    assert "`systemctl start acme-renew`" in failed.stderr
    assert ({fleet.served(address) for address in EDGES}, fleet.reloads()) == ({fleet.issued()}, [2, 4])


def test_unreachable_load_balancer_is_reported_and_receives_the_certificate_later(tmp_path: Path) -> None:
    """The others are not delayed."""
    fleet = Fleet(tmp_path)
    first, second = EDGES
    with fleet.nginx(first), fleet.receiver(first), fleet.nginx(second):
        failed = fleet.renew()
        assert failed.returncode == 1
        assert f"{second} did not accept the certificate" in failed.stderr
        assert fleet.served(first) == fleet.issued() != fleet.served(second)
        with fleet.receiver(second):
            assert fleet.renew().returncode == 0
        assert fleet.served(second) == fleet.issued()
        # A load balancer that serves it already need not receive it.
        assert fleet.renew().returncode == 0


@pytest.mark.parametrize("wrong", ["name", "ca"])
def test_certificate_that_clients_would_reject_is_not_delivered(fleet: Fleet, wrong: str) -> None:
    """This holds for any certificate that an ACME server has issued."""
    if wrong == "name":
        fleet.next("DNS:other.example")
    else:
        fleet.next("DNS:" + NAME, authority=fleet.own)
    before = {address: fleet.served(address) for address in EDGES}
    failed = fleet.renew()
    assert failed.returncode == 1
    assert "Clients would reject" in failed.stderr
    assert {address: fleet.served(address) for address in EDGES} == before


def test_changed_names_or_server_cause_a_new_certificate(fleet: Fleet) -> None:
    """The former certificate need not be due."""
    fleet.renew()
    fleet.set(ISSUER, directory="https://other.example/dir")
    assert fleet.renew("check").returncode == 1
    assert fleet.renew().returncode == 0
    fleet.next("DNS:" + NAME, "DNS:second.example")
    fleet.set(ISSUER, directory="https://other.example/dir", names=[NAME, "second.example"])
    assert fleet.renew().returncode == 0
    assert fleet.certbot_commands() == ["certonly"] * 3


def test_nginx_that_does_not_reload_keeps_its_files(fleet: Fleet) -> None:
    """The link is restored, and the reason reported."""
    current = fleet.folder / EDGES[1] / "edge/current"
    before = current.readlink()
    (fleet.folder / EDGES[1] / "stubborn").touch()
    failed = fleet.renew()
    assert failed.returncode == 1
    assert f"{EDGES[1]} did not accept the certificate: nginx does not serve it" in failed.stderr
    assert current.readlink() == before
    assert fleet.served(EDGES[0]) == fleet.issued()
    (fleet.folder / EDGES[1] / "stubborn").unlink()
    assert fleet.renew().returncode == 0


def test_delivery_is_accepted_only_from_the_issuer(fleet: Fleet) -> None:
    """Another host's certificate, another address, malformed input and a key of another certificate are rejected."""
    pair = {"chain": (fleet.folder / "next/host.crt").read_text(), "key": (fleet.folder / "next/host.key").read_text()}
    good = json.dumps(pair).encode() + b"\n"
    for who, where in ((EDGES[1], ISSUER), (ISSUER, EDGES[1])):
        with contextlib.suppress(OSError):
            assert fleet.send(good, who, where) == b""
    assert "is not acme_issuer" in (fleet.folder / EDGES[0] / "journal").read_text()
    other = json.dumps(pair | {"key": (fleet.folder / ISSUER / "host.key").read_text()}).encode() + b"\n"
    assert b"does not match the certificate" in fleet.send(other, ISSUER)
    for rubbish in (b"{}\n", b"[]\n", b'{"chain": "x", "key": "y"}\n', b"\xff\n"):
        assert b"no certificate with its key" in fleet.send(rubbish, ISSUER)
    assert fleet.reloads() == [1, 1]
    assert b"is served now" in fleet.send(good, ISSUER)
    assert b"was installed already" in fleet.send(good, ISSUER)
    assert fleet.reloads() == [2, 1]
