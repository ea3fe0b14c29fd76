"""Do both load balancers serve the certificate that an ACME server has issued, whichever of them it asked?"""

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

# No fixture: its tests would all come first, whatever stands between them.
ISSUER = testinfra.get_host("podman://tf-acme3")
NAME = "trade.scenario.test"
EDGES = {"acme1": "10.203.0.181", "acme2": "10.203.0.182"}
ORDER = f"/etc/letsencrypt/renewal/{NAME}.conf"
CHALLENGE = "/.well-known/acme-challenge/"


def becomes(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until something is true."""
    ends_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends_at, f"not within {seconds} s: {what}"
        time.sleep(0.2)


def served() -> dict[str, str]:
    """Return the SHA-256 of what each load balancer shows a client."""
    shown = {name: ssl.get_server_certificate((address, 443), timeout=5) for name, address in EDGES.items()}
    return {name: sum_of(certificate) for name, certificate in shown.items()}


def sum_of(pem: str) -> str:
    """Return the SHA-256 of the first certificate."""
    first = pem.partition(ssl.PEM_FOOTER)[0] + ssl.PEM_FOOTER
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).hexdigest()


def issued() -> str:
    """Return the SHA-256 of what certbot has."""
    return sum_of(ISSUER.check_output(f"cat /etc/letsencrypt/live/{NAME}/fullchain.pem"))


def asked(name: str) -> int:
    """Return how often a load balancer was asked for a challenge; lines are written once a second."""
    time.sleep(1.2)
    return int(on(name, f"grep -c {CHALLENGE} /var/log/nginx/access.log", check=False) or 0)


@contextmanager
def due() -> Iterator[None]:
    """Have certbot believe that it is time."""
    ISSUER.check_output(f"sed -i '1i renew_before_expiry = 1 year' {ORDER}")
    try:
        yield
    finally:
        ISSUER.check_output(f"sed -i '/^renew_before_expiry/d' {ORDER}")


def leads_to(*addresses: str) -> None:
    """Tell the ACME server's name server where the name leads."""
    for verb, words in (("clear", {"host": NAME}), ("add", {"host": NAME, "addresses": addresses})):
        ISSUER.check_output(f"curl -fsS -d '{json.dumps(words)}' http://127.0.0.1:8055/{verb}-a")


def curl(name: str, path: str) -> list[str]:
    """Ask a load balancer over plain HTTP; return status, where it leads, and the body."""
    command = ["curl", "-sS", "--max-time", "5", "--path-as-is", "-H", f"Host: {NAME}"]
    command += ["--write-out", "\n%{http_code} %header{location}", f"http://{EDGES[name]}{path}"]
    body, last = subprocess.check_output(command, text=True).rsplit("\n", 1)
    return [*last.split(" "), body.strip()]


@pytest.fixture(scope="module", autouse=True)
def timer_far_away() -> None:
    """Put the timer's next time out of the tests' way: it stays active, and renews in the middle of none of them."""
    assert "acme-renew.service" in ISSUER.check_output("systemctl list-timers --no-legend acme-renew.timer")
    drop_in = "/run/systemd/system/acme-renew.timer.d"
    ISSUER.check_output(
        f"mkdir -p {drop_in} && printf '[Timer]\\nOnCalendar=\\nOnCalendar=2099-01-01\\n' > {drop_in}/far.conf"
    )
    ISSUER.check_output("systemctl daemon-reload && systemctl restart acme-renew.timer")
    becomes(
        lambda: ISSUER.run("systemctl is-active acme-renew").stdout.strip() == "inactive", 60, "no renewal is under way"
    )


def test_both_serve_one_certificate_of_the_acme_server() -> None:
    """Its CA's alone is believed; the fleet's own certificate is out of sight."""
    assert served() == dict.fromkeys(EDGES, issued())
    root = ISSUER.check_output("curl -fsS --cacert /etc/ssl/tradefleet/ca.crt https://10.203.0.183:15000/roots/0")
    for address in EDGES.values():
        ISSUER.check_output(
            f"echo '{root}' > /root/root.pem; echo | openssl s_client -connect {address}:443 -servername {NAME} "
            f"-verify_hostname {NAME} -CAfile /root/root.pem -no-CApath -verify_return_error"
        )
    assert ISSUER.check_output("/usr/local/sbin/acme-renew check").startswith("Every load balancer serves")


@pytest.mark.parametrize("name", EDGES)
def test_either_is_asked_and_both_are_given_what_is_issued(name: str) -> None:
    """A renewal that is due, with the name leading to one of them: that one is asked, and both serve what is new."""
    leads_to(EDGES[name])
    before, asked_before = served(), {each: asked(each) for each in EDGES}
    with due():
        ISSUER.check_output("systemctl start acme-renew")
    # A former worker of nginx may still answer, for a moment.
    becomes(lambda: both_serve(issued()), 5, "both serve it")
    assert issued() not in before.values()
    assert {each for each in EDGES if asked(each) > asked_before[each]} == {name}


def test_an_unknown_challenge_is_not_there() -> None:
    """Whether or not somebody listens; nothing else is passed on."""
    token = CHALLENGE + "unknown"
    ISSUER.check_output("mkdir -p /run/empty && echo secret > /run/empty/x")
    listener = "systemd-run --quiet --collect --unit listener python3 -m http.server --bind 10.203.0.183 "
    for listens in (False, True):
        if listens:
            ISSUER.check_output(listener + "--directory /run/empty 8402")
            becomes(lambda: ISSUER.run("curl -fsS http://10.203.0.183:8402/x").rc == 0, 10, "somebody listens")
        try:
            for name in EDGES:
                assert curl(name, token) == ["404", "", "no such challenge"]
                # Sent elsewhere, or taken for an attack.
                assert curl(name, CHALLENGE + "../../x")[0] in ("301", "403")
                assert curl(name, "/x")[:2] == ["301", f"https://{NAME}/x"]
        finally:
            if listens:
                ISSUER.check_output("systemctl stop listener")


def test_one_that_was_away_is_told_and_made_up_for() -> None:
    """The other one is not held up; the unit has failed until both serve the same."""
    before = served()
    on("acme2", "systemctl stop acme-receive.socket")
    try:
        with due():
            assert ISSUER.run("systemctl start acme-renew").rc != 0
        assert ISSUER.run("systemctl is-failed --quiet acme-renew").rc == 0
        said = ISSUER.check_output("journalctl --sync; journalctl --unit acme-renew --lines 20 --output cat")
        assert "10.203.0.182 has not taken the certificate" in said
        becomes(lambda: served() == {"acme1": issued(), "acme2": before["acme2"]}, 5, "one serves it")
    finally:
        on("acme2", "systemctl start acme-receive.socket")
    ISSUER.check_output("systemctl start acme-renew")
    becomes(lambda: both_serve(issued()), 5, "both serve it")


def test_another_host_of_the_fleet_delivers_nothing() -> None:
    """Its certificate is as good as the issuer's, but for another address."""
    tls = "-cert /etc/ssl/tradefleet/host.crt -key /etc/ssl/tradefleet/host.key -CAfile /etc/ssl/tradefleet/ca.crt"
    talk = f"(echo '{{}}'; sleep 1) | timeout 5 openssl s_client -quiet {tls} -connect 10.203.0.181:8403 2>&1"
    assert "refused" not in on("acme2", talk, check=False)
    log = "journalctl --unit 'acme-receive@*' --output cat"
    becomes(lambda: "10.203.0.182 is not acme_issuer" in on("acme1", log), 5, "the stranger is in the log")
    assert on("acme1", "systemctl list-units --failed --no-legend 'acme-receive*'") == ""


def test_a_load_balancer_is_as_it_was_after_a_reboot() -> None:
    """It serves the same, and takes what is delivered."""
    on("acme2", "systemctl reboot", check=False)
    becomes(lambda: not both_serve(issued()), 20, "acme2 goes down")
    becomes(lambda: both_serve(issued()), 30, "both serve the certificate")
    assert on("acme2", "systemctl is-active acme-receive.socket").strip() == "active"
    assert ISSUER.run("timeout 5 bash -c 'exec 3<>/dev/tcp/10.203.0.182/8403'").rc == 0


def both_serve(wanted: str) -> bool:
    """Tell whether clients see this one everywhere; who does not answer shows none."""
    try:
        return served() == dict.fromkeys(EDGES, wanted)
    except OSError:
        return False


def test_a_further_run_changes_nothing_after_renewals() -> None:
    """A certificate that was delivered is no other configuration."""
    assert converge("--tags", "acme,nginx").stdout.count("changed=0 ") == len(EDGES) + 1


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("acme_email=", "both must be set"),
        ("acme_directory=http://plain/", "https://"),
        ("acme_names=*.a.test", "HTTP-01"),
    ],
)
def test_half_a_wish_is_refused(setting: str, said: str) -> None:
    """Before anything is changed."""
    name, _, value = setting.partition("=")
    extra = json.dumps({name: [value] if name == "acme_names" else value})
    refused = converge("--limit", "acme1", "--tags", "acme", "-e", extra, check=False)
    assert refused.returncode != 0
    assert said in " ".join(refused.stdout.split())
    assert "Check | Refuse" in refused.stdout


