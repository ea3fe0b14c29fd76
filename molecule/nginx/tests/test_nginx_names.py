"""What a client cannot change: the platform's name, the application's headers, its own limit, the cache keys."""

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
    """Yield a connection."""
    with session() as opened:
        yield opened


def raw(*lines: str, sni: str | None = NAME, tls: bool = True) -> tuple[int, dict[str, str], str]:
    """Send these lines unchanged; return status, headers and body."""
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
        # The target overrides the header (RFC 9112, 3.2.2).
        (("GET https://evil.test/ HTTP/1.1", f"Host: {NAME}"), False),
        ((f"GET https://{NAME}/ HTTP/1.1", "Host: evil.test"), True),
    ],
)
def test_only_the_name_of_the_platform_is_served(lines: tuple[str, ...], is_served: bool, tls: bool) -> None:
    """The edge itself answers any other name with 421, and the response does not contain it."""
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
def test_name_of_the_handshake_is_irrelevant(sni: str | None, name: str, status: int) -> None:
    """Only the request's own name counts."""
    assert raw("GET / HTTP/1.1", f"Host: {name}", sni=sni)[0] == status


def test_http2_requires_the_name_of_the_platform() -> None:
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
def test_application_receives_only_listed_headers(client: Session, path: str) -> None:
    """Other headers of a client are dropped; headers that the edge sets have the edge's value."""
    answer = client.request(path, **{name.replace("-", "_"): value for name, value in (FORGED | ALLOWED).items()})
    assert answer.status == 200
    received = dict(line.split(": ", 1) for line in answer.body.splitlines() if ": " in line)
    # A response that is cached for everyone does not depend on one client.
    allowed = {} if path == "/public-headers" else ALLOWED
    assert {name.lower() for name in received} == OWN | {name.lower() for name in allowed}
    assert {name: value for name, value in received.items() if name in ALLOWED} == allowed
    assert received["X-Forwarded-Proto"] == "https"
    assert received["X-Forwarded-For"] == "10.203.0.1"
    assert "evil" not in answer.body


def test_mirrored_read_has_the_same_headers(host: Host) -> None:
    """It also has the mark of a mirrored request, which clients cannot set."""
    text = host.file("/etc/nginx/nginx.conf").content_string
    (mirrored,) = re.findall(r"location = /edge-shadow \{(.*?)\n        \}", text, re.DOTALL)
    (usual,) = re.findall(r"proxy_http_version 1.1;(.*?)proxy_hide_header", text, re.DOTALL)
    headers = [set(re.findall(r"proxy_set_header (\S+) ", block)) for block in (mirrored, usual)]
    assert headers[0] - headers[1] == {"TradeFleet-Shadow"}
    assert headers[1] <= headers[0]


def test_liveness_is_reported_only_on_the_host_itself(client: Session) -> None:
    """keepalived requests it at the clients' port over TLS; from outside the edge has no such path."""
    assert on("edge1", "curl -fsk https://127.0.0.1/edge-alive") == "alive\n"
    assert on("edge1", f"curl -sk -o /dev/null -w '%{{http_code}}' https://{EDGE}/edge-alive") == "421"
    assert raw("GET /edge-alive HTTP/1.1", "Host: 127.0.0.1")[0] == 421
    outside = client.request("/edge-alive")
    assert outside.headers["x-color"] == "blue"  # the application's response, limited and logged like any other
    assert outside.body != "alive\n"
    # The platform also answers by its name on loopback.
    by_name = f"curl -sk -o /dev/null -w '%{{http_code}}' --resolve {NAME}:443:127.0.0.1 https://{NAME}/"
    assert on("edge1", by_name) == "200"


def test_internal_locations_are_not_reachable_from_outside(client: Session) -> None:
    """They are for errors, for the maintenance page, and for mirrored reads."""
    for place in ("/edge-problem", "/edge-page", "/edge-shadow"):
        answer = client.request(place)
        assert (answer.status, "x-color" in answer.headers) == (404, False)


