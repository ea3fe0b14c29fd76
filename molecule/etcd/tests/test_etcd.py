"""Do three members with the role's defaults form one cluster that requires certificate and password?"""

import http.client
import json
import os
import ssl
import subprocess
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
import testinfra
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from testinfra.backend.base import CommandResult
from testinfra.host import Host

ADDRESSES = {"etcd1": "10.203.0.111", "etcd2": "10.203.0.112", "etcd3": "10.203.0.113"}
TLS = "/etc/ssl/tradefleet"
EVERY_MEMBER = ",".join(f"https://{address}:2379" for address in ADDRESSES.values())


def member(host: Host) -> str:
    """Return the host's own endpoint."""
    return f"https://{ADDRESSES[host.check_output('hostname')]}:2379"


def etcdctl(host: Host, command: str, endpoints: str = EVERY_MEMBER) -> CommandResult:
    """Run etcdctl as root."""
    return host.run(f"ETCDCTL_ENDPOINTS={endpoints} etcdctl-root {command}")


def client(host: Host, user: str, command: str) -> CommandResult:
    """Run etcdctl on a member, connected to itself with its certificate, as a user, or without one if it is empty."""
    login = f"ETCDCTL_USER={user} ETCDCTL_PASSWORD=molecule-patroni" if user else ""
    certificate = f"--cacert={TLS}/ca.crt --cert={TLS}/host.crt --key={TLS}/host.key"
    return host.run(f"{login} etcdctl --command-timeout=5s {certificate} --endpoints={member(host)} {command}")


def healthy_members(host: Host) -> int:
    """Count the members that commit a proposal."""
    return sum(member["health"] for member in json.loads(etcdctl(host, "endpoint health --write-out=json").stdout))


def metric(certificates: ssl.SSLContext, address: str, name: str) -> float:
    """Return the value of one of a member's metrics."""
    lines = get(address, 2379, "/metrics", certificates).splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def get(address: str, port: int, path: str, context: ssl.SSLContext | None) -> str:
    """Send a request over the network, in plain text if there is no context; return the body."""
    connection: http.client.HTTPConnection
    if context:
        connection = http.client.HTTPSConnection(address, port, timeout=5, context=context)
    else:
        connection = http.client.HTTPConnection(address, port, timeout=5)
    with closing(connection):
        connection.request("GET", path)
        return connection.getresponse().read().decode()


@pytest.fixture
def anonymous(tmp_path: Path) -> ssl.SSLContext:
    """A client that trusts our CA and has no certificate itself."""
    (tmp_path / "ca.crt").write_text(testinfra.get_host("podman://tf-etcd1").file(f"{TLS}/ca.crt").content_string)
    return ssl.create_default_context(cafile=tmp_path / "ca.crt")


@pytest.fixture
def certificates(tmp_path: Path, anonymous: ssl.SSLContext) -> ssl.SSLContext:
    """A client that also presents the certificate of a host."""
    for name in ("host.crt", "host.key"):
        (tmp_path / name).write_text(testinfra.get_host("podman://tf-etcd1").file(f"{TLS}/{name}").content_string)
    anonymous.load_cert_chain(tmp_path / "host.crt", tmp_path / "host.key")
    return anonymous


def test_members_agree_on_members_and_leader(host: Host) -> None:
    """Each member lists the same three, and all name the same leader."""
    members = json.loads(etcdctl(host, "member list --write-out=json", member(host)).stdout)["members"]
    assert {member["name"]: member["clientURLs"] for member in members} == {
        name: [f"https://{address}:2379"] for name, address in ADDRESSES.items()
    }
    status = json.loads(etcdctl(host, "endpoint status --write-out=json").stdout)
    assert len({member["Status"]["leader"] for member in status}) == 1
    assert healthy_members(host) == 3


def test_value_written_through_one_member_is_read_through_all(host: Host) -> None:
    """Every member also accepts writes."""
    name = host.check_output("hostname")
    assert etcdctl(host, f"put /test/{name} {name}", member(host)).stdout == "OK\n"
    for address in ADDRESSES.values():
        read = etcdctl(host, f"get --print-value-only /test/{name}", f"https://{address}:2379")
        assert read.stdout == f"{name}\n"


def test_client_without_password_is_rejected(host: Host) -> None:
    """Its certificate is valid; the same request with a password succeeds (the tests above)."""
    for command in (
        "get --prefix /",
        "put /service/molecule/x 1",
        "member add x --peer-urls=https://10.203.0.139:2380",
    ):
        refused = client(host, "", command)
        assert refused.rc != 0
        assert "user name is empty" in refused.stderr


def test_patroni_user_has_access_only_to_its_own_keys(host: Host) -> None:
    """It reads and writes below its prefix, but not other keys, users, roles and members."""
    assert client(host, "patroni", "put /service/molecule/leader me").stdout == "OK\n"
    assert client(host, "patroni", "get --prefix --print-value-only /service/molecule/").stdout == "me\n"
    refused = [
        "put /service/moleculf/leader me",
        "put /service/molecule me",
        "get --prefix /service/",
        "get --prefix /",
        "del --prefix /",
        "user list",
        "role grant-permission patroni readwrite --prefix /",
        "auth disable",
        "member add x --peer-urls=https://10.203.0.139:2380",
    ]
    for command in refused:
        done = client(host, "patroni", command)
        assert done.rc != 0, command
        assert "permission denied" in done.stderr, command


