"""Analysis of the load balancers' logs for the judge and for the report on a shadow."""

import gzip
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from repository import module, read

edge_log = module("plugins/modules/edge_log.py")


def line(epoch: float, **changes: Any) -> str:
    """Return a line of the access log: a trader's read of orders."""
    entry = {"epoch": epoch, "request_id": str(epoch), "uri": "/v1/orders", "status": 200, "color": "blue"}
    known = {"method": "GET", "key": "000001", "guard": "key"}
    return json.dumps(entry | {"seconds": 0.01, "upstream": "10.203.0.21:8443"} | known | changes)


def encoded(lines: Iterable[str]) -> list[bytes]:
    """Return lines as in a file."""
    return [line.encode() for line in lines]


def test_responses_of_a_color_since_its_start_count() -> None:
    """Older lines, malformed ones and responses of nginx itself do not count; each color has its own start."""
    lines = [
        line(99.9),
        "half a li",
        line(100, status=503),
        line(101, upstream=""),
        line(102, color="green", seconds=0.5),
        line(103, status=404),
        line(104, color="green", seconds=0.5),
        line(105, color=""),
    ]
    assert edge_log.by_color(edge_log.entries(encoded(lines), 100), {"blue": 100, "green": 103, "red": 100}) == {
        "blue": {
            "requests": 2,
            "errors": 1,
            "refusals": 1,
            "seconds": {"0.01": 2},
            "groups": {"reads": {"requests": 2, "errors": 1}},
        },
        "green": {
            "requests": 1,
            "errors": 0,
            "refusals": 0,
            "seconds": {"0.5": 1},
            "groups": {"reads": {"requests": 1, "errors": 0}},
        },
        "red": {"requests": 0, "errors": 0, "refusals": 0, "seconds": {}, "groups": {}},
    }


def test_clients_own_errors_are_no_refusals() -> None:
    """Too many requests and aborted ones count only as requests."""
    log = edge_log.entries(encoded(line(each, status=each) for each in (399, 400, 401, 422, 429, 499, 500)), 0)
    found = edge_log.by_color(log, {"blue": 0})["blue"]
    assert (found["requests"], found["errors"], found["refusals"]) == (7, 1, 3)


def test_health_checks_of_the_edge_are_not_in_the_sample() -> None:
    """A monitor with twice as many requests as clients changes no figure; nginx has the same paths."""
    pinned = [f"/{path}{query}" for path in ("healthz", "readyz", "%76ersion") for query in ("", "?1")]
    requests = [
        line(2, uri=uri, seconds=0.001, **who) for uri in pinned for who in ({}, {"key": "", "guard": "public"})
    ]
    found = edge_log.by_color(edge_log.entries(encoded([line(1, seconds=0.02), *requests]), 0), {"blue": 0})["blue"]
    assert (found["seconds"], list(found["groups"])) == ({"0.02": 1}, ["reads"])
    assert f"location ~ ^/({'|'.join(sorted(path[1:] for path in edge_log.PINNED))})$" in read(
        "roles/nginx/templates/nginx.conf.j2"
    )


def test_mirrored_request_is_compared_with_its_original() -> None:
    """The request ID connects them; IDs in a path do not create separate routes."""
    order = "/v1/orders/0190b6e5-7d5a-7c2e-9d3a-5b1f0c9a7e11"
    requests = [line(1, uri=order), line(2, uri=f"{order}?x=1"), line(3, uri="/v1/orders/17/fills")]
    # Otherwise each path that an unauthenticated client tries would be a route.
    requests.append(line(4, uri="/guess", status=404, key="", guard=""))
    log = edge_log.entries(encoded(requests), 0)
    copies = encoded([line(1, status=500, seconds=0.2), line(2, seconds=0.1), line(4, status=404), line(9)])
    copies = edge_log.entries(copies, 0)
    assert edge_log.by_route(log, copies) == {
        "/v1/orders/{id}": {
            "live_seconds": [0.01, 0.01],
            "shadow_seconds": [0.2, 0.1],
            "statuses": {"200 500": 1, "200 200": 1},
        }
    }
    assert edge_log.route("/v1/orders/17/fills") == "/v1/orders/{id}/fills"


def test_only_the_end_of_a_large_log_is_read(tmp_path: Path) -> None:
    """Of three megabytes, all of the last seconds is found, and most of the rest is not read."""
    log = tmp_path / "access.log"
    log.write_text("".join(line(number / 100) + "\n" for number in range(20_000)))
    found = edge_log.tail(log, 190)
    assert len(edge_log.entries(found, 190)) == 1000
    assert 1000 < len(found) < 10_000


# Requests of an unauthenticated client in the log: without a key, or with one that was never accepted.
STRANGERS = [{"key": key, "guard": "", "color": "green"} for key in ("", "999999")]


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize(
    "request_", [{"status": 401}, {"status": 404, "uri": "/guess"}, {"status": 502, "uri": "/v1//orders", "seconds": 9}]
)
def test_unauthenticated_requests_are_no_evidence(stranger: dict[str, Any], request_: dict[str, Any]) -> None:
    """They change no figure of the color that they choose, neither refusals, failures nor times."""
    traders = [line(each, color=color) for color in ("blue", "green") for each in range(10)]
    both = {"blue": 0.0, "green": 0.0}
    strange = [line(each / 10, **stranger, **request_) for each in range(100)]
    expected = edge_log.by_color(edge_log.entries(encoded(traders), 0), both)
    assert edge_log.by_color(edge_log.entries(encoded(traders + strange), 0), both) == expected
    assert expected["green"]["requests"] == 10


