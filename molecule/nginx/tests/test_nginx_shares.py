"""A share of clients for the other color, and a mirrored share of reads: the configured size, with stable clients."""

import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import testinfra
from edge import Session, flip, requests, session
from scenario import converge
from testinfra.host import Host

# Two points are more than four standard deviations for this many draws.
CLIENTS = 4000


@pytest.fixture(scope="module", autouse=True)
def shares() -> Iterator[None]:
    """Let the role create the set of flags: a tenth of the clients, half of the reads."""
    converge("--limit", "edges", "-e", "nginx_canary_percent=10", "-e", "nginx_shadow_percent=50")
    try:
        yield
    finally:
        flip(testinfra.get_host("podman://tf-edge1"), "blue")


def color(client: Session, **headers: str) -> str:
    """Return the color that answers."""
    return client.request("/", **headers).headers["x-color"]


def test_other_color_serves_a_tenth_of_the_clients() -> None:
    """The API key decides, and always for the same color."""
    with session() as client:
        first = [color(client, Authorization=f"Bearer {number}") for number in range(CLIENTS)]
        again = [color(client, Authorization=f"Bearer {number}") for number in range(0, CLIENTS, 10)]
    assert again == first[::10]
    share = 100 * Counter(first)["green"] / CLIENTS
    print(f"share of {CLIENTS} API keys: {share:.1f} %")
    assert 8 <= share <= 12


def test_client_is_in_the_same_share_at_each_load_balancer(tmp_path: Path) -> None:
    """The cookie or key decides, even if the second load balancer has another configuration.

    Its other color has no hosts, so these clients get a 502.
    """
    other = testinfra.get_host("podman://tf-edge2")
    flags = " ".join(["red", *(f"void-{bucket:02d}" for bucket in range(10))])
    folder = "/etc/nginx/traffic-sets/red+void-10"
    other.check_output(f"mkdir {folder} && cd {folder} && touch {flags} && ln -sfn {folder} /etc/nginx/traffic")
    ca = tmp_path / "ca.crt"
    ca.write_text(other.file("/etc/ssl/other/host.crt").content_string)
    named = [{"Authorization": f"Bearer trader-{number}"} for number in range(100)]
    named += [{"Cookie": f"tradefleet_client={number:032x}"} for number in range(100)]
    try:
        with session() as first, session("10.203.0.162", "trade.other.test", 8444, str(ca)) as second:
            for headers in named:
                assert (color(first, **headers) == "green") == (second.request("/", **headers).status == 502), headers
                time.sleep(0.02)  # below the rate limit of the second one
    finally:
        other.check_output(f"ln -sfn traffic-sets/red /etc/nginx/traffic && rm -r {folder}")


def test_browser_keeps_its_color_by_a_cookie() -> None:
    """It gets the cookie with its first response, and the cookie does not change afterward."""
    served: Counter[str] = Counter()
    with session() as client:
        for _ in range(CLIENTS):
            answer = client.request()
            (cookie,) = re.findall("tradefleet_client=[0-9a-f]{32}", answer.headers["set-cookie"])
            assert "Secure; HttpOnly; SameSite=Lax" in answer.headers["set-cookie"]
            again = client.request(Cookie=cookie)
            assert again.headers["x-color"] == answer.headers["x-color"]
            assert "set-cookie" not in again.headers
            served[answer.headers["x-color"]] += 1
    share = 100 * served["green"] / CLIENTS
    print(f"share of {CLIENTS} browsers: {share:.1f} %")
    assert 8 <= share <= 12


def test_half_of_the_reads_and_no_write_is_mirrored() -> None:
    """A mirrored request is marked; the client gets the live color's response."""
    with session() as client:
        for number in range(100):
            headers = {"Authorization": f"Bearer {number}"}
            client.request(f"/read-{number}", **headers)
            client.request(f"/write-{number}", "POST", body="x", **headers)
    copied = [path for path in requests("up3") if path.startswith(("/read-", "/write-")) and path.endswith(" shadow")]
    assert 30 <= len(copied) <= 70
    assert all(path.startswith("/read-") for path in copied)


def test_clients_of_a_share_stay_when_it_grows() -> None:
    """From a tenth to a half no client moves back."""

    def green() -> set[int]:
        with session() as client:
            return {number for number in range(400) if color(client, Authorization=f"Bearer {number}") == "green"}

    tenth = green()
    converge("--limit", "edges", "-e", "nginx_canary_percent=50", "-e", "nginx_shadow_percent=50")
    half = green()
    print(f"of 400 API keys {len(tenth)} at 10 %, {len(half)} at 50 %, of the former {len(tenth & half)}")
    assert tenth < half
    assert 160 <= len(half) <= 240


def test_clients_that_verify_a_share_have_the_first_and_the_last_bucket(host: Host) -> None:
    """The procedure traffic (share.yml) relies on that: one client is in 1 %, and the other is not in 99 %."""
    for name, flags in (("first", "green-00"), ("all-but-last", "$(seq --format green-%02.0f 0 98)")):
        folder = f"/etc/nginx/traffic-sets/{name}"
        host.check_output(f"mkdir {folder} && cd {folder} && touch blue {flags}")
        flip(host, name)
        with session() as client:
            assert color(client, Cookie="tradefleet_client=verify-88") == "green"
            assert color(client, Cookie="tradefleet_client=verify-87") == "blue"


def test_without_a_share_the_other_color_gets_no_requests(host: Host) -> None:
    """This takes effect with the next request, and nothing is logged for reads that are not mirrored."""
    flip(host, "blue")
    time.sleep(1.1)  # lines are flushed once a second
    before = host.file("/var/log/nginx/shadow.log").content_string
    with session() as client:
        assert {color(client, Authorization=f"Bearer {number}") for number in range(200)} == {"blue"}
    time.sleep(1.1)
    assert before.count("\n") > 30
    assert host.file("/var/log/nginx/shadow.log").content_string == before
