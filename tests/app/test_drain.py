# ruff: noqa: D103  # the name of a test states what it asserts
"""A draining host refuses before it changes anything, and reports when no request is in flight."""

import fcntl
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from tradefleet.platform.http.guard import Principal
from tradefleet.platform.settings import Settings

from .conftest import MakeApp

FLAG = "draining"


@pytest.fixture
def served(make_app: MakeApp, tmp_path: Path, app: Flask) -> FlaskClient:
    """A client of an application whose flag and lock are files of this test; it shares the traders of `app`."""
    return make_app(Settings(drain_flag=tmp_path / FLAG, runtime_folder=str(tmp_path))).test_client()


def is_idle(folder: Path) -> bool:
    """Acquire the lock as the operator does, without waiting; return whether that succeeded."""
    handle = os.open(folder / "requests", os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True


@pytest.mark.parametrize(
    ("method", "path", "place"),
    [
        ("GET", "/v1/orders", "@read_elsewhere"),
        ("HEAD", "/v1/orders", "@read_elsewhere"),
        ("DELETE", "/v1/orders", "@read_elsewhere"),
        ("GET", "/nope", "@read_elsewhere"),
        ("GET", "/openapi.json", "@read_elsewhere"),
        ("POST", "/v1/orders", "@write_elsewhere"),
        ("PATCH", "/v1/sessions", "@write_elsewhere"),
    ],
)
def test_draining_host_refuses_before_it_changes_anything(
    served: FlaskClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, path: str, place: str
) -> None:
    def touched(*_: object, **__: object) -> None:
        raise AssertionError("a request that is refused has come this far")

    for name in (
        "domains.identity.services.recall",
        "domains.identity.services.digest",
        "platform.postgres.database.Database.read",
        "platform.postgres.database.Database.transact",
    ):
        monkeypatch.setattr(f"tradefleet.{name}", touched)
    monkeypatch.setattr("tradefleet.platform.http.contract.Operation.read_request", touched)
    (tmp_path / FLAG).touch()
    answer = served.open(path, method=method, headers={"Authorization": "Bearer x"}, data=b"not even JSON")
    assert answer.status_code == 503
    assert (answer.headers["Retry-After"], answer.headers["X-Accel-Redirect"]) == ("1", place)
    if method != "HEAD":
        assert answer.mimetype == "application/problem+json"
        assert "Nothing was done" in answer.get_json()["detail"]


def test_draining_host_answers_the_operators_queries(served: FlaskClient, tmp_path: Path) -> None:
    (tmp_path / FLAG).touch()
    assert served.get("/healthz").status_code == 200
    assert served.get("/version").get_json()["release"] == "dev"
    ready = served.get("/readyz")
    # A load balancer sends the request to another host; a direct query shows that this one would be ready.
    assert (ready.status_code, ready.headers["X-Accel-Redirect"]) == (503, "@read_elsewhere")
    assert ready.get_json()["status"] == "draining"
    assert ready.get_json()["dependencies"]["schema"] == "ok"


def test_host_serves_again_without_the_flag(
    served: FlaskClient, tmp_path: Path, headers: dict[str, str], order: dict[str, str]
) -> None:
    (tmp_path / FLAG).touch()
    assert served.post("/v1/orders", json=order, headers=headers).status_code == 503
    (tmp_path / FLAG).unlink()
    assert served.get("/readyz").get_json()["status"] == "ready"
    assert served.get("/v1/orders", headers=headers).get_json()["items"] == []
    assert served.post("/v1/orders", json=order, headers=headers).status_code == 201


Hold = Callable[[dict[str, str]], tuple[threading.Event, threading.Thread]]


@pytest.fixture
def held(served: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> Hold:
    """Start a request that stays in flight until its event is set."""

    def start(headers: dict[str, str]) -> tuple[threading.Event, threading.Thread]:
        inside, release = threading.Event(), threading.Event()

        def slow(*_: object) -> Principal | None:
            inside.set()
            release.wait(10)
            return None

        monkeypatch.setattr("tradefleet.domains.identity.services.find_principal", slow)
        thread = threading.Thread(target=lambda: served.get("/v1/orders", headers=headers))
        thread.start()
        assert inside.wait(10)
        return release, thread

    return start


def test_lock_waits_for_requests_that_began_before_the_flag(
    served: FlaskClient,
    tmp_path: Path,
    headers: dict[str, str],
    held: Hold,
) -> None:
    assert is_idle(tmp_path)
    release, thread = held(headers)
    (tmp_path / FLAG).touch()
    assert not is_idle(tmp_path)
    # Later requests are refused; neither they nor the operator's queries delay the lock.
    assert served.get("/v1/orders", headers=headers).status_code == 503
    assert served.get("/healthz").status_code == 200
    release.set()
    thread.join()
    assert is_idle(tmp_path)


def test_no_request_begins_while_the_lock_is_held(served: FlaskClient, tmp_path: Path, headers: dict[str, str]) -> None:
    with (tmp_path / "requests").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert served.get("/v1/orders", headers=headers).status_code == 503
        assert served.get("/readyz").status_code == 200
    assert served.get("/v1/orders", headers=headers).status_code == 200


def test_failed_request_or_process_is_no_longer_in_flight(
    served: FlaskClient, tmp_path: Path, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tradefleet.domains.identity.services.find_principal", lambda *_: 1 / 0)
    assert served.get("/v1/orders", headers=headers).status_code == 500
    assert is_idle(tmp_path)
    hold = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_SH); print(flush=True); input()"
    argv = [sys.executable, "-c", hold, str(tmp_path / "requests")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        assert not is_idle(tmp_path)
        process.kill()
    assert is_idle(tmp_path)


def test_503_is_returned_in_only_three_places() -> None:
    """Each promises that nothing was done: a fourth one needs thought and a test before it is added here."""
    package = Path(__file__).parents[2] / "app/tradefleet"
    saying = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(r"SERVICE_UNAVAILABLE|ServiceUnavailable|status_code = 503", path.read_text())
    }
    assert saying == {f"platform/{name}.py" for name in ("http/drain", "http/problems", "system/views")}