def test_status_of_nginx_is_only_on_loopback() -> None:
    """Configuration and connections are not reachable through the ports for clients."""
    for path in ("/configuration", "/connections"):
        assert on("edge1", f"curl -fs http://127.0.0.1:8080{path}")
        assert on("edge1", f"curl -s --max-time 2 http://{EDGE}:8080{path}", check=False) == ""
        with session() as client:
            assert client.request(path).headers["x-color"] == "blue"


SPELLINGS = ("Bearer {}", "bearer {}", "BEARER {}", "Bearer  {}", "bEaReR   {}", "Bearer {} ", "  Bearer {}\t")


def test_key_has_one_limit_for_all_spellings(client: Session) -> None:
    """A burst of 20, then 10 per second, for all spellings together; the application receives one spelling."""
    answers = [client.request("/", Authorization=SPELLINGS[n % len(SPELLINGS)].format("spelled")) for n in range(80)]
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
def test_invalid_key_does_not_reach_the_application(client: Session, odd: str) -> None:
    """It would bypass the limit of keys, and is not valid anyway."""
    answer = client.request("/", Authorization=odd)
    assert answer.status == 200
    assert "authorization" not in answer.body.lower()


def target_counts(part: str) -> Counter[str]:
    """Return how often the application received each target that contains this part."""
    return Counter(line for name in UPSTREAMS for line in requests(name) if part in line)


def test_cached_path_has_one_response_for_all_spellings(client: Session) -> None:
    """This applies to any query and any spelling of the path; the application receives the path itself."""
    spellings = ["//public-names", "/./public-names", "/%70ublic-names"]
    paths = [*(f"/public-names?{number}" for number in range(20)), *spellings * 3]
    before = target_counts("ublic-names")
    assert {client.request(path).status for path in paths} == {200}
    received = target_counts("ublic-names") - before
    assert set(received) == {"/public-names"}
    assert received.total() <= 3
    assert on("edge1", "grep -rlc '^KEY: .*ublic-names' /var/cache/nginx | wc -l").strip() == "1"


def problem(answer: Answer) -> dict[str, Any]:
    """Return a problem document, which has the same members as those of the application."""
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
def test_problem_documents_of_the_edge_match_those_of_the_application(
    method: str, path: str, headers: dict[str, str], status: int
) -> None:
    """They contain `detail` and `instance`, and `Allow` if a method is rejected."""
    with session() as client:
        answer = client.request(path, method, **headers)
    assert answer.status == status
    if status == 414 or "X_Long" in headers:  # nginx had no target yet, or discarded it
        answer.problem()
    else:
        assert problem(answer)["instance"] == path.partition("?")[0]
    expected = {"DELETE": "GET, HEAD", "TRACE": METHODS}.get(method)
    assert answer.headers.get("allow") == expected


def test_unsatisfiable_range_or_condition_is_a_problem_document(client: Session, host: Host) -> None:
    """The file lacks the requested range, or does not fulfill the condition."""
    (name, *_) = host.check_output("cd /var/lib/tradefleet-edge/static && ls *.css").split()
    for headers, status in (({"Range": "bytes=999999-"}, 416), ({"If_Match": '"x"'}, 412)):
        answer = client.request(f"/static/{name}", **headers)
        assert answer.status == status
        assert problem(answer)["instance"] == f"/static/{name}"


@pytest.mark.parametrize(
    "target", ['/static/"', '/static/",x="', "/static/\\", "/static/<b>", "/static/\xe9", "/static/{}"]
)
def test_no_target_breaks_a_problem_document(target: str) -> None:
    """An invalid URI is not repeated in the document."""
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
def test_malformed_request_line_is_never_answered_with_500(line: str, status: int, sni: str | None, tls: bool) -> None:
    """This holds for every server of the edge, although nginx has no path for the request."""
    answer = raw(line, f"Host: {NAME}", sni=sni, tls=tls)
    assert (answer[0], json.loads(answer[2])["status"]) == (status, status)


def test_plain_http_at_the_https_port_is_a_problem_document() -> None:
    """The status is 400."""
    answer = subprocess.run(
        ["curl", "-sS", "-w", "\n%{http_code}", "-H", f"Host: {NAME}", f"http://{EDGE}:443/x"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    body, status = answer.stdout.rsplit("\n", 1)
    assert (status, json.loads(body)["status"]) == ("400", 400)
