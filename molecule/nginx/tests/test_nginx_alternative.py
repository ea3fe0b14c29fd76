"""Does every variable take effect on an edge with no default values, tested from outside?"""

import re
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import testinfra
from edge import session

EDGE = testinfra.get_host("podman://tf-edge2")
ADDRESS = "10.203.0.162"
HTTPS, HTTP, STATUS, UPSTREAM = 8444, 8081, 8080, 9443


@pytest.fixture(scope="module")
def workers() -> int:
    """Return the number of nginx workers on this host."""
    return int(EDGE.check_output("pgrep --count --full '^nginx: worker process'"))


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with the only trusted certificate here: the one that this scenario installed on the edge."""
    file = tmp_path_factory.mktemp("ca") / "ca.crt"
    file.write_text(EDGE.file("/etc/ssl/other/host.crt").content_string)
    return file


def curl(ca: Path, *arguments: str, path: str = "/") -> subprocess.CompletedProcess[str]:
    """Send a request from outside; the last line of the output is status, color and the application's address."""
    command = ["curl", "-sS", "--max-time", "15", "--cacert", str(ca)]
    command += ["--resolve", f"trade.other.test:{HTTPS}:{ADDRESS}"]
    command += ["--write-out", "\n%{http_code} %header{x-color} %header{x-address}", *arguments]
    return subprocess.run(
        [*command, f"https://trade.other.test:{HTTPS}{path}"], capture_output=True, text=True, check=False
    )


def answer(ca: Path, *arguments: str, path: str = "/") -> list[str]:
    """Return status, color and address."""
    return curl(ca, *arguments, path=path).stdout.rpartition("\n")[2].split()


@contextmanager
def serving(color: str) -> Iterator[None]:
    """Make another color live, as a cutover does, and restore the former one afterward."""
    flip = "ln -s traffic-sets/{} /etc/nginx/new && mv -T /etc/nginx/new /etc/nginx/traffic"
    EDGE.check_output(flip.format(color))
    try:
        yield
    finally:
        EDGE.check_output(flip.format("red"))


def test_it_listens_only_on_these_ports() -> None:
    """The status port is on loopback; none of the default ports is used."""
    listening = set(EDGE.check_output("ss -Hlntp | awk '/nginx/ {print $4}'").split())
    assert listening == {f"0.0.0.0:{HTTPS}", f"0.0.0.0:{HTTP}", f"127.0.0.1:{STATUS}"}
    assert re.fullmatch("[0-9a-f]{64}", EDGE.check_output(f"curl -sS http://127.0.0.1:{STATUS}/configuration"))


def test_plain_http_is_redirected_to_this_port() -> None:
    """The redirect contains the name and the TLS port of the edge."""
    where = ["--resolve", f"trade.other.test:{HTTP}:{ADDRESS}", f"http://trade.other.test:{HTTP}/v1/orders?limit=1"]
    head = subprocess.check_output(["curl", "-sSI", *where], text=True)
    assert f"location: https://trade.other.test:{HTTPS}/v1/orders?limit=1\n" in head.lower().replace("\r", "")


def test_only_the_protocol_of_this_edge(ca: Path) -> None:
    """TLS 1.2 is accepted, TLS 1.3 is not; the certificate is from another CA."""
    assert answer(ca, "--tls-max", "1.2")[0] == "200"
    assert curl(ca, "--tlsv1.3").returncode == 35


def test_application_is_reached_and_trusted(ca: Path) -> None:
    """Both hosts of this color answer on the configured port with the configured name and CA."""
    assert {tuple(answer(ca)) for _ in range(8)} == {("200", "red", "127.0.0.1"), ("200", "red", "127.0.0.2")}
    assert f"Host: trade.other.test:{HTTPS}\n" in curl(ca).stdout


def test_color_without_hosts_answers_502(ca: Path) -> None:
    """This holds even if it is the live color."""
    with serving("void"):
        assert answer(ca) == ["502"]


def test_connect_timeout_is_applied(ca: Path) -> None:
    """It is longer than the default; the kernel's own timeout is later and would cause a 502."""
    with serving("gray"):
        began = time.monotonic()
        assert answer(ca) == ["504"]
        assert time.monotonic() - began > 1.9


def test_slow_host_is_skipped_for_the_configured_time(ca: Path) -> None:
    """It would answer within the default timeout; for two seconds the other host is used, and then both again."""
    assert answer(ca, "-X", "POST", path="/slow") == ["504"]
    failed = time.monotonic()
    first = answer(ca)[2]
    while answer(ca)[2] == first:
        assert time.monotonic() - failed < 4.5
        time.sleep(0.1)  # the limit is sixty requests per second
    assert time.monotonic() - failed > 1


