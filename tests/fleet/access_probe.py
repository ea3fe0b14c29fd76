"""Runs on a host of the fleet: sends queries to ports with this host's certificates and without a password.

Standard input: a list of queries. Standard output: the list of their responses, in the same order, each a short string.
"""

import json
import socket
import ssl
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

TLS = "/etc/ssl/tradefleet"
SECONDS = 5
SSH = (
    "ssh -o BatchMode=yes -o ConnectTimeout=5 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    " -o LogLevel=ERROR -o PubkeyAuthentication=no -o PreferredAuthentications=none,password,keyboard-interactive"
)


@cache
def context(certificate: str) -> ssl.SSLContext:
    """Return a client context with a certificate of this host, or none; servers have certificates for various names."""
    made = ssl.create_default_context(cafile=f"{TLS}/ca.crt")
    made.check_hostname = False
    if certificate:
        made.load_cert_chain(f"{TLS}/{certificate}.crt", f"{TLS}/{certificate}.key")
    return made


def encrypted(question: dict[str, Any], plain: socket.socket) -> ssl.SSLSocket:
    """Return the connection with TLS."""
    return context(question["certificate"]).wrap_socket(plain)


def tls(question: dict[str, Any], plain: socket.socket) -> str:
    """Return the first line of the response to a text over TLS."""
    with encrypted(question, plain) as connection:
        connection.sendall(question["send"].encode())
        return connection.recv(4096).decode(errors="replace")


def text(question: dict[str, Any], plain: socket.socket) -> str:
    """Return the response to a text without TLS."""
    plain.sendall(question["send"].encode())
    return plain.recv(4096).decode(errors="replace")


def postgres(question: dict[str, Any], plain: socket.socket) -> str:
    """Return whether PostgreSQL requests a password from a user, or its other response."""
    plain.sendall(struct.pack("!ii", 8, 80877103))
    assert plain.recv(1) == b"S"
    parameters = {"user": question["user"]} | question["parameters"]
    words = b"".join(word.encode() + b"\0" for pair in parameters.items() for word in pair) + b"\0"
    with encrypted(question, plain) as connection:
        connection.sendall(struct.pack("!ii", 8 + len(words), 196608) + words)
        answer = connection.recv(4096)
    if answer[:1] == b"R":
        return {0: "let in", 10: "asked for a password"}.get(struct.unpack("!i", answer[5:9])[0], "asked otherwise")
    return answer.decode(errors="replace").replace("\0", " ")


def ssh(question: dict[str, Any], plain: socket.socket) -> str:
    """Return SSH's response to a client without a key."""
    plain.close()
    argv = [*SSH.split(), f"debian@{question['address']}", "true"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL, check=False)
    return "let in" if done.returncode == 0 else done.stderr.strip()


def response(question: dict[str, Any]) -> str:
    """Return the first line of a response, or the error."""
    try:
        with socket.create_connection((question["address"], question["port"]), timeout=SECONDS) as plain:
            answer = {"tls": tls, "text": text, "postgres": postgres, "ssh": ssh}[question["how"]](question, plain)
    except ConnectionRefusedError:
        return "closed"
    except (OSError, AssertionError) as error:
        return f"{type(error).__name__}: {error}"
    return answer.partition("\r\n")[0].strip()


with ThreadPoolExecutor(8) as pool:
    json.dump(list(pool.map(response, json.load(sys.stdin))), sys.stdout)
