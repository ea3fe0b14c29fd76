"""What a client cannot decide: the platform's name, the application's headers, its own limit, the keys of the cache."""

import json
import re
import socket
import ssl
import subprocess
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from edge import EDGE, Answer, Session, curl, requests, session
from inside import on
from testinfra.host import Host

NAME = "scenario.test"
UPSTREAMS = ("up1", "up2", "up3")
METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, QUERY"


@pytest.fixture
def client() -> Iterator[Session]:
    """Give a connection."""
    with session() as opened:
        yield opened


def raw(*lines: str, sni: str | None = NAME, tls: bool = True) -> tuple[int, dict[str, str], str]:
    """Send these lines as they are; return status, headers and body."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection((EDGE, 443 if tls else 80), 10)
    with context.wrap_socket(plain, server_hostname=sni) if tls else plain as connection:
        connection.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode())
        received = b""
        while part := connection.recv(65536):
            received += part
    head, _, body = received.decode().partition("\r\n\r\n")
    status, *headers = head.split("\r\n")
    parted = [header.partition(": ") for header in headers]
    return int(status.split()[1]), {name.lower(): value for name, _, value in parted}, body


@pytest.mark.parametrize("tls", [True, False], ids=["https", "http"])
@pytest.mark.parametrize(
    ("lines", "is_served"),
    [
        (("GET / HTTP/1.1", f"Host: {NAME}"), True),
        (("GET / HTTP/1.1", f"Host: {NAME.upper()}."), True),
        (("GET / HTTP/1.1", f"Host: {NAME}:443"), True),
        (("GET / HTTP/1.1", "Host: evil.test"), False),
        (("GET / HTTP/1.1", f"Host: {NAME}.evil.test"), False),
        (("GET / HTTP/1.1", f"Host: www.{NAME}"), False),
        (("GET / HTTP/1.1", f"Host: {EDGE}"), False),
        (("GET / HTTP/1.0",), False),
        # The target wins over the header (RFC 9112, 3.2.2).
        (("GET https://evil.test/ HTTP/1.1", f"Host: {NAME}"), False),
        ((f"GET https://{NAME}/ HTTP/1.1", "Host: evil.test"), True),
    ],
)
def test_only_the_platforms_name_is_served(lines: tuple[str, ...], is_served: bool, tls: bool) -> None:
    """Any other is answered 421 by the edge itself, and nothing of it appears in the answer."""
    status, headers, body = raw(*lines, tls=tls)
    if not is_served:
        assert (status, json.loads(body)["status"]) == (421, 421)
        assert "location" not in headers
    elif tls:
        assert status == 200
        assert f"Host: {NAME}\n" in body
    else:
        assert (status, headers["location"]) == (301, f"https://{NAME}/")
    assert "evil" not in str(headers) + body


@pytest.mark.parametrize(
    ("sni", "name", "status"), [("evil.test", NAME, 200), (None, NAME, 200), (NAME, "evil.test", 421)]
)
def test_the_name_of_the_handshake_does_not_decide(sni: str | None, name: str, status: int) -> None:
    """The request's own name does."""
    assert raw("GET / HTTP/1.1", f"Host: {name}", sni=sni)[0] == status


def test_http2_names_the_platform_too() -> None:
    """Its :authority is the name, with or without a port."""
    for name, status in ((NAME, "200"), (f"{NAME}:443", "200"), ("evil.test", "421")):
        answer = curl("--http2", "-H", f"Host: {name}", "--write-out", "\n%{http_version} %{http_code}")
        assert answer.stdout.splitlines()[-1] == f"2 {status}"


FORGED = {
    "Forwarded": "for=192.0.2.9;host=evil.test;proto=http",
    "X-Forwarded-For": "192.0.2.9",
    "X-Forwarded-Host": "evil.test",
    "X-Forwarded-Port": "444",
    "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Protocol": "ssl",
    "X-Forwarded-Server": "evil.test",
    "X-Forwarded-Ssl": "off",
    "X-Forwarded-User": "evil",
    "X-Real-IP": "192.0.2.9",
    "X-Client-IP": "192.0.2.9",
    "X-Host": "evil.test",
    "X-Accel-Redirect": "/evil",
    "X-Original-URL": "/evil",
    "X-Rewrite-URL": "/evil",
    "X-HTTP-Method-Override": "DELETE",
    "X-Request-Id": "evil",
    "TradeFleet-Shadow": "evil",
    "TradeFleet-As-Client": "evil",
    "Remote-User": "evil",
    "Script-Name": "/evil",
    "Client-Cert": "evil",
    "If-Modified-Since": "Sat, 29 Nov 2036 00:00:00 GMT",
}
ALLOWED = {
    "Accept": "application/json",
    "Authorization": "Bearer names",
    "Content-Type": "application/json",
    "Cookie": "tradefleet_client=1",
    "Idempotency-Key": "1",
    "If-None-Match": '"1"',
    "User-Agent": "trader",
}
OWN = {"host", "traceparent", "x-forwarded-for", "x-forwarded-proto", "x-request-id"}