def test_all_members_require_passwords(host: Host) -> None:
    """They also have the same users and permissions."""
    statuses = [etcdctl(host, "auth status", f"https://{address}:2379").stdout for address in ADDRESSES.values()]
    assert statuses[0].startswith("Authentication Status: true\n")
    assert len(set(statuses)) == 1


def test_only_root_reads_passwords(host: Host) -> None:
    """The file with the password is protected, and no logged command line contains one."""
    assert host.file("/usr/local/sbin/etcdctl-root").mode == 0o700
    assert host.run("runuser -u nobody -- cat /usr/local/sbin/etcdctl-root").rc != 0
    assert host.run("grep -rlaF molecule-patroni /var/log/journal").stdout == ""


def test_snapshot_can_be_restored(host: Host) -> None:
    """The unit creates one; restored elsewhere and started alone it returns what was written."""
    assert etcdctl(host, "put /test/snapshot kept", member(host)).rc == 0
    host.check_output("rm -f /var/backups/etcd/*")
    host.check_output("systemctl start etcd-snapshot.service")
    names = host.check_output("ls /var/backups/etcd").splitlines()
    assert len(names) == 1
    restored = "rm -rf /tmp/restored && etcdutl snapshot restore --data-dir /tmp/restored /var/backups/etcd/" + names[0]
    host.check_output(restored)
    started = "etcd --data-dir /tmp/restored --listen-peer-urls http://127.0.0.1:22380 --log-level=error"
    urls = "--listen-client-urls http://127.0.0.1:22379 --advertise-client-urls http://127.0.0.1:22379"
    host.check_output(f"systemd-run --quiet --unit=restored {started} {urls}")
    try:
        root = 'ETCDCTL_USER=root ETCDCTL_PASSWORD="molecule:\'root\'\\"\\$1#"'
        get = "etcdctl --endpoints=http://127.0.0.1:22379 --dial-timeout=10s get --print-value-only /test/snapshot"
        assert host.check_output(f"{root} {get}") == "kept"
    finally:
        host.check_output("systemctl stop restored; rm -rf /tmp/restored")


def test_failed_snapshot_is_reported_and_leaves_nothing() -> None:
    """The unit fails, systemd reports it, and existing snapshots stay."""
    host = testinfra.get_host("podman://tf-etcd3")
    before = host.check_output("ls /var/backups/etcd")
    host.check_output("systemctl stop etcd")
    try:
        assert host.run("systemctl start etcd-snapshot.service").rc != 0
    finally:
        host.check_output("systemctl start etcd")
    assert "etcd-snapshot.service" in host.check_output("systemctl --failed --plain --no-legend")
    assert host.check_output("ls /var/backups/etcd") == before
    host.check_output("systemctl reset-failed etcd-snapshot.service")


def test_timer_is_active(host: Host) -> None:
    """It also catches up missed runs."""
    shown = host.check_output(
        "systemctl show etcd-snapshot.timer --property=TimersCalendar,Persistent,ActiveState,UnitFileState"
    )
    assert "OnCalendar=*-*-* *:00:00" in shown
    assert {"Persistent=yes", "ActiveState=active", "UnitFileState=enabled"} <= set(shown.splitlines())


def test_member_that_lost_its_data_does_not_return() -> None:
    """It would no longer know its votes; the other members continue."""
    host = testinfra.get_host("podman://tf-etcd1")
    host.check_output("systemctl stop etcd && mv /var/lib/etcd/cluster/member /root/member")
    try:
        assert host.run("systemctl start etcd").rc != 0
        assert etcdctl(host, "put /test/without 1", f"https://{ADDRESSES['etcd2']}:2379").stdout == "OK\n"
    finally:
        host.check_output("mv /root/member /var/lib/etcd/cluster/member && systemctl start etcd")
    assert healthy_members(host) == 3


@pytest.mark.parametrize("address", ADDRESSES.values())
def test_certificate_holders_are_answered(address: str, certificates: ssl.SSLContext) -> None:
    """The next tests send the same request and expect it to be rejected."""
    assert "etcdserver" in get(address, 2379, "/version", certificates)


def test_peer_must_have_the_address_of_its_certificate(certificates: ssl.SSLContext) -> None:
    """A member's certificate that is used from another host, such as this controller, does not join the cluster."""
    with pytest.raises(ConnectionError):
        get(ADDRESSES["etcd2"], 2380, "/version", certificates)


