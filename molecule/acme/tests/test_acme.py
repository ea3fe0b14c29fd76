"""Do both load balancers serve the certificate of an ACME server, whichever of them the server validates?"""

import hashlib
import json
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import testinfra
from inside import on
from scenario import converge

# Not a fixture: its tests would all run first, regardless of other tests between them.
ISSUER = testinfra.get_host("podman://tf-acme3")
NAME = "trade.scenario.test"
EDGES = {"acme1": "10.203.0.181", "acme2": "10.203.0.182"}
ORDER = f"/etc/letsencrypt/renewal/{NAME}.conf"
CHALLENGE = "/.well-known/acme-challenge/"


def eventually(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until a condition holds."""
    ends_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends_at, f"not within {seconds} s: {what}"
        time.sleep(0.2)


def served() -> dict[str, str]:
    """Return the SHA-256 of the certificate that each load balancer serves."""
    shown = {name: ssl.get_server_certificate((address, 443), timeout=5) for name, address in EDGES.items()}
    return {name: checksum(certificate) for name, certificate in shown.items()}


def checksum(pem: str) -> str:
    """Return the SHA-256 of the first certificate."""
    first = pem.partition(ssl.PEM_FOOTER)[0] + ssl.PEM_FOOTER
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).hexdigest()


def issued() -> str:
    """Return the SHA-256 of the certificate that certbot holds."""
    return checksum(ISSUER.check_output(f"cat /etc/letsencrypt/live/{NAME}/fullchain.pem"))


def challenge_count(name: str) -> int:
    """Return how often a load balancer received a request for a challenge; log lines are flushed once a second."""
    time.sleep(1.2)
    return int(on(name, f"grep -c {CHALLENGE} /var/log/nginx/access.log", check=False) or 0)


@contextmanager
def due() -> Iterator[None]:
    """Make certbot regard the certificate as due for renewal."""
    ISSUER.check_output(f"sed -i '1i renew_before_expiry = 1 year' {ORDER}")
    try:
        yield
    finally:
        ISSUER.check_output(f"sed -i '/^renew_before_expiry/d' {ORDER}")


def leads_to(*addresses: str) -> None:
    """Set the addresses of the name in the ACME server's name server."""
    for action, words in (("clear", {"host": NAME}), ("add", {"host": NAME, "addresses": addresses})):
        ISSUER.check_output(f"curl -fsS -d '{json.dumps(words)}' http://127.0.0.1:8055/{action}-a")


def curl(name: str, path: str) -> list[str]:
    """Send a request over plain HTTP to a load balancer; return the status, the redirect target and the body."""
    command = ["curl", "-sS", "--max-time", "5", "--path-as-is", "-H", f"Host: {NAME}"]
    command += ["--write-out", "\n%{http_code} %header{location}", f"http://{EDGES[name]}{path}"]
    body, last = subprocess.check_output(command, text=True).rsplit("\n", 1)
    return [*last.split(" "), body.strip()]


@pytest.fixture(scope="module", autouse=True)
def timer_disabled_for_tests() -> None:
    """Move the timer's next run far away: it stays active, but no renewal interferes with a test."""
    assert "acme-renew.service" in ISSUER.check_output("systemctl list-timers --no-legend acme-renew.timer")
    drop_in = "/run/systemd/system/acme-renew.timer.d"
    ISSUER.check_output(
        f"mkdir -p {drop_in} && printf '[Timer]\\nOnCalendar=\\nOnCalendar=2099-01-01\\n' > {drop_in}/far.conf"
    )
    ISSUER.check_output("systemctl daemon-reload && systemctl restart acme-renew.timer")
    eventually(
        lambda: ISSUER.run("systemctl is-active acme-renew").stdout.strip() == "inactive", 60, "no renewal is under way"
    )


def test_both_serve_one_certificate_of_the_acme_server() -> None:
    """Only the CA of the ACME server is trusted; the fleet's own certificate is not served."""
    assert served() == dict.fromkeys(EDGES, issued())
    root = ISSUER.check_output("curl -fsS --cacert /etc/ssl/tradefleet/ca.crt https://10.203.0.183:15000/roots/0")
    for address in EDGES.values():
        ISSUER.check_output(
            f"echo '{root}' > /root/root.pem; echo | openssl s_client -connect {address}:443 -servername {NAME} "
            f"-verify_hostname {NAME} -CAfile /root/root.pem -no-CApath -verify_return_error"
        )
    assert ISSUER.check_output("/usr/local/sbin/acme-renew check").startswith("Every load balancer serves")


@pytest.mark.parametrize("name", EDGES)
def test_renewal_through_either_load_balancer_reaches_both(name: str) -> None:
    """The name points to one load balancer: the server validates that one, and both serve the new certificate."""
    leads_to(EDGES[name])
    before, challenges_before = served(), {each: challenge_count(each) for each in EDGES}
    with due():
        ISSUER.check_output("systemctl start acme-renew")
    # A former worker of nginx may still answer for a moment.
    eventually(lambda: both_serve(issued()), 5, "both serve it")
    assert issued() not in before.values()
    assert {each for each in EDGES if challenge_count(each) > challenges_before[each]} == {name}


def test_unknown_challenge_is_not_found() -> None:
    """With and without a listener; no other path is proxied."""
    token = CHALLENGE + "unknown"
    ISSUER.check_output("mkdir -p /run/empty && echo secret > /run/empty/x")
    listener = "systemd-run --quiet --collect --unit listener python3 -m http.server --bind 10.203.0.183 "
    for listens in (False, True):
        if listens:
            ISSUER.check_output(listener + "--directory /run/empty 8402")
            eventually(lambda: ISSUER.run("curl -fsS http://10.203.0.183:8402/x").rc == 0, 10, "the listener is up")
        try:
            for name in EDGES:
                assert curl(name, token) == ["404", "", "no such challenge"]
                # Redirected, or rejected as an attack.
                assert curl(name, CHALLENGE + "../../x")[0] in ("301", "403")
                assert curl(name, "/x")[:2] == ["301", f"https://{NAME}/x"]
        finally:
            if listens:
                ISSUER.check_output("systemctl stop listener")


def test_unreachable_load_balancer_is_reported_and_receives_the_certificate_later() -> None:
    """The other one is not delayed; the unit fails until both serve the same certificate."""
    before = served()
    on("acme2", "systemctl stop acme-receive.socket")
    try:
        with due():
            assert ISSUER.run("systemctl start acme-renew").rc != 0
        assert ISSUER.run("systemctl is-failed --quiet acme-renew").rc == 0
        output = ISSUER.check_output("journalctl --sync; journalctl --unit acme-renew --lines 20 --output cat")
        assert "10.203.0.182 did not accept the certificate" in output
        eventually(lambda: served() == {"acme1": issued(), "acme2": before["acme2"]}, 5, "one serves it")
    finally:
        on("acme2", "systemctl start acme-receive.socket")
    ISSUER.check_output("systemctl start acme-renew")
    eventually(lambda: both_serve(issued()), 5, "both serve it")


def test_delivery_from_another_host_is_rejected() -> None:
    """Its certificate is from the same CA as the issuer's, but for another address."""
    tls = "-cert /etc/ssl/tradefleet/host.crt -key /etc/ssl/tradefleet/host.key -CAfile /etc/ssl/tradefleet/ca.crt"
    talk = f"(echo '{{}}'; sleep 1) | timeout 5 openssl s_client -quiet {tls} -connect 10.203.0.181:8403 2>&1"
    assert "refused" not in on("acme2", talk, check=False)
    log = "journalctl --unit 'acme-receive@*' --output cat"
    eventually(lambda: "10.203.0.182 is not acme_issuer" in on("acme1", log), 5, "the rejected host is in the log")
    assert on("acme1", "systemctl list-units --failed --no-legend 'acme-receive*'") == ""


def test_load_balancer_serves_and_receives_after_a_reboot() -> None:
    """It serves the same certificate, and accepts a delivery."""
    on("acme2", "systemctl reboot", check=False)
    eventually(lambda: not both_serve(issued()), 20, "acme2 goes down")
    eventually(lambda: both_serve(issued()), 30, "both serve the certificate")
    assert on("acme2", "systemctl is-active acme-receive.socket").strip() == "active"
    assert ISSUER.run("timeout 5 bash -c 'exec 3<>/dev/tcp/10.203.0.182/8403'").rc == 0


def both_serve(wanted: str) -> bool:
    """Return whether every load balancer serves this certificate; one that does not respond counts as false."""
    try:
        return served() == dict.fromkeys(EDGES, wanted)
    except OSError:
        return False


def test_run_after_renewals_changes_nothing() -> None:
    """A delivered certificate does not change the configuration ID."""
    assert converge("--tags", "acme,nginx").stdout.count("changed=0 ") == len(EDGES) + 1


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("acme_email=", "set acme_directory to the server's directory"),
        ("acme_directory=http://plain/", "https://"),
        ("acme_names=*.a.test", "HTTP-01"),
    ],
)
def test_incomplete_or_invalid_settings_are_rejected(setting: str, message: str) -> None:
    """The role fails before any change."""
    name, _, value = setting.partition("=")
    extra = json.dumps({name: [value] if name == "acme_names" else value})
    refused = converge("--limit", "acme1", "--tags", "acme", "-e", extra, check=False)
    assert refused.returncode != 0
    assert message in " ".join(refused.stdout.split())
    assert "Check | Fail if" in refused.stdout


