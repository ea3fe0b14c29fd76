"""What the edge serves without the application: static files of several releases, and cached public responses."""

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
    """Yield a connection."""
    with session() as opened:
        yield opened


def request_count(path: str) -> int:
    """Return how often an application host has received a path."""
    return Counter(line for name in ("up1", "up2", "up3") for line in requests(name))[path]


def names(host: Host, release: str) -> list[str]:
    """Return the files of a release, without the compressed ones."""
    return [
        name for name in host.file(f"{FOLDER}/releases/{release}").content_string.split() if not name.endswith(".gz")
    ]


def test_files_of_each_release_are_served_as_immutable(client: Session, host: Host) -> None:
    """The files of the former release are included; they have their type and no cookie."""
    both = {*names(host, "1.0.0"), *names(host, "1.1.0")}
    assert len(both) == 3
    for name in both:
        answer = client.request(f"/static/{name}")
        assert answer.status == 200
        assert name.split(".")[1] == hashlib.sha256(answer.body.encode()).hexdigest()[:12]
        assert answer.headers["content-type"] == {"css": "text/css", "svg": "image/svg+xml"}[name.rpartition(".")[2]]
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "set-cookie" not in answer.headers
        assert client.request(f"/static/{name}", If_None_Match=answer.headers["etag"]).status == 304


def test_files_are_sent_compressed_in_advance(client: Session, host: Host) -> None:
    """Clients get brotli if they accept it, otherwise gzip; the content is the file."""
    (name,) = [name for name in names(host, "1.1.0") if name.endswith(".css")]
    sizes = []
    for accepted, sent in (("gzip, deflate, br", "br"), ("gzip", "gzip"), ("identity", None)):
        answer = client.request(f"/static/{name}", "HEAD", Accept_Encoding=accepted)
        assert answer.headers.get("content-encoding") == sent
        assert answer.headers["vary"] == "Accept-Encoding"
        assert answer.headers["content-type"] == "text/css"
        sizes.append(int(answer.headers["content-length"]))
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 3
    for command in (f"brotli -dc {FOLDER}/static/{name}.br", f"zcat {FOLDER}/static/{name}.gz"):
        assert host.check_output(f"{command} | sha256sum").startswith(name.split(".")[1])


def test_missing_file_is_a_problem_document_and_not_cached(client: Session, host: Host) -> None:
    """Writes are rejected, and no application host receives the request."""
    missing = client.request("/static/site.000000000000.css")
    assert (missing.status, missing.problem()["title"]) == (404, "Not Found")
    assert "cache-control" not in missing.headers
    there = f"/static/{names(host, '1.0.0')[0]}"
    assert client.request(there, "POST", body="x").problem()["title"] == "Method Not Allowed"
    assert request_count("/static/site.000000000000.css") == request_count(there) == 0


def test_many_readers_cause_one_request_to_the_application(client: Session) -> None:
    """Each has its own cookie. A key does not bypass the cache, and is not forwarded for these paths."""
    answers = [client.request("/public-many") for _ in range(20)]
    assert {answer.status for answer in answers} == {200}
    assert len({answer.headers["set-cookie"] for answer in answers}) == 20
    assert 1 <= request_count("/public-many") <= 2
    before = request_count("/public-many")
    named = [client.request("/public-many", Authorization=f"Bearer kept-{number}") for number in range(5)]
    assert all(answer.status == 200 and "kept-" not in answer.body for answer in named)
    assert request_count("/public-many") <= before + 1
    assert request_count("/elsewhere-public") == 0
    assert [client.request("/elsewhere-public").status for _ in range(3)] == [200] * 3
    assert request_count("/elsewhere-public") == 3


def test_after_a_cutover_no_cached_response_of_the_former_color_is_used(client: Session, host: Host) -> None:
    """This takes effect with the next request."""
    assert client.request("/public-cutover").headers["x-color"] == "blue"
    try:
        flip(host, "green")
        assert client.request("/public-cutover").headers["x-color"] == "green"
    finally:
        flip(host, "blue")
    assert client.request("/public-cutover").headers["x-color"] == "blue"


def test_stale_response_is_returned_at_once_and_the_next_is_fresh(client: Session) -> None:
    """The first client does not wait for the application; the next one gets the new response."""
    first = client.request("/public-long")
    time.sleep(2.1)  # the clock of nginx has whole seconds
    began = time.monotonic()
    old = client.request("/public-long")
    assert time.monotonic() - began < 1.5
    assert old.body == first.body
    time.sleep(2.3)
    new = client.request("/public-long")
    assert new.body != old.body
    assert old.headers["x-request-id"] in new.body  # the request that got a stale response triggered the update


def test_stale_responses_are_used_on_failure_and_refusals_are_not_cached(client: Session) -> None:
    """All hosts refuse; an uncached path is refused, and answered as soon as a host is back."""
    assert client.request("/public-stale").status == 200
    with draining("up1", "up2"):
        time.sleep(1.1)
        assert [client.request("/public-stale").status for _ in range(3)] == [200] * 3
        refused = client.request("/public-new")
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert client.request("/public-new").status == 200