def signed(names: list[x509.GeneralName]) -> tuple[str, str]:
    """Return a certificate of the hosts' CA for these names, with etcd1's common name, and its key."""
    folder = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"]) / ".lab/molecule/etcd/pki"
    authority = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    authority_key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), b"molecule-only")
    assert isinstance(authority_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "etcd1.tradefleet.test")]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .sign(authority_key, hashes.SHA384())
    )
    unencrypted = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    return (
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(serialization.Encoding.PEM, form, unencrypted).decode(),
    )


def status_of_peer(host: Host, certificate: str, key: str) -> CommandResult:
    """Query the members at etcd1's peer port from a host, with a certificate; print the status of the response."""
    program = (
        "import http.client, ssl; "
        f"context = ssl.create_default_context(cafile='{TLS}/ca.crt'); "
        f"context.load_cert_chain('{certificate}', '{key}'); "
        f"connection = http.client.HTTPSConnection('{ADDRESSES['etcd1']}', 2380, timeout=5, context=context); "
        "connection.request('GET', '/members'); print(connection.getresponse().status)"
    )
    return host.run(f'python3 -c "{program}"')


@pytest.mark.parametrize(
    ("names", "accepted"),
    [
        (["etcd.fleet.internal"], True),
        ([], False),
        (["etcd1", "etcd1.tradefleet.test", "etcd"], False),
        (["etcd.fleet.internal.tradefleet.test", "*.internal"], False),
    ],
)
def test_peer_must_have_the_name_of_members(names: list[str], accepted: bool) -> None:
    """The CA, the address and a member's common name are not enough: a peer needs no password."""
    host = testinfra.get_host("podman://tf-etcd3")
    address = x509.IPAddress(ip_address(ADDRESSES["etcd3"]))
    certificate, key = signed([*map(x509.DNSName, names), address])
    host.check_output(f"umask 077; printf %s '{certificate}' > /root/peer.crt; printf %s '{key}' > /root/peer.key")
    try:
        answer = status_of_peer(host, "/root/peer.crt", "/root/peer.key")
    finally:
        host.check_output("rm /root/peer.crt /root/peer.key")
    if accepted:
        assert answer.stdout == "200\n", answer.stderr
    else:
        assert "bad certificate" in answer.stderr, answer.stdout


@pytest.mark.parametrize("port", [2379, 2380])
@pytest.mark.parametrize("address", ADDRESSES.values())
def test_plain_text_and_missing_certificates_are_rejected(address: str, port: int, anonymous: ssl.SSLContext) -> None:
    """This applies to clients and peers."""
    with pytest.raises(ConnectionError):
        get(address, port, "/version", None)
    with pytest.raises(ssl.SSLError, match="certificate required"):
        get(address, port, "/version", anonymous)


@pytest.mark.parametrize("port", [2379, 2380])
def test_foreign_certificate_is_rejected(port: int, tmp_path: Path, anonymous: ssl.SSLContext) -> None:
    """A certificate of another CA gives no access."""
    key, certificate = tmp_path / "foreign.key", tmp_path / "foreign.crt"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=etcd1"
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    anonymous.load_cert_chain(certificate, key)
    with pytest.raises(ssl.SSLError, match=r"unknown ca|bad certificate|EOF"):
        get(ADDRESSES["etcd1"], port, "/version", anonymous)


def test_old_tls_is_rejected(certificates: ssl.SSLContext) -> None:
    """A TLS 1.2 handshake fails even with a valid certificate."""
    certificates.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match="protocol version"):
        get(ADDRESSES["etcd1"], 2379, "/version", certificates)


def test_running_member_has_the_role_defaults(host: Host, certificates: ssl.SSLContext) -> None:
    """The quota is in the metrics; etcd logs the other settings when it starts."""
    address = ADDRESSES[host.check_output("hostname")]
    assert metric(certificates, address, "etcd_server_quota_backend_bytes") == 2147483648
    lines = host.check_output("journalctl --unit=etcd --output=cat --grep='starting an etcd server'").splitlines()
    settings = json.loads(lines[-1])
    assert settings["heartbeat-interval"] == "100ms"
    assert settings["election-timeout"] == "1s"
    assert settings["auto-compaction-mode"] == "periodic"
    assert settings["auto-compaction-interval"] == "1h0m0s"


def test_debians_own_cluster_was_never_started(host: Host) -> None:
    """The package would have left a cluster of one."""
    assert not host.file("/var/lib/etcd/default").exists


def test_killed_member_returns() -> None:
    """The other two keep serving, and systemd restarts the member within seconds, however it ended."""
    host = testinfra.get_host("podman://tf-etcd2")
    host.check_output("systemctl stop etcd")
    assert etcdctl(host, "put /test/lost 1", f"https://{ADDRESSES['etcd1']}:2379").stdout == "OK\n"
    host.check_output("systemctl start etcd")
    host.check_output("systemctl kill --signal=SIGKILL etcd")
    deadline = time.monotonic() + 20
    while healthy_members(host) < 3 and time.monotonic() < deadline:
        time.sleep(0.5)
    assert healthy_members(host) == 3
    value = etcdctl(host, "get --print-value-only /test/lost", f"https://{ADDRESSES['etcd2']}:2379")
    assert value.stdout == "1\n"
