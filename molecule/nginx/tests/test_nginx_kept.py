"""What the edge answers without asking: static files of several releases, and for a moment what is the same for all."""

import hashlib
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from edge import Session, draining, flip, requests, session
from testinfra.host import Host

FOLDER = "/var/lib/tradefleet-edge"


@pytest.fixture
def client() -> Iterator[Session]:
    """Give a connection."""
    with session() as opened:
        yield opened


def asked(path: str) -> int:
    """Return how often an application host has answered a path."""
    return Counter(line for name in ("up1", "up2", "up3") for line in requests(name))[path]


def names(host: Host, release: str) -> list[str]:
    """Return what a release brought, but for what is compressed."""
    return [
        name for name in host.file(f"{FOLDER}/releases/{release}").content_string.split() if not name.endswith(".gz")
    ]


def test_the_files_of_each_release_are_there_for_ever(client: Session, host: Host) -> None:
    """Of the former one, too; unchanged, typed, without a cookie."""
    both = {*names(host, "1.0.0"), *names(host, "1.1.0")}
    assert len(both) == 3
    for name in both:
        answer = client.ask(f"/static/{name}")
        assert answer.status == 200
        assert name.split(".")[1] == hashlib.sha256(answer.body.encode()).hexdigest()[:12]
        assert answer.headers["content-type"] == {"css": "text/css", "svg": "image/svg+xml"}[name.rpartition(".")[2]]
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "set-cookie" not in answer.headers
        assert client.ask(f"/static/{name}", If_None_Match=answer.headers["etag"]).status == 304


def test_each_file_is_sent_as_it_was_compressed_ahead(client: Session, host: Host) -> None:
    """By brotli for who takes it, otherwise by gzip; what is inside is the file."""
    (name,) = [name for name in names(host, "1.1.0") if name.endswith(".css")]
    sizes = []
    for accepted, sent in (("gzip, deflate, br", "br"), ("gzip", "gzip"), ("identity", None)):
        answer = client.ask(f"/static/{name}", "HEAD", Accept_Encoding=accepted)
        assert answer.headers.get("content-encoding") == sent
        assert answer.headers["vary"] == "Accept-Encoding"
        assert answer.headers["content-type"] == "text/css"
        sizes.append(int(answer.headers["content-length"]))
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 3
    for command in (f"brotli -dc {FOLDER}/static/{name}.br", f"zcat {FOLDER}/static/{name}.gz"):
        assert host.check_output(f"{command} | sha256sum").startswith(name.split(".")[1])


def test_what_is_not_there_is_told_and_not_kept(client: Session, host: Host) -> None:
    """As a problem document; nobody writes there, and no application host hears of it."""
    missing = client.ask("/static/site.000000000000.css")
    assert (missing.status, missing.problem()["title"]) == (404, "Not Found")
    assert "cache-control" not in missing.headers
    there = f"/static/{names(host, '1.0.0')[0]}"
    assert client.ask(there, "POST", body="x").problem()["title"] == "Method Not Allowed"
    assert asked("/static/site.000000000000.css") == asked(there) == 0


def test_many_readers_are_one_for_the_application(client: Session) -> None:
    """Each with a cookie of its own. A key leads nobody past the cache, and does not reach the application there."""
    answers = [client.ask("/public-many") for _ in range(20)]
    assert {answer.status for answer in answers} == {200}
    assert len({answer.headers["set-cookie"] for answer in answers}) == 20
    assert 1 <= asked("/public-many") <= 2
    before = asked("/public-many")
    named = [client.ask("/public-many", Authorization=f"Bearer kept-{number}") for number in range(5)]
    assert all(answer.status == 200 and "kept-" not in answer.body for answer in named)
    assert asked("/public-many") <= before + 1
    assert asked("/elsewhere-public") == 0
    assert [client.ask("/elsewhere-public").status for _ in range(3)] == [200] * 3
    assert asked("/elsewhere-public") == 3


def test_after_a_cutover_nothing_of_the_former_colour_is_answered(client: Session, host: Host) -> None:
    """At the next request."""
    assert client.ask("/public-cutover").headers["x-color"] == "blue"
    try:
        flip(host, "green")
        assert client.ask("/public-cutover").headers["x-color"] == "green"
    finally:
        flip(host, "blue")
    assert client.ask("/public-cutover").headers["x-color"] == "blue"


def test_an_old_answer_is_given_at_once_and_the_next_is_new(client: Session) -> None:
    """Who asks first does not wait for the application; who comes then gets what it said meanwhile."""
    first = client.ask("/public-long")
    time.sleep(2.1)  # nginx' clock has whole seconds
    began = time.monotonic()
    old = client.ask("/public-long")
    assert time.monotonic() - began < 1.5
    assert old.body == first.body
    time.sleep(2.3)
    new = client.ask("/public-long")
    assert new.body != old.body
    assert old.headers["x-request-id"] in new.body  # the request that was answered with an old one had it asked for


def test_old_answers_are_better_than_none_and_refusals_are_not_kept(client: Session) -> None:
    """While every host refuses; what was not asked before is refused, and answered as soon as a host is back."""
    assert client.ask("/public-stale").status == 200
    with draining("up1", "up2"):
        time.sleep(1.1)
        assert [client.ask("/public-stale").status for _ in range(3)] == [200] * 3
        refused = client.ask("/public-new")
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert client.ask("/public-new").status == 200
