"""What the edge does before it forwards a request: headers, traces, limits, attacks, maintenance."""

import json
import re
import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from edge import EDGE, Session, inside_status, matched_rules, requests, session
from testinfra.host import Host

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ATTACK = "?q=%3Cscript%3Ealert(1)%3C/script%3E"


@pytest.fixture
def client() -> Iterator[Session]:
    """Yield a connection."""
    with session() as opened:
        yield opened


@contextmanager
def maintenance(host: Host) -> Iterator[None]:
    """Close the edge as maintenance.yml does."""
    host.check_output("touch /etc/nginx/maintenance")
    try:
        yield
    finally:
        host.check_output("rm /etc/nginx/maintenance")


def logged(host: Host, request_id: str) -> dict[str, Any]:
    """Return the access log entry of a request; lines are flushed once a second."""
    for _ in range(30):
        for line in reversed(host.file("/var/log/nginx/access.log").content_string.splitlines()):
            if request_id in line:
                found: dict[str, Any] = json.loads(line)
                return found
        time.sleep(0.1)
    raise AssertionError(f"{request_id} is not in access.log")


def seen(answer_body: str, name: str) -> str:
    """Return a header as the application received it."""
    (found,) = re.findall(f"^{name}: (.*)$", answer_body, re.MULTILINE | re.IGNORECASE)
    return str(found)


@pytest.mark.parametrize(("path", "status"), [("/", 200), (f"/{ATTACK}", 403), ("/v1/webhooks/x", 200)])
def test_each_response_has_the_security_headers(client: Session, path: str, status: int) -> None:
    """This applies to responses of the application and of the edge, which contain each header once."""
    answer = client.request(path)
    assert answer.status == status
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


def test_trace_continues_or_begins_at_the_edge(client: Session, host: Host) -> None:
    """A valid trace of the client continues; the log contains it with the request's ID."""
    assert seen(client.request("/", traceparent=TRACE).body, "traceparent") == TRACE
    for wrong in ("nonsense", TRACE.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32), TRACE[:-1]):
        answer = client.request("/", traceparent=wrong)
        begun = seen(answer.body, "traceparent")
        assert begun == f"00-{answer.headers['x-request-id']}-{answer.headers['x-request-id'][:16]}-01"
    assert logged(host, answer.headers["x-request-id"])["trace"] == begun


def test_only_a_trusted_proxy_sets_the_client_address() -> None:
    """Its value is forwarded; that of anyone else is replaced by the address of the connection."""
    header = "X-Forwarded-For: 192.0.2.9"
    assert seen(inside_status("up2", "/", header)[1], "x-forwarded-for") == "192.0.2.9"
    assert seen(inside_status("up3", "/", header)[1], "x-forwarded-for") == "10.203.0.107"


def test_rate_of_a_key_is_limited(client: Session) -> None:
    """Beyond the limit the status is 429 with the time to wait; other keys and no key are unaffected."""
    answers = [client.request("/", Authorization="Bearer one") for _ in range(60)]
    statuses = Counter(answer.status for answer in answers)
    assert set(statuses) == {200, 429}
    assert 20 <= statuses[200] < 45  # a burst of 20, then 10 per second
    refused = next(answer for answer in answers if answer.status == 429)
    assert refused.headers["retry-after"] == "1"
    assert refused.problem() == {
        "type": "about:blank",
        "title": "Too Many Requests",
        "status": 429,
        "detail": "Wait for as many seconds as the header Retry-After says.",
        "instance": "/",
        "request_id": refused.headers["x-request-id"],
    }
    assert {client.request("/", Authorization="Bearer two").status, client.request("/").status} == {200}


def test_rate_of_logins_is_limited(client: Session) -> None:
    """Six logins at once, then one in ten seconds, which the response states."""
    answers = [client.request("/v1/sessions", "POST", body="{}") for _ in range(20)]
    assert Counter(answer.status for answer in answers) == {200: 7, 429: 13}
    assert {answer.headers.get("retry-after") for answer in answers} == {None, "10"}


def test_webhooks_are_accepted_only_from_their_sources(client: Session) -> None:
    """The source must be in the list; requests of others do not reach the application."""
    assert client.request("/v1/webhooks/broker", "POST", body="{}").status == 200
    status, body = inside_status("up3", "/v1/webhooks/stranger")
    assert (status, json.loads(body)["status"]) == (403, 403)
    assert all("/v1/webhooks/stranger" not in requests(name) for name in ("up1", "up2", "up3"))


