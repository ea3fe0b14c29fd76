"""Does each host have a certificate that its peers accept, and is it renewed in time?"""

import os

import testinfra
from scenario import converge
from testinfra.host import Host

TLS = "/etc/ssl/tradefleet"


def serial(host: Host) -> str:
    """Return the serial number of the host's certificate."""
    return str(host.check_output(f"openssl x509 -noout -serial -in {TLS}/host.crt"))


def again(variables: str) -> None:
    """Run the role again on the hosts that are tested here, with another value."""
    converge("--limit", "all:!alternative", "-e", variables)


def test_certificate_is_strictly_valid_for_server_and_client(host: Host) -> None:
    """Python 3.13 and PostgreSQL's peers verify strictly, and so does this test."""
    for purpose in ("sslserver", "sslclient"):
        host.check_output(f"openssl verify -x509_strict -purpose {purpose} -CAfile {TLS}/ca.crt {TLS}/host.crt")


def test_certificate_names_host_address_and_service(host: Host) -> None:
    """Every name that a peer may verify is present, and an unrelated one is not."""
    name = host.check_output("hostname")
    address = host.check_output("hostname -I").split()[0]
    check = f"openssl verify -x509_strict -CAfile {TLS}/ca.crt"
    host.check_output(f"{check} -verify_hostname {name}.scenario.test {TLS}/host.crt")
    host.check_output(f"{check} -verify_hostname service.scenario.test {TLS}/host.crt")
    host.check_output(f"{check} -verify_ip {address} {TLS}/host.crt")
    assert host.run(f"{check} -verify_hostname other.test {TLS}/host.crt").rc != 0


def test_key_fits_and_is_for_the_group_only(host: Host) -> None:
    """A service reads the key as a member of ssl-cert; other users cannot."""
    key = host.file(f"{TLS}/host.key")
    assert (key.user, key.group, key.mode) == ("root", "ssl-cert", 0o640)
    assert host.check_output(f"openssl pkey -pubout -in {TLS}/host.key") == host.check_output(
        f"openssl x509 -pubkey -noout -in {TLS}/host.crt"
    )


def test_certificate_for_a_purpose_has_its_own_key_and_one_name(host: Host) -> None:
    """A service that reads the host's key cannot present this certificate."""
    key = host.file(f"{TLS}/backup.key")
    assert (key.user, key.group, key.mode) == ("root", "root", 0o600)
    assert key.content != host.file(f"{TLS}/host.key").content
    name, address = host.check_output("hostname"), host.check_output("hostname -I").split()[0]
    check = f"openssl verify -x509_strict -CAfile {TLS}/ca.crt"
    for names in (f"-verify_hostname backup.{name}.scenario.test", f"-verify_ip {address}"):
        host.check_output(f"{check} {names} {TLS}/backup.crt")
    for other in (f"{name}.scenario.test", "service.scenario.test"):
        assert host.run(f"{check} -verify_hostname {other} {TLS}/backup.crt").rc != 0
    subject = host.check_output(f"openssl x509 -noout -subject -in {TLS}/backup.crt")
    assert subject == f"subject=CN=backup.{name}.scenario.test"


def test_authority_key_is_encrypted_and_only_on_the_controller(host: Host) -> None:
    """The CA's key stays on the controller, encrypted with a passphrase."""
    assert host.run("find / -xdev -name 'ca.key' | grep .").rc != 0
    key = f"{os.environ['MOLECULE_PROJECT_DIRECTORY']}/.lab/molecule/pki/pki/ca.key"
    with open(key, encoding="ascii") as file:
        assert "ENCRYPTED" in file.readline()


def test_request_for_another_name_is_rejected() -> None:
    """A compromised host may return any request; here its Python adds the name of etcd's members to each one."""
    host = testinfra.get_host("podman://tf-pki2")
    before = serial(host)
    packages = "/usr/lib/python3/dist-packages"
    program = (
        "from cryptography import x509\n"
        "build = x509.CertificateSigningRequestBuilder.add_extension\n"
        "def add(self, extension, critical):\n"
        "    if isinstance(extension, x509.SubjectAlternativeName):\n"
        "        extension = x509.SubjectAlternativeName([*extension, x509.DNSName('etcd.fleet.internal')])\n"
        "    return build(self, extension, critical)\n"
        "x509.CertificateSigningRequestBuilder.add_extension = add\n"
    )
    host.check_output(f'printf %s "{program}" > {packages}/stolen.py; echo import stolen > {packages}/stolen.pth')
    try:
        done = converge("--limit", "pki2", "-e", "pki_renew_before_days=500", check=False)
    finally:
        host.check_output(f"rm {packages}/stolen.py {packages}/stolen.pth")
    assert done.returncode == 2, done.stdout[-4000:]
    assert "requests a certificate that the inventory does not grant" in " ".join(done.stdout.split())
    assert serial(host) == before


def test_certificate_is_renewed_before_it_expires() -> None:
    """One outside the renewal window is kept; one inside it is replaced, and so is one that lacks a name.

    Running units are reloaded; a unit that does not exist yet is no error.
    """
    host = testinfra.get_host("podman://tf-pki1")
    # `|| true` is needed because grep regards a count of 0 as a failure.
    reloads = "journalctl --no-pager --unit=ssh | grep -c 'Received SIGHUP' || true"
    before, reloaded = serial(host), host.check_output(reloads)
    again("pki_renew_before_days=30")
    assert serial(host) == before
    assert host.check_output(reloads) == reloaded
    again('{"pki_extra_names": ["service.scenario.test", "other.scenario.test"]}')
    host.check_output(f"openssl verify -verify_hostname other.scenario.test -CAfile {TLS}/ca.crt {TLS}/host.crt")
    before = serial(host)
    assert int(host.check_output(reloads)) > int(reloaded)
    again("pki_renew_before_days=500")
    assert serial(host) != before
