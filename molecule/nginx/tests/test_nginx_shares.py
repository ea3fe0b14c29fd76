"""A share of the clients for the other colour, and a copy of some reads: as many as told, always the same clients."""

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

# Two points are more than four standard deviations of so many draws.
CLIENTS = 4000


@pytest.fixture(scope="module", autouse=True)
def shares() -> Iterator[None]:
    """Let the role make the set of flags: a tenth of the clients, half of the reads."""
    converge("--limit", "edges", "-e", "nginx_canary_percent=10", "-e", "nginx_shadow_percent=50")
    try:
        yield
    finally:
        flip(testinfra.get_host("podman://tf-edge1"), "blue")


def color(client: Session, **headers: str) -> str:
    """Return the colour that answers."""
    return client.ask("/", **headers).headers["x-color"]


def test_a_tenth_of_the_clients_is_served_by_the_other_colour() -> None:
    """By their API keys; each of them always by the same."""
    with session() as client:
        first = [color(client, Authorization=f"Bearer {number}") for number in range(CLIENTS)]
        again = [color(client, Authorization=f"Bearer {number}") for number in range(0, CLIENTS, 10)]
    assert again == first[::10]
    share = 100 * Counter(first)["green"] / CLIENTS
    print(f"share of {CLIENTS} API keys: {share:.1f} %")
    assert 8 <= share <= 12


def test_a_client_is_in_the_same_share_at_each_load_balancer(tmp_path: Path) -> None:
    """By cookie or key, and though the second one has another configuration.

    There the other colour has no hosts, so its clients are answered 502.
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
                assert (color(first, **headers) == "green") == (second.ask("/", **headers).status == 502), headers
                time.sleep(0.02)  # fewer than the second one takes from an address
    finally:
        other.check_output(f"ln -sfn traffic-sets/red /etc/nginx/traffic && rm -r {folder}")


def test_a_browser_stays_by_its_cookie() -> None:
    """Which it gets with its first answer, and which does not change after that."""
    served: Counter[str] = Counter()
    with session() as client:
        for _ in range(CLIENTS):
            answer = client.ask()
            (cookie,) = re.findall("tradefleet_client=[0-9a-f]{32}", answer.headers["set-cookie"])
            assert "Secure; HttpOnly; SameSite=Lax" in answer.headers["set-cookie"]
            again = client.ask(Cookie=cookie)
            assert again.headers["x-color"] == answer.headers["x-color"]
            assert "set-cookie" not in again.headers
            served[answer.headers["x-color"]] += 1
    share = 100 * served["green"] / CLIENTS
    print(f"share of {CLIENTS} browsers: {share:.1f} %")
    assert 8 <= share <= 12


def test_half_of_the_reads_are_copied_and_no_write_is() -> None:
    """The copy says that it is one; the client gets the live colour's answer."""
    with session() as client:
        for number in range(100):
            headers = {"Authorization": f"Bearer {number}"}
            client.ask(f"/read-{number}", **headers)
            client.ask(f"/write-{number}", "POST", body="x", **headers)
    copied = [path for path in requests("up3") if path.startswith(("/read-", "/write-")) and path.endswith(" shadow")]
    assert 30 <= len(copied) <= 70
    assert all(path.startswith("/read-") for path in copied)


def test_who_is_among_the_first_stays_when_more_follow() -> None:
    """From a tenth to the half: nobody goes back."""

    def green() -> set[int]:
        with session() as client:
            return {number for number in range(400) if color(client, Authorization=f"Bearer {number}") == "green"}

    tenth = green()
    converge("--limit", "edges", "-e", "nginx_canary_percent=50", "-e", "nginx_shadow_percent=50")
    half = green()
    print(f"of 400 API keys {len(tenth)} at 10 %, {len(half)} at 50 %, of the former {len(tenth & half)}")
    assert tenth < half
    assert 160 <= len(half) <= 240


def test_the_clients_that_verify_a_share_have_the_first_and_the_last_bucket(host: Host) -> None:
    """As playbooks/tasks/canary_verify.yml takes for granted: one alone is in 1 %, and one alone is not in 99 %."""
    for name, flags in (("first", "green-00"), ("all-but-last", "$(seq --format green-%02.0f 0 98)")):
        folder = f"/etc/nginx/traffic-sets/{name}"
        host.check_output(f"mkdir {folder} && cd {folder} && touch blue {flags}")
        flip(host, name)
        with session() as client:
            assert color(client, Cookie="tradefleet_client=verify-88") == "green"
            assert color(client, Cookie="tradefleet_client=verify-87") == "blue"


def test_without_a_share_nobody_gets_there(host: Host) -> None:
    """At the next request; nor does a log say anything of the copies that are not made."""
    flip(host, "blue")
    time.sleep(1.1)  # lines are written once a second
    before = host.file("/var/log/nginx/shadow.log").content_string
    with session() as client:
        assert {color(client, Authorization=f"Bearer {number}") for number in range(200)} == {"blue"}
    time.sleep(1.1)
    assert before.count("\n") > 30
    assert host.file("/var/log/nginx/shadow.log").content_string == before