def test_failed_renewal_is_reported_and_changes_nothing() -> None:
    """The ACME server is down; the timer keeps retrying, and Debian's own timer is disabled."""
    before = served()
    ISSUER.check_output("systemctl stop pebble")
    try:
        with due():
            assert ISSUER.run("systemctl start acme-renew").rc != 0
    finally:
        ISSUER.check_output("systemctl start pebble")
    assert served() == before == dict.fromkeys(EDGES, issued())
    output = ISSUER.check_output("journalctl --sync; journalctl --unit acme-renew --lines 20 --output cat")
    assert "certbot failed" in output
    assert "This host must reach https://10.203.0.183:14000/dir" in output
    assert ISSUER.run("systemctl is-failed --quiet acme-renew").rc == 0
    assert ISSUER.check_output("systemctl is-active acme-renew.timer") == "active"
    assert ISSUER.run("systemctl is-active certbot.timer").stdout.strip() == "inactive"
    assert ISSUER.run("systemctl is-enabled certbot.timer").stdout.strip() == "disabled"


# The last test: it disables everything for good.
@pytest.mark.thorough
def test_empty_directory_removes_everything() -> None:
    """Nothing renews, nothing listens, and clients get the fleet's own certificate."""
    off = {"acme_directory": "", "acme_email": "", "nginx_tls_delivered_dir": "", "nginx_challenge_server": ""}
    converge("--tags", "acme,nginx", "-e", json.dumps(off))
    own = {name: checksum(on(name, "cat /etc/ssl/tradefleet/host.crt")) for name in EDGES}
    eventually(lambda: served() == own, 5, "the fleet's own certificate is served")
    assert on("acme1", "ss -Htln sport = :8403") == ""
    assert ISSUER.run("systemctl is-active acme-renew.timer").rc != 0
    assert curl("acme1", CHALLENGE + "x")[0] == "301"