def test_rate_of_webhooks_is_limited(client: Session) -> None:
    """A burst of ten, then five per second; the rest of the API is unaffected."""
    answers = [client.request("/v1/webhooks/flood", "POST", body="{}") for _ in range(40)]
    statuses = Counter(answer.status for answer in answers)
    assert set(statuses) == {200, 429}
    assert 10 <= statuses[200] < 30
    assert {answer.headers.get("retry-after") for answer in answers} == {None, "1"}
    assert client.request("/").status == 200


def test_attack_is_rejected_and_logged(client: Session, host: Host) -> None:
    """The response contains the request ID, and the log has the matching rules and the score for that ID."""
    answer = client.request(f"/orders{ATTACK}")
    assert answer.status == 403
    assert answer.problem()["request_id"] == answer.headers["x-request-id"]
    assert {"941100", "941110", "949110"} <= matched_rules(host, answer.headers["x-request-id"])
    errors = host.file("/var/log/nginx/error.log").content_string.splitlines()
    (entry,) = [line for line in errors if f'[unique_id "{answer.headers["x-request-id"]}"]' in line]
    assert '[id "949110"]' in entry
    assert re.search(r"Total Score: \d+", entry)
    assert all(f"/orders{ATTACK}" not in requests(name) for name in ("up1", "up2", "up3"))


def test_attack_in_a_body_is_rejected(client: Session) -> None:
    """This includes an attack in one value of a JSON document."""
    order = {"symbol": "AAPL", "note": "1' UNION SELECT password FROM users --"}
    assert client.request("/v1/orders", "POST", json.dumps(order), Content_Type="application/json").status == 403
    order["note"] = "Buy, sell and hold: 100 % select stock"
    assert client.request("/v1/orders", "POST", json.dumps(order), Content_Type="application/json").status == 200


def test_body_is_inspected_to_its_end(client: Session) -> None:
    """An attack at the end of the largest body is found, and the same body without it is accepted."""
    order = {"note": "Buy, and hold for some years. " * 130, "symbol": "AAPL"}
    assert client.request("/v1/orders", "POST", json.dumps(order), Content_Type="application/json").status == 200
    order["symbol"] = "<script>alert(1)</script>"
    assert client.request("/v1/orders", "POST", json.dumps(order), Content_Type="application/json").status == 403


def test_inspection_is_configurable_for_each_location(client: Session, host: Host) -> None:
    """A location may be detected only, not inspected, inspected more closely, or exempt from a rule."""
    watched, unwatched = client.request(f"/seen/{ATTACK}"), client.request(f"/unseen/{ATTACK}")
    assert (watched.status, unwatched.status) == (200, 200)
    assert {"941100", "949110"} <= matched_rules(host, watched.headers["x-request-id"])
    assert matched_rules(host, unwatched.headers["x-request-id"]) == set()
    assert client.request(f"/excluded/{ATTACK}").status == 200
    odd = "?q=a%3Bb%26%26%28c%29%7Cd%60e"
    assert (client.request(f"/{odd}").status, client.request(f"/strict/{odd}").status) == (200, 403)


def test_edge_answers_during_maintenance(client: Session, host: Host) -> None:
    """Browsers get a page, programs a problem document; health checks and operators pass; then everything is normal."""
    with maintenance(host):
        program, browser = client.request("/v1/orders"), client.request("/", Accept="text/html,*/*")
        assert (program.status, browser.status) == (503, 503)
        assert program.problem()["title"] == "Service Unavailable"
        assert program.headers["retry-after"] == browser.headers["retry-after"] == "30"
        assert browser.headers["content-type"].startswith("text/html")
        assert browser.headers["x-request-id"] in browser.body
        assert client.request("/readyz").status == 200
        assert inside_status("up1", "/v1/orders")[0] == 200
        # An exempt host can request the view of a client.
        assert inside_status("up1", "/v1/orders", "TradeFleet-As-Client: 1")[0] == 503
        assert inside_status("up3", "/v1/orders")[0] == 503
    assert client.request("/v1/orders").status == 200


def test_client_that_sends_a_header_too_slowly_is_disconnected() -> None:
    """One byte per second: ten seconds are the limit for a header."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    began = time.monotonic()
    with (
        socket.create_connection((EDGE, 443), 5) as plain,
        context.wrap_socket(plain, server_hostname="scenario.test") as connection,
    ):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: scenario.test\r\n")
        connection.settimeout(1)
        while time.monotonic() - began < 15:
            try:
                connection.sendall(b"X")
                if connection.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
    assert 9 < time.monotonic() - began < 13
