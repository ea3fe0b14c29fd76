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

# Serves what lies there when it starts, and again after each SIGHUP; a file named stubborn has it ignore one.
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

# Renews when a file named due is there, or when told to whatever is there; fails when a file named away is.
CERTBOT = """#!/bin/sh
cd {folder}
echo "$@" >> asked
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
    """Return two ports on which nobody listens."""
    with socket.create_server((EDGES[0], 0)) as one, socket.create_server((EDGES[0], 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


class Fleet:
    """A host that has the certificate renewed, and two load balancers."""

    def __init__(self, folder: Path) -> None:
        """Lay everything out; nothing runs yet."""
        self.folder = folder
        self.own, self.public = Authority(folder / "own", "fleet"), Authority(folder / "public", "clients trust it")
        self.https, self.delivery = free_ports()
        self.next("DNS:" + NAME)
        (folder / "certbot").write_text(CERTBOT.format(folder=folder, name=NAME))
        (folder / "certbot").chmod(0o755)
        (folder / "nginx.py").write_text(NGINX)
        # As little patience as a test has.
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
        """Say what certbot will get."""
        (authority or self.public).sign(self.folder / "next", *names)

    def set(self, address: str, **settings: object) -> None:
        """Write what the role writes; JSON's strings, numbers and lists are TOML's."""
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
        """Run what the timer runs."""
        environment = os.environ | {
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "TRADEFLEET_ACME_SETTINGS": str(self.folder / ISSUER / "acme.toml"),
            "TRADEFLEET_LETSENCRYPT": str(self.folder / "le"),
        }
        argv = [sys.executable, str(PROGRAMS / "acme-renew"), *words]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)

    def asked(self) -> list[str]:
        """Return which of certbot's verbs were used."""
        return [line.split()[0] for line in (self.folder / "asked").read_text().splitlines()]

    def served(self, address: str) -> str:
        """Return the certificate that a client sees."""
        return ssl.get_server_certificate((address, self.https))

    def reloads(self) -> list[int]:
        """Return how often each nginx has read its files."""
        return [len((self.folder / address / "reloads").read_text()) for address in EDGES]

    def issued(self) -> str:
        """Return the certificate that certbot has."""
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
        """Do what systemd does for acme-receive.socket."""
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
        """Talk to the first load balancer with somebody's certificate, from an address."""
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
    """Give a fleet whose load balancers serve what they have by themselves."""
    fleet = Fleet(tmp_path)
    with contextlib.ExitStack() as running:
        for address in EDGES:
            running.enter_context(fleet.nginx(address))
            running.enter_context(fleet.receiver(address))
        yield fleet


def test_one_certificate_is_served_by_all(fleet: Fleet) -> None:
    """The first, and one that was due; what has not changed reloads nothing."""
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
    assert fleet.asked() == ["certonly", "renew", "renew"]
    # This one, and the one before.
    assert len([each for each in (fleet.folder / EDGES[0] / "edge").iterdir() if not each.is_symlink()]) == 2


def test_a_renewal_that_fails_is_told_and_changes_nothing(fleet: Fleet) -> None:
    """A load balancer that lacks the certificate gets it all the same."""
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


def test_one_that_was_away_is_told_and_made_up_for(tmp_path: Path) -> None:
    """The others are not held up by it."""
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
        # Who serves it need not take it.
        assert fleet.renew().returncode == 0


@pytest.mark.parametrize("wrong", ["name", "ca"])
def test_what_clients_would_refuse_is_given_to_nobody(fleet: Fleet, wrong: str) -> None:
    """Whatever an ACME server has signed."""
    if wrong == "name":
        fleet.next("DNS:other.example")
    else:
        fleet.next("DNS:" + NAME, authority=fleet.own)
    before = {address: fleet.served(address) for address in EDGES}
    failed = fleet.renew()
    assert failed.returncode == 1
    assert "Clients would reject" in failed.stderr
    assert {address: fleet.served(address) for address in EDGES} == before


def test_other_names_or_another_server_are_another_certificate(fleet: Fleet) -> None:
    """Due or not."""
    fleet.renew()
    fleet.set(ISSUER, directory="https://other.example/dir")
    assert fleet.renew("check").returncode == 1
    assert fleet.renew().returncode == 0
    fleet.next("DNS:" + NAME, "DNS:second.example")
    fleet.set(ISSUER, directory="https://other.example/dir", names=[NAME, "second.example"])
    assert fleet.renew().returncode == 0
    assert fleet.asked() == ["certonly"] * 3


def test_an_nginx_that_goes_on_as_before_keeps_its_files(fleet: Fleet) -> None:
    """The link is put back, and the reason told."""
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


def test_only_the_issuer_is_listened_to(fleet: Fleet) -> None:
    """Neither another host's certificate nor another address will do; nor will rubbish, or a key of something else."""
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
