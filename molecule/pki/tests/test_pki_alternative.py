"""Does every variable have its effect: a host of another CA, with none of the defaults?"""

import os
from datetime import timedelta
from pathlib import Path

import pytest
import testinfra
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from scenario import converge

HOST = testinfra.get_host("podman://tf-pki3")
TLS = "/etc/ssl/tradefleet"
SCENARIO = Path(f"{os.environ['MOLECULE_PROJECT_DIRECTORY']}/.lab/molecule/pki")
# «|| true»: grep calls a count of 0 a failure.
RELOADS = "journalctl --no-pager --unit=ssh | grep -c 'Received SIGHUP' || true"


def certificate() -> x509.Certificate:
    """Return the host's certificate."""
    return x509.load_pem_x509_certificate(HOST.file(f"{TLS}/host.crt").content)


def days(signed: x509.Certificate) -> int:
    """Return for how many days a certificate is valid, from when it was signed."""
    return (signed.not_valid_after_utc - signed.not_valid_before_utc + timedelta(minutes=1)).days


def test_it_is_of_its_own_authority() -> None:
    """The CA of the folder, name and days of this scenario, and not the other hosts'."""
    authority = x509.load_pem_x509_certificate((SCENARIO / "other/ca/ca.crt").read_bytes())
    assert HOST.file(f"{TLS}/ca.crt").content == (SCENARIO / "other/ca/ca.crt").read_bytes()
    assert authority.subject.rfc4514_string() == "CN=Another CA"
    assert days(authority) == 7300
    certificate().verify_directly_issued_by(authority)
    with pytest.raises(ValueError, match="does not match"):
        certificate().verify_directly_issued_by(x509.load_pem_x509_certificate((SCENARIO / "pki/ca.crt").read_bytes()))


def test_this_passphrase_opens_the_authoritys_key() -> None:
    """And the other authority's does not."""
    key = (SCENARIO / "other/ca/ca.key").read_bytes()
    assert load_pem_private_key(key, b"molecule-other")
    with pytest.raises(ValueError, match="password"):
        load_pem_private_key(key, b"molecule-only")


def test_its_names_and_days_are_these() -> None:
    """Its own, in this domain, and the address at which others reach it; no more, since it has no extra names."""
    signed = certificate()
    names = signed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["pki3", "pki3.other.test"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.3"]
    assert signed.subject.rfc4514_string() == "CN=pki3.other.test"
    assert days(signed) == 20


def test_a_renewed_certificate_is_nobodys_business() -> None:
    """Without units that hold it, none is reloaded."""
    before, reloads = certificate().serial_number, HOST.check_output(RELOADS)
    converge("--limit", "alternative", "-e", "pki_renew_before_days=21")
    assert certificate().serial_number != before
    assert HOST.check_output(RELOADS) == reloads