def test_each_worker_keeps_one_idle_connection(ca: Path, workers: int) -> None:
    """Many were open at the same time."""
    count = f"ss -Htn state established dport = :{UPSTREAM} | wc -l"
    with ThreadPoolExecutor(4 * workers) as pool:
        running = [pool.submit(answer, ca, path="/pause") for _ in range(4 * workers)]
        time.sleep(0.1)
        assert {one.result()[0] for one in running} == {"200"}
    assert 1 <= int(EDGE.check_output(count)) <= workers


def test_body_limit_is_applied(ca: Path, tmp_path: Path) -> None:
    """Two megabytes are accepted, four are not."""
    body = tmp_path / "body"
    for megabytes, status in ((2, "200"), (4, "413")):
        body.write_bytes(b"x" * megabytes * 1024**2)
        assert answer(ca, "--data-binary", f"@{body}")[0] == status


def test_rate_of_an_address_is_limited(ca: Path) -> None:
    """A burst of 120, then sixty per second, regardless of the API key."""
    with session(ADDRESS, "trade.other.test", HTTPS, str(ca)) as client:
        time.sleep(2.1)  # so that the requests of earlier tests no longer count
        statuses = Counter(client.request("/", Authorization=f"Bearer {number}").status for number in range(600))
    time.sleep(2.1)
    assert set(statuses) == {200, 429}
    assert 120 <= statuses[200] < 480


def test_rate_of_large_requests_is_limited(ca: Path) -> None:
    """A twentieth of sixty per second, with bursts of six, for a large body or query; other requests are unaffected."""
    for path, body in (("/", "x" * 1500), ("/?q=" + "x" * 1500, None)):
        time.sleep(2.1)
        with session(ADDRESS, "trade.other.test", HTTPS, str(ca)) as client:
            statuses = Counter(client.request(path, "POST" if body else "GET", body).status for _ in range(40))
            assert {client.request("/", "POST", "x" * 100).status for _ in range(5)} == {200}
        assert set(statuses) == {200, 429}
        assert 6 <= statuses[200] < 30
    time.sleep(2.1)


def test_concurrent_requests_of_an_address_are_limited(ca: Path) -> None:
    """The limit is twelve."""
    with ThreadPoolExecutor(20) as pool:
        statuses = Counter(one[0] for one in pool.map(lambda _: answer(ca, path="/work"), range(20)))
    time.sleep(1.1)
    assert set(statuses) == {"200", "429"}
    assert 12 <= statuses["200"] < 20


def test_webhook_and_login_paths_are_configurable(ca: Path) -> None:
    """No source may send webhooks here; the default path is an ordinary one; logins have another path."""
    assert answer(ca, path="/hooks/broker") == ["403"]
    assert answer(ca, path="/v1/webhooks/broker")[0] == "200"
    assert {answer(ca, path="/v1/sessions")[0] for _ in range(25)} == {"200"}
    time.sleep(1.1)
    assert {answer(ca, path="/enter")[0] for _ in range(25)} == {"200", "429"}
    time.sleep(1.1)


def test_cached_paths_and_times_are_configurable(ca: Path) -> None:
    """Responses are cached for longer than by default; the default path is not cached."""
    for path, requested in (("/kept", 1), ("/v1/instruments", 2)):
        assert answer(ca, path=path)[0] == "200"
        time.sleep(1.2)
        assert answer(ca, path=path)[0] == "200"
        assert EDGE.check_output(f"curl -sk https://127.0.0.1:{UPSTREAM}/requests").split().count(path) == requested


def test_attacks_pass_if_the_waf_is_off(ca: Path) -> None:
    """The module is not even loaded."""
    assert answer(ca, path="/?q=%3Cscript%3Ealert(1)%3C/script%3E")[0] == "200"
    assert "modsecurity" not in EDGE.check_output("cat /proc/$(cat /run/nginx.pid)/maps")
    assert "content-security-policy: default-src 'none'" in curl(ca, "-I").stdout.lower()


def test_number_of_connections_is_limited(workers: int) -> None:
    """The workers close the oldest idle connections to accept new ones."""
    with ExitStack() as opened:
        sessions = [opened.enter_context(socket.create_connection((ADDRESS, HTTP), 5)) for _ in range(100 * workers)]
        deadline = time.monotonic() + 5
        while (open_still := sum(map(is_open, sessions))) > 64 * workers:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert open_still > 0


def is_open(session: socket.socket) -> bool:
    """Return whether the other side has kept the connection open."""
    session.setblocking(False)
    try:
        session.recv(1)
    except BlockingIOError:
        return True
    except ConnectionResetError:
        pass
    return False
