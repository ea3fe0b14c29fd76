"""Does every variable take effect on a host of another CA, with no default values?"""

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
# `|| true` is needed because grep regards a count of 0 as a failure.
RELOADS = "journalctl --no-pager --unit=ssh | grep -c 'Received SIGHUP' || true"


def certificate() -> x509.Certificate:
    """Return the host's certificate."""
    return x509.load_pem_x509_certificate(HOST.file(f"{TLS}/host.crt").content)


def days(signed: x509.Certificate) -> int:
    """Return the number of days for which a certificate is valid."""
    return (signed.not_valid_after_utc - signed.not_valid_before_utc + timedelta(minutes=1)).days


def test_certificate_is_from_its_own_ca() -> None:
    """The CA has the folder, name and days of this scenario, and differs from that of the other hosts."""
    authority = x509.load_pem_x509_certificate((SCENARIO / "other/ca/ca.crt").read_bytes())
    assert HOST.file(f"{TLS}/ca.crt").content == (SCENARIO / "other/ca/ca.crt").read_bytes()
    assert authority.subject.rfc4514_string() == "CN=Another CA"
    assert days(authority) == 7300
    certificate().verify_directly_issued_by(authority)
    with pytest.raises(ValueError, match="does not match"):
        certificate().verify_directly_issued_by(x509.load_pem_x509_certificate((SCENARIO / "pki/ca.crt").read_bytes()))


def test_passphrase_decrypts_the_key_of_the_ca() -> None:
    """The passphrase of the other CA does not."""
    key = (SCENARIO / "other/ca/ca.key").read_bytes()
    assert load_pem_private_key(key, b"molecule-other")
    with pytest.raises(ValueError, match="password"):
        load_pem_private_key(key, b"molecule-only")


def test_certificate_has_the_configured_names_and_days() -> None:
    """It contains its own names in this domain and the configured address; there are no extra names."""
    signed = certificate()
    names = signed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["pki3", "pki3.other.test"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.3"]
    assert signed.subject.rfc4514_string() == "CN=pki3.other.test"
    assert days(signed) == 20


def test_renewal_without_units_reloads_nothing() -> None:
    """The list of units is empty."""
    before, reloads = certificate().serial_number, HOST.check_output(RELOADS)
    converge("--limit", "alternative", "-e", "pki_renew_before_days=21")
    assert certificate().serial_number != before
    assert HOST.check_output(RELOADS) == reloads
