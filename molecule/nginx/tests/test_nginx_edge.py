"""What the edge does before a request gets further: headers, traces, limits, attacks, maintenance."""

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
from edge import EDGE, Session, inside_status, requests, session, told
from testinfra.host import Host

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ATTACK = "?q=%3Cscript%3Ealert(1)%3C/script%3E"


@pytest.fixture
def client() -> Iterator[Session]:
    """Give a connection."""
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
    """Return what the access log says of a request; lines are written once a second."""
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
def test_each_answer_protects_the_browser(client: Session, path: str, status: int) -> None:
    """The application's and the edge's own; once each."""
    answer = client.ask(path)
    assert answer.status == status
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


def test_a_trace_goes_on_or_begins_here(client: Session, host: Host) -> None:
    """The client's own if it is one by the standard; the log has it under the request's id."""
    assert seen(client.ask("/", traceparent=TRACE).body, "traceparent") == TRACE
    for wrong in ("nonsense", TRACE.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32), TRACE[:-1]):
        answer = client.ask("/", traceparent=wrong)
        begun = seen(answer.body, "traceparent")
        assert begun == f"00-{answer.headers['x-request-id']}-{answer.headers['x-request-id'][:16]}-01"
    assert logged(host, answer.headers["x-request-id"])["trace"] == begun


def test_only_a_trusted_proxy_says_who_asks() -> None:
    """Its word is passed on; anybody else's is replaced by the address that asked."""
    said = "X-Forwarded-For: 192.0.2.9"
    assert seen(inside_status("up2", "/", said)[1], "x-forwarded-for") == "192.0.2.9"
    assert seen(inside_status("up3", "/", said)[1], "x-forwarded-for") == "10.203.0.107"


def test_a_key_may_ask_so_often_and_no_more(client: Session) -> None:
    """Beyond it 429 with the time to wait; another key, and who has none, do not notice."""
    answers = [client.ask("/", Authorization="Bearer one") for _ in range(60)]
    statuses = Counter(answer.status for answer in answers)
    assert set(statuses) == {200, 429}
    assert 20 <= statuses[200] < 45  # a burst of 20, then 10 a second
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
    assert {client.ask("/", Authorization="Bearer two").status, client.ask("/").status} == {200}


def test_passwords_are_not_guessed_here(client: Session) -> None:
    """Six logins at once, then one in ten seconds, and the answer says so."""
    answers = [client.ask("/v1/sessions", "POST", body="{}") for _ in range(20)]
    assert Counter(answer.status for answer in answers) == {200: 7, 429: 13}
    assert {answer.headers.get("retry-after") for answer in answers} == {None, "10"}


def test_webhooks_come_from_their_senders_alone(client: Session) -> None:
    """The source is an address of the list; what others send does not reach the application."""
    assert client.ask("/v1/webhooks/broker", "POST", body="{}").status == 200
    status, body = inside_status("up3", "/v1/webhooks/stranger")
    assert (status, json.loads(body)["status"]) == (403, 403)
    assert all("/v1/webhooks/stranger" not in requests(name) for name in ("up1", "up2", "up3"))


def test_webhooks_come_so_often_and_no_more(client: Session) -> None:
    """A burst of ten, then five a second; the rest of the API does not notice."""
    answers = [client.ask("/v1/webhooks/flood", "POST", body="{}") for _ in range(40)]
    statuses = Counter(answer.status for answer in answers)
    assert set(statuses) == {200, 429}
    assert 10 <= statuses[200] < 30
    assert {answer.headers.get("retry-after") for answer in answers} == {None, "1"}
    assert client.ask("/").status == 200


def test_an_attack_is_refused_and_told(client: Session, host: Host) -> None:
    """The answer names the request, and under that name the log has the rules that matched, and the score."""
    answer = client.ask(f"/orders{ATTACK}")
    assert answer.status == 403
    assert answer.problem()["request_id"] == answer.headers["x-request-id"]
    assert {"941100", "941110", "949110"} <= told(host, answer.headers["x-request-id"])
    errors = host.file("/var/log/nginx/error.log").content_string.splitlines()
    (entry,) = [line for line in errors if f'[unique_id "{answer.headers["x-request-id"]}"]' in line]
    assert '[id "949110"]' in entry
    assert re.search(r"Total Score: \d+", entry)
    assert all(f"/orders{ATTACK}" not in requests(name) for name in ("up1", "up2", "up3"))


def test_an_attack_in_a_body_is_refused(client: Session) -> None:
    """Also where it is one value of a JSON document."""
    order = {"symbol": "AAPL", "note": "1' UNION SELECT password FROM users --"}
    assert client.ask("/v1/orders", "POST", json.dumps(order), Content_Type="application/json").status == 403
    order["note"] = "Buy, sell and hold: 100 % select stock"
    assert client.ask("/v1/orders", "POST", json.dumps(order), Content_Type="application/json").status == 200


def test_a_body_is_inspected_to_its_end(client: Session) -> None:
    """An attack at the end of the largest body that nginx takes is found, and without it the same body passes."""
    order = {"note": "Buy, and hold for some years. " * 130, "symbol": "AAPL"}
    assert client.ask("/v1/orders", "POST", json.dumps(order), Content_Type="application/json").status == 200
    order["symbol"] = "<script>alert(1)</script>"
    assert client.ask("/v1/orders", "POST", json.dumps(order), Content_Type="application/json").status == 403


def test_a_location_may_be_watched_only_or_not_at_all(client: Session, host: Host) -> None:
    """Or more closely than the rest; and a rule may be left out for it."""
    watched, unwatched = client.ask(f"/seen/{ATTACK}"), client.ask(f"/unseen/{ATTACK}")
    assert (watched.status, unwatched.status) == (200, 200)
    assert {"941100", "949110"} <= told(host, watched.headers["x-request-id"])
    assert told(host, unwatched.headers["x-request-id"]) == set()
    assert client.ask(f"/excluded/{ATTACK}").status == 200
    odd = "?q=a%3Bb%26%26%28c%29%7Cd%60e"
    assert (client.ask(f"/{odd}").status, client.ask(f"/strict/{odd}").status) == (200, 403)


def test_under_maintenance_the_edge_answers_itself(client: Session, host: Host) -> None:
    """A page for browsers, a problem document for programs; health and operators get through; then all is as before."""
    with maintenance(host):
        program, browser = client.ask("/v1/orders"), client.ask("/", Accept="text/html,*/*")
        assert (program.status, browser.status) == (503, 503)
        assert program.problem()["title"] == "Service Unavailable"
        assert program.headers["retry-after"] == browser.headers["retry-after"] == "30"
        assert browser.headers["content-type"].startswith("text/html")
        assert browser.headers["x-request-id"] in browser.body
        assert client.ask("/readyz").status == 200
        assert inside_status("up1", "/v1/orders")[0] == 200
        # Who is excepted, and wants to know what clients see.
        assert inside_status("up1", "/v1/orders", "TradeFleet-As-Client: 1")[0] == 503
        assert inside_status("up3", "/v1/orders")[0] == 503
    assert client.ask("/v1/orders").status == 200


def test_a_client_that_sends_a_header_for_ever_is_left() -> None:
    """One byte each second: ten seconds are enough for a header."""
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