@pytest.mark.parametrize("path", ["/", "/public-headers", "/v1/sessions", "/v1/webhooks/x", "/readyz"])
def test_the_application_receives_the_headers_of_a_list_and_no_other(client: Session, path: str) -> None:
    """Whatever a client calls them; those that the edge sets are the edge's."""
    answer = client.ask(path, **{name.replace("-", "_"): value for name, value in (FORGED | ALLOWED).items()})
    assert answer.status == 200
    received = dict(line.split(": ", 1) for line in answer.body.splitlines() if ": " in line)
    # What is cached for everybody does not depend on one client.
    allowed = {} if path == "/public-headers" else ALLOWED
    assert {name.lower() for name in received} == OWN | {name.lower() for name in allowed}
    assert {name: value for name, value in received.items() if name in ALLOWED} == allowed
    assert received["X-Forwarded-Proto"] == "https"
    assert received["X-Forwarded-For"] == "10.203.0.1"
    assert "evil" not in answer.body


def test_a_mirrored_read_carries_the_same_headers(host: Host) -> None:
    """And the mark that it is one, which clients cannot set."""
    text = host.file("/etc/nginx/nginx.conf").content_string
    (mirrored,) = re.findall(r"location = /edge-shadow \{(.*?)\n        \}", text, re.DOTALL)
    (usual,) = re.findall(r"proxy_http_version 1.1;(.*?)proxy_hide_header", text, re.DOTALL)
    headers = [set(re.findall(r"proxy_set_header (\S+) ", block)) for block in (mirrored, usual)]
    assert headers[0] - headers[1] == {"TradeFleet-Shadow"}
    assert headers[1] <= headers[0]


def test_nginx_reports_that_it_is_alive_on_this_host_alone(client: Session) -> None:
    """To keepalived, at the port of clients and over TLS; from outside there is no such path at the edge."""
    assert on("edge1", "curl -fsk https://127.0.0.1/edge-alive") == "alive\n"
    assert on("edge1", f"curl -sk -o /dev/null -w '%{{http_code}}' https://{EDGE}/edge-alive") == "421"
    assert raw("GET /edge-alive HTTP/1.1", "Host: 127.0.0.1")[0] == 421
    outside = client.ask("/edge-alive")
    assert outside.headers["x-color"] == "blue"  # the application's answer, limited and logged as any other
    assert outside.body != "alive\n"
    # By name the platform answers on loopback too.
    by_name = f"curl -sk -o /dev/null -w '%{{http_code}}' --resolve {NAME}:443:127.0.0.1 https://{NAME}/"
    assert on("edge1", by_name) == "200"


def test_the_edges_own_places_are_not_reachable_from_outside(client: Session) -> None:
    """For errors, for the page of a closed platform, and for mirrored reads."""
    for place in ("/edge-problem", "/edge-page", "/edge-shadow"):
        answer = client.ask(place)
        assert (answer.status, "x-color" in answer.headers) == (404, False)


def test_the_status_of_nginx_is_on_loopback_alone() -> None:
    """Its configuration and its connections; neither is reachable through the ports of clients."""
    for path in ("/configuration", "/connections"):
        assert on("edge1", f"curl -fs http://127.0.0.1:8080{path}")
        assert on("edge1", f"curl -s --max-time 2 http://{EDGE}:8080{path}", check=False) == ""
        with session() as client:
            assert client.ask(path).headers["x-color"] == "blue"


SPELLINGS = ("Bearer {}", "bearer {}", "BEARER {}", "Bearer  {}", "bEaReR   {}", "Bearer {} ", "  Bearer {}\t")


def test_a_key_has_one_limit_however_it_is_spelled(client: Session) -> None:
    """A burst of 20, then 10 a second, for all spellings together; the application receives one of them."""
    answers = [client.ask("/", Authorization=SPELLINGS[n % len(SPELLINGS)].format("spelled")) for n in range(80)]
    statuses = Counter(answer.status for answer in answers)
    assert set(statuses) == {200, 429}
    assert 20 <= statuses[200] < 45
    assert {
        found
        for answer in answers
        if answer.status == 200
        for found in re.findall("(?im)^authorization: .*$", answer.body)
    } == {"Authorization: Bearer spelled"}


@pytest.mark.parametrize(
    "odd",
    [
        "Basic YTpi",
        "Bearer",
        "Bearer a b",
        "Bearer a, Bearer b",
        "spelled",
        "Bearer\ta",
        "Bearer\xa0a",
        f"Bearer {'k' * 257}",
    ],
)
def test_what_is_no_key_does_not_reach_the_application(client: Session, odd: str) -> None:
    """It would have no limit of its own there, and be none anyway."""
    answer = client.ask("/", Authorization=odd)
    assert answer.status == 200
    assert "authorization" not in answer.body.lower()


