"""The steps around every request: admission, id, time budget, headers, metrics and log line."""

import logging
import re
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask, Response, g, request

from tradefleet.platform import deadline
from tradefleet.platform.http import drain, measure
from tradefleet.platform.settings import Settings

# For all database work of a request: enough to wait for a switchover, and until another replica has replaced a
# synchronous standby that failed. Clients get a response within 8.5 s.
REQUEST_SECONDS = 8.0
_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

log = logging.getLogger("tradefleet.access")


def init_app(app: Flask, settings: Settings) -> None:
    """Wrap every request of `app`."""
    inner = app.wsgi_app
    gate = app.extensions["gate"] = drain.Gate(settings.drain_flag, settings.runtime_folder)

    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with measure.IN_FLIGHT.track_inprogress(), deadline.budget(REQUEST_SECONDS):
            if environ["PATH_INFO"] in drain.ALWAYS_OPEN:
                return inner(environ, start_response)
            with gate.passage() as admitted:
                environ[drain.ADMITTED] = admitted
                return inner(environ, start_response)

    app.wsgi_app = guarded  # type: ignore[method-assign]  # how Flask documents WSGI middleware
    app.before_request(_begin)
    app.before_request(_refuse)

    @app.after_request
    def _finish(response: Response) -> Response:
        response.headers["X-Release"] = settings.release.release
        response.headers["X-Color"] = settings.color
        response.headers["X-Request-Id"] = g.request_id
        principal = g.get("principal")
        seconds = time.monotonic() - g.began_at
        measure.finished(request.url_rule, request.method, response.status_code, seconds)
        log.info(
            "request",
            extra={
                "request_id": g.request_id,
                "method": request.method,
                "path": request.path,
                "status": response.status_code,
                "ms": round(seconds * 1000, 1),
                "trader": principal.name if principal else None,
                "color": settings.color,
                "release": settings.release.release,
            },
        )
        return response


def _begin() -> None:
    g.began_at = time.monotonic()
    given = request.headers.get("X-Request-Id", "")
    g.request_id = given if _SAFE_ID.fullmatch(given) else str(uuid.uuid4())


def _refuse() -> None:
    # Before the key or the body is read, because the edge sends the same request to another host.
    if not request.environ.get(drain.ADMITTED, True):
        raise drain.refusal(request.method)