@pytest.mark.parametrize("answer", [{"status": 401}, {"status": 404}, {"status": 502}, {"status": 499, "seconds": 5}])
def test_release_that_accepts_no_key_is_judged_by_valid_keys(answer: dict[str, Any]) -> None:
    """It marks no response. The other color, or the time before, shows which keys are valid."""
    log = [line(1), *(line(each, color="green", guard="", **answer) for each in range(100, 110))]
    found = edge_log.by_color(edge_log.entries(encoded(log), 0), {"green": 100})["green"]
    assert found["requests"] == 10
    assert found["errors"] + found["refusals"] + found["seconds"].get("5", 0) == 10


def test_public_routes_are_judged_separately_and_only_for_failures() -> None:
    """Many cheap responses hide nothing of another route or of traders; all spellings of a path are one route."""
    public = {"key": "", "guard": "public"}
    log = [line(each, **public, uri="/?" + str(each)) for each in range(1000)]
    log += [line(each, **public, uri="/v1/%69nstruments", status=500) for each in range(5)]
    log += [line(5, key="", guard="", uri="/v1/instruments", status=502, seconds=9)]
    log += [line(6, method="POST", status=500), line(7)]
    assert edge_log.by_color(edge_log.entries(encoded(log), 0), {"blue": 0})["blue"] == {
        "requests": 2,
        "errors": 1,
        "refusals": 0,
        "seconds": {"0.01": 2},
        "groups": {
            "reads": {"requests": 1, "errors": 0},
            "writes": {"requests": 1, "errors": 1},
            "requests for / without a valid key": {"requests": 1000, "errors": 0},
            "requests for /v1/instruments without a valid key": {"requests": 6, "errors": 6},
        },
    }


def written(path: Path, moments: Iterable[int]) -> None:
    """Write a log with requests at these times, as if the last line had just been written."""
    moments = list(moments)
    text = "".join(line(each) + "\n" for each in moments).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    os.utime(path, (moments[-1], moments[-1]))


def moments(log: Path, since: float) -> list[float]:
    """Return the times of the requests that are found."""
    return sorted(entry["epoch"] for entry in edge_log.entries(edge_log.lines(log, since), since))


@pytest.mark.parametrize(
    "rotated", ["access.log.1", "access.log.1.gz", "access.log-20261129", "access.log-20261129.gz"]
)
def test_rotated_log_is_read(tmp_path: Path, rotated: str) -> None:
    """It may be compressed or not, under any name of logrotate; older ones are not read."""
    log = tmp_path / "access.log"
    (tmp_path / "access.log.9.gz").write_text("never opened")
    os.utime(tmp_path / "access.log.9.gz", (90, 90))
    written(tmp_path / rotated, range(100, 200))
    written(log, range(200, 250))
    (tmp_path / "shadow.log.1").write_text("of another log")
    assert moments(log, 150) == list(range(150, 250))
    # Between the two steps of a rotation, and before the first line after it.
    log.write_text("")
    assert moments(log, 150) == list(range(150, 200))
    log.unlink()
    assert moments(log, 150) == list(range(150, 200))


def test_two_rotations_in_one_sample_are_read(tmp_path: Path) -> None:
    """A line in two files, while logrotate copies or compresses, counts once; an incomplete file does not count."""
    log = tmp_path / "access.log"
    written(tmp_path / "access.log.2.gz", range(100, 200))
    written(tmp_path / "access.log.1", range(200, 300))
    written(log, range(250, 350))
    half = gzip.compress("".join(line(each) + "\n" for each in range(200, 300)).encode())
    (tmp_path / "access.log.1.gz").write_bytes(half[: len(half) // 2])
    assert moments(log, 150) == list(range(150, 350))


@pytest.mark.parametrize("copies", [False, True])
def test_rotation_during_the_analysis_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copies: bool
) -> None:
    """Files are read in any order, and their contents then have other names."""
    log, rotated = tmp_path / "access.log", tmp_path / "access.log.1"
    written(log, range(100, 200))
    written(rotated, range(50, 100))
    read: Callable[[Path, float], list[bytes]] = edge_log.tail
    done: list[Path] = []

    def tail(path: Path, since: float) -> list[bytes]:
        if not done:
            done.append(path)
            written(tmp_path / "access.log.2.gz", range(50, 100))
            rotated.unlink()
            written(rotated, range(100, 200))
            if not copies:
                log.unlink()
            written(log, range(200, 210))
        return read(path, since)

    monkeypatch.setattr(edge_log, "tail", tail)
    assert moments(log, 60) == list(range(60, 210))


def test_truncation_during_the_analysis_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is copied to an existing file; both keep their inodes."""
    log, rotated = tmp_path / "access.log", tmp_path / "access.log.1"
    written(log, range(100, 200))
    written(rotated, range(100, 150))
    read: Callable[[Path, float], list[bytes]] = edge_log.tail

    def tail(path: Path, since: float) -> list[bytes]:
        found = read(path, since)
        written(rotated, range(100, 200))
        log.write_text("")
        return found

    monkeypatch.setattr(edge_log, "tail", tail)
    assert moments(log, 60) == list(range(100, 200))