def test_a_renewal_that_fails_is_told_and_changes_nothing() -> None:
    """The ACME server is away; the timer goes on trying, and Debian's own is off."""
    before = served()
    ISSUER.check_output("systemctl stop pebble")
    try:
        with due():
            assert ISSUER.run("systemctl start acme-renew").rc != 0
    finally:
        ISSUER.check_output("systemctl start pebble")
    assert served() == before == dict.fromkeys(EDGES, issued())
    said = ISSUER.check_output("journalctl --sync; journalctl --unit acme-renew --lines 20 --output cat")
    assert "certbot failed" in said
    assert "This host must reach https://10.203.0.183:14000/dir" in said
    assert ISSUER.run("systemctl is-failed --quiet acme-renew").rc == 0
    assert ISSUER.check_output("systemctl is-active acme-renew.timer") == "active"
    assert ISSUER.run("systemctl is-active certbot.timer").stdout.strip() == "inactive"
    assert ISSUER.run("systemctl is-enabled certbot.timer").stdout.strip() == "disabled"


# The last one: what it switches off stays off.
@pytest.mark.thorough
def test_without_a_directory_all_is_as_before() -> None:
    """Nothing renews, nothing listens, and clients see the fleet's own certificate."""
    off = {"acme_directory": "", "acme_email": "", "nginx_tls_delivered_dir": "", "nginx_challenge_server": ""}
    converge("--tags", "acme,nginx", "-e", json.dumps(off))
    own = {name: sum_of(on(name, "cat /etc/ssl/tradefleet/host.crt")) for name in EDGES}
    becomes(lambda: served() == own, 5, "the fleet's own certificate is served")
    assert on("acme1", "ss -Htln sport = :8403") == ""
    assert ISSUER.run("systemctl is-active acme-renew.timer").rc != 0
    assert curl("acme1", CHALLENGE + "x")[0] == "301"
