"""Does the edge use TLS as configured, choose the color for each request, and retry only what may be retried?"""

import json
import subprocess
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from edge import CA, EDGE, color, curl, draining, flip, requests, session
from scenario import converge, would_change
from testinfra.host import Host

UPSTREAMS = ("up1", "up2", "up3")


def test_only_the_protocols_of_this_scenario() -> None:
    """TLS 1.3 is accepted, TLS 1.2 is not; the certificate is verified by name and CA."""
    assert curl("--tlsv1.3").returncode == 0
    assert curl("--tls-max", "1.2").returncode == 35
    other = subprocess.run(
        ["curl", "-sS", "--cacert", CA, "--resolve", f"other.test:443:{EDGE}", "https://other.test/"],
        capture_output=True,
        check=False,
    )
    assert other.returncode == 60


def test_check_mode_reports_changes_without_making_them(host: Host) -> None:
    """Another share and setting would switch and reload, but nothing changes."""
    look = "ls -l /etc/nginx /etc/nginx/traffic-sets; pgrep -f 'nginx: (master|worker) process' | sort"
    before = host.check_output(look)
    changed = would_change("--limit", "edges", "-e", "nginx_canary_percent=20", "-e", "nginx_client_body_max=3m")
    assert {
        "nginx : Traffic | Create the flag files, the live color last",
        "nginx : Traffic | Activate the set of flags",
        "nginx : Configure | Configure nginx",
        "nginx : Service | Query the running configuration",
        "nginx : Reload the running nginx",
    } <= changed
    assert host.check_output(look) == before


def test_plain_http_is_redirected() -> None:
    """Port 80 sends the client to the platform's name."""
    head = subprocess.check_output(
        ["curl", "-sSI", "--resolve", f"scenario.test:80:{EDGE}", "http://scenario.test/v1/orders?limit=1"], text=True
    )
    assert "301" in head
    assert "location: https://scenario.test/v1/orders?limit=1" in head.lower()


def test_application_receives_address_and_request_id() -> None:
    """The client's address cannot be forged, and each request has an ID."""
    seen = curl("-H", "X-Forwarded-For: 1.2.3.4", "-H", "X-Request-Id: forged").stdout.lower()
    assert "x-forwarded-for: 10.203.0.1\n" in seen
    assert "x-request-id: " in seen
    assert "forged" not in seen


def test_flip_under_load_loses_nothing_and_does_not_reload(host: Host) -> None:
    """Fifty flips happen while eight clients send requests; the workers stay the same processes."""
    workers = host.check_output("pgrep -f 'nginx: (master|worker) process' | sort")
    stop = time.monotonic() + 10

    def client(_: int) -> set[str]:
        found = set()
        while time.monotonic() < stop:
            found.add(curl().stdout.split("\n")[-1])
        return found

    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(client, number) for number in range(4)]
        for number in range(50):
            flip(host, ("green", "blue")[number % 2])
            time.sleep(0.1)
    assert set.union(*(one.result() for one in running)) == {"200 blue", "200 green"}
    assert host.check_output("pgrep -f 'nginx: (master|worker) process' | sort") == workers
    assert color() == "blue"


def test_requests_in_flight_finish_on_their_color(host: Host) -> None:
    """Requests of four seconds, by both methods and protocols, are answered by the color that received them."""
    ways = [("-X", method, version) for method in ("GET", "POST") for version in ("--http1.1", "--http2")] * 2
    with ThreadPoolExecutor(len(ways)) as pool:
        running = [pool.submit(curl, *way, path="/work") for way in ways]
        while sum(requests(upstream).count("/work") for upstream in UPSTREAMS) < len(ways):
            assert not any(one.done() for one in running)
        flip(host, "green")
        try:
            assert color() == "green"
            assert not any(one.done() for one in running)
            assert {one.result().stdout.split("\n")[-1] for one in running} == {"200 blue"}
        finally:
            flip(host, "blue")


def test_without_a_flag_the_edge_answers_503(host: Host) -> None:
    """Without a color the response is a problem document."""
    host.check_output("mkdir -p /etc/nginx/traffic-sets/none && ln -sfn traffic-sets/none /etc/nginx/traffic")
    try:
        answer = curl().stdout
    finally:
        host.check_output("ln -sfn traffic-sets/blue /etc/nginx/traffic && rmdir /etc/nginx/traffic-sets/none")
    assert json.loads(answer.rsplit("\n", 1)[0])["status"] == 503


def test_read_is_retried_on_the_next_host_and_write_is_not() -> None:
    """If a connection ends without a response, a GET is tried on both hosts, a POST on one."""

    def tries(method: str, path: str) -> int:
        before = sum(requests(upstream).count(path) for upstream in UPSTREAMS)
        curl("-X", method, path=path)
        return sum(requests(upstream).count(path) for upstream in UPSTREAMS) - before

    assert tries("GET", "/die") == 2
    time.sleep(2.1)  # fail_timeout of this scenario is 1 s, and the clock of nginx has whole seconds
    assert tries("POST", "/die") == 1
    time.sleep(2.1)


def test_failed_host_is_not_noticed() -> None:
    """Reads and writes go to the other host: a request that was never sent may be sent elsewhere."""
    subprocess.run(["podman", "exec", "tf-up1", "systemctl", "stop", "upstream"], check=True)
    try:
        answers = {curl("-X", method).stdout.split("\n")[-1] for method in ("GET", "POST") * 6}
    finally:
        subprocess.run(["podman", "exec", "tf-up1", "systemctl", "start", "upstream"], check=True)
        time.sleep(2.1)  # it counts as failed for a second, and the clock of nginx has whole seconds
    assert answers == {"200 blue"}


