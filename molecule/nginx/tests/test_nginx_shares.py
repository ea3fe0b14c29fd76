"""A share of the clients for the other colour, and a copy of some reads: as many as told, always the same clients."""

import re
from collections import Counter
from collections.abc import Iterator

import pytest
import testinfra
from edge import Session, flip, requests, session
from scenario import converge
from testinfra.host import Host

CLIENTS = 2000


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
    print(f"share {share:.1f} %")
    assert 8 <= share <= 12


def test_a_browser_stays_by_its_cookie() -> None:
    """Which it gets with its first answer, and which does not change after that."""
    served: Counter[str] = Counter()
    with session() as client:
        for _ in range(CLIENTS // 4):
            answer = client.ask()
            (cookie,) = re.findall("tradefleet_client=[0-9a-f]{32}", answer.headers["set-cookie"])
            assert "Secure; HttpOnly; SameSite=Lax" in answer.headers["set-cookie"]
            again = client.ask(Cookie=cookie)
            assert again.headers["x-color"] == answer.headers["x-color"]
            assert "set-cookie" not in again.headers
            served[answer.headers["x-color"]] += 1
    assert 6 <= 100 * served["green"] / (CLIENTS // 4) <= 14


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
    """At the next request."""
    flip(host, "blue")
    with session() as client:
        assert {color(client, Authorization=f"Bearer {number}") for number in range(200)} == {"blue"}