def asked(part: str) -> Counter[str]:
    """Return how often the application was asked for each target that has this part."""
    return Counter(line for name in UPSTREAMS for line in requests(name) if part in line)


def test_a_cached_path_has_one_answer_however_it_is_asked_for(client: Session) -> None:
    """By any query and any spelling of the path; the application is asked for the path itself."""
    spellings = ["//public-names", "/./public-names", "/%70ublic-names"]
    paths = [*(f"/public-names?{number}" for number in range(20)), *spellings * 3]
    before = asked("ublic-names")
    assert {client.ask(path).status for path in paths} == {200}
    asked_for = asked("ublic-names") - before
    assert set(asked_for) == {"/public-names"}
    assert asked_for.total() <= 3
    assert on("edge1", "grep -rlc '^KEY: .*ublic-names' /var/cache/nginx | wc -l").strip() == "1"


def problem(answer: Answer) -> dict[str, Any]:
    """Return a problem document, which has each member that the application's have."""
    found = answer.problem()
    assert {name: type(value) for name, value in found.items()} == {
        "type": str, "title": str, "status": int, "detail": str, "instance": str, "request_id": str,
    }  # fmt: skip
    assert (found["status"], found["request_id"]) == (answer.status, answer.headers["x-request-id"])
    assert found["detail"].endswith(".")
    return found


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/", {"X_Long": "x" * 9000}, 400),
        ("GET", "/x?q=%3Cscript%3Ealert(1)%3C/script%3E", {}, 403),
        ("GET", "/static/missing.css", {}, 404),
        ("DELETE", "/static/missing.css", {}, 405),
        ("TRACE", "/v1/orders", {}, 405),
        ("GET", "/" + "x" * 9000, {}, 414),
        ("GET", "/", {"Transfer_Encoding": "gzip"}, 501),
        ("GET", "/die", {}, 502),
    ],
)
def test_the_edges_problem_documents_are_the_applications(
    method: str, path: str, headers: dict[str, str], status: int
) -> None:
    """With `detail` and `instance`, and `Allow` where a method is refused."""
    with session() as client:
        answer = client.ask(path, method, **headers)
    assert answer.status == status
    if status == 414 or "X_Long" in headers:  # nginx had no target yet, or none that it would keep
        answer.problem()
    else:
        assert problem(answer)["instance"] == path.partition("?")[0]
    expected = {"DELETE": "GET, HEAD", "TRACE": METHODS}.get(method)
    assert answer.headers.get("allow") == expected


def test_a_file_in_part_or_on_condition_is_refused_with_a_problem_document(client: Session, host: Host) -> None:
    """A range that it does not have, a state that it is not in."""
    (name, *_) = host.check_output("cd /var/lib/tradefleet-edge/static && ls *.css").split()
    for headers, status in (({"Range": "bytes=999999-"}, 416), ({"If_Match": '"x"'}, 412)):
        answer = client.ask(f"/static/{name}", **headers)
        assert answer.status == status
        assert problem(answer)["instance"] == f"/static/{name}"


@pytest.mark.parametrize(
    "target", ['/static/"', '/static/",x="', "/static/\\", "/static/<b>", "/static/\xe9", "/static/{}"]
)
def test_no_target_breaks_a_problem_document(target: str) -> None:
    """What is no URI is not repeated."""
    status, _, body = raw(f"GET {target} HTTP/1.1", f"Host: {NAME}")
    assert status in {400, 403, 404}
    assert "instance" not in json.loads(body)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("CONNECT evil.test:80 HTTP/1.1", 400),
        ("|GET / HTTP/1.1", 400),
        ("GET x HTTP/1.1", 400),
        ("OPTIONS * HTTP/1.1", 400),
        ("GET  HTTP/1.1", 400),
        ("GET /\x01 HTTP/1.1", 400),
        ("GET /%00 HTTP/1.1", 400),
        ("GET /../x HTTP/1.1", 400),
        ("nonsense", 400),
        ("GET / HTTP/9.9", 505),
    ],
)
@pytest.mark.parametrize(("sni", "tls"), [(NAME, True), (None, True), (None, False)], ids=["name", "no-name", "http"])
def test_a_malformed_request_line_is_the_clients_fault(line: str, status: int, sni: str | None, tls: bool) -> None:
    """Never answered 500, though nginx has no path for it; whichever server of the edge meets it."""
    answer = raw(line, f"Host: {NAME}", sni=sni, tls=tls)
    assert (answer[0], json.loads(answer[2])["status"]) == (status, status)


def test_plain_http_at_the_port_of_https_is_told_so() -> None:
    """With a problem document as well."""
    answer = subprocess.run(
        ["curl", "-sS", "-w", "\n%{http_code}", "-H", f"Host: {NAME}", f"http://{EDGE}:443/x"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    body, status = answer.stdout.rsplit("\n", 1)
    assert (status, json.loads(body)["status"]) == ("400", 400)