def counts(path: str) -> Counter[str]:
    """Return how often the live color received a path, and how often it refused it."""
    return Counter(line for name in ("up1", "up2") for line in requests(name) if line.split()[0] == path)


def test_draining_host_is_not_noticed() -> None:
    """Reads and writes go to the other host, each with its body, and each is executed once."""
    with draining("up1"), session() as client:
        for number in range(40):
            method, body = ("POST", f"body of {number}") if number % 2 else ("GET", None)
            answer = client.request(f"/elsewhere-{number}?x=%20y", method, body)
            assert (answer.status, answer.headers["x-address"]) == (200, "10.203.0.106")
            assert answer.body.endswith(body or "")
            assert "x-accel-redirect" not in answer.headers
    done = [line for name in ("up1", "up2") for line in requests(name) if line.startswith("/elsewhere-")]
    assert [line for line in done if line.endswith(" refused")]
    assert Counter(line for line in done if not line.endswith(" refused")) == {
        f"/elsewhere-{number}?x=%20y": 1 for number in range(40)
    }
    # Immediately back in service: it receives requests of both methods.
    assert {curl("-X", method, "--write-out", "%header{x-address}").stdout[-12:] for method in ("GET", "POST") * 6} == {
        "10.203.0.105",
        "10.203.0.106",
    }


def test_write_that_was_refused_once_is_not_repeated_after_a_failure() -> None:
    """One host refuses, and the other fails during the request, which is then not repeated."""
    with draining("up1"):
        before = counts("/die")["/die"]
        assert curl("-X", "POST", path="/die").stdout.split()[-1] == "502"
        assert counts("/die")["/die"] - before == 1


def test_last_refusal_is_returned_if_all_hosts_refuse() -> None:
    """It contains the time to retry; a request does not loop."""
    with draining("up1", "up2"), session() as client:
        for method in ("GET", "POST"):
            answer = client.request("/refused", method)
            assert (answer.status, answer.headers.get("retry-after")) == (503, "1"), method
            time.sleep(2.1)


def test_other_503_is_returned_and_marks_no_host_as_failed() -> None:
    """Each request is sent once, and both hosts keep serving."""
    with session() as client:
        for number in range(12):
            answer = client.request("/down", ("GET", "POST")[number % 2])
            assert (answer.status, answer.body) == (503, "no database")
        assert {client.request().headers["x-address"] for _ in range(8)} == {"10.203.0.105", "10.203.0.106"}
    assert counts("/down") == {"/down": 12}


def test_named_locations_are_not_reachable_from_outside() -> None:
    """The locations for refused requests have no path."""
    assert curl(path="/@write_elsewhere").stdout.split()[-2:] == ["200", "blue"]


@pytest.mark.parametrize(
    ("arguments", "path", "status"),
    [
        (("--http1.1", "-d", "x", "-H", "Content-Length: 3000000"), "/", 413),
        (("--http1.1", "-H", "X-Long: " + "x" * 40_000), "/", 400),
        (("-X", "POST"), "/slow", 504),
    ],
)
def test_errors_of_the_edge_are_problem_documents(arguments: tuple[str, ...], path: str, status: int) -> None:
    """Requests that are too large, malformed or too late: RFC 9457, with the request's ID."""
    body, last = curl(*arguments, path=path).stdout.rsplit("\n", 1)
    assert last.split()[0] == str(status)
    assert json.loads(body)["status"] == status


def test_upstream_with_another_name_is_not_trusted(host: Host) -> None:
    """The edge verifies the application's certificate: if another name is expected it answers 502."""
    host.check_output("cp /etc/nginx/nginx.conf /root/")
    host.check_output("sed -i 's/proxy_ssl_name .*/proxy_ssl_name wrong.test;/' /etc/nginx/nginx.conf")
    host.check_output("systemctl reload nginx")
    try:
        wait_for_answer("502")
    finally:
        host.check_output("cp /root/nginx.conf /etc/nginx/nginx.conf && systemctl reload nginx")
    wait_for_answer("200 blue")


def wait_for_answer(wanted: str) -> None:
    """Wait until the new workers answer consistently with this status and color."""
    deadline = time.monotonic() + 10
    while {curl().stdout.rpartition("\n")[2].strip() for _ in range(3)} != {wanted}:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_invalid_configuration_is_not_installed(host: Host) -> None:
    """nginx -t rejects it; the running configuration and the file stay unchanged."""
    before = host.file("/etc/nginx/nginx.conf").sha256sum
    refused = converge("-e", "nginx_client_body_max=nonsense", "--limit", "edges", check=False)
    assert refused.returncode != 0
    assert host.file("/etc/nginx/nginx.conf").sha256sum == before
    assert color() == "blue"


def test_lost_reload_is_repeated(host: Host) -> None:
    """A run was killed between writing and reloading: the next one detects that nginx runs something else."""
    host.check_output(
        "sed -i 's/return 200 \"/return 200 \"stale/' /etc/nginx/nginx.conf && systemctl reload nginx && sleep 1"
    )
    host.check_output("sed -i 's/return 200 \"stale/return 200 \"/' /etc/nginx/nginx.conf")
    converge("--limit", "edges")
    query = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080/configuration').read().decode())"
    assert "stale" not in host.check_output("python3 -c %s", query)
