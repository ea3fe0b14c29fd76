"""The views for probes and operators: health, readiness and version."""

import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal

from flask import Blueprint, Response, current_app, jsonify
from sqlalchemy import text
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from tradefleet.platform import deadline
from tradefleet.platform.events import failures, outbox
from tradefleet.platform.extensions import cache, db, state
from tradefleet.platform.http import drain
from tradefleet.platform.http.contract import operation
from tradefleet.platform.postgres import migrator
from tradefleet.platform.postgres.database import DatabaseUnavailableError
from tradefleet.platform.settings import Settings
from tradefleet.platform.system.schemas import Alive, Dependencies, Migration, Readiness, Version

# Seconds for which these views wait for the database, because probes need a quick answer. Redis gets the rest.
ASK_SECONDS = 1.0
# Of that, for each query of the outbox.
LOOK_MILLISECONDS = 200

blueprint = Blueprint("system", __name__)
log = logging.getLogger(__name__)


@blueprint.get("/healthz")
@operation(answers={HTTPStatus.OK: Alive})
def healthz() -> Response:
    """Return that the process responds, without using a dependency."""
    return jsonify(Alive(status="ok").model_dump())


@blueprint.get("/readyz")
@operation(answers={HTTPStatus.OK: Readiness, HTTPStatus.SERVICE_UNAVAILABLE: Readiness})
def readyz() -> Response:
    """Return the state of each dependency. Orders need only the database, with a schema that this release can use."""
    has_database = True
    events = Events()
    try:
        with deadline.budget(ASK_SECONDS):
            fit, events = db.read(_ask)
        if fit != "ok":
            log.warning("not ready: the database's schema %s", fit)
    except (DatabaseUnavailableError, SQLAlchemyError) as error:
        log.warning("not ready: the database is unreachable", exc_info=error)
        has_database, fit = False, "unknown"
    redis, cached = state.current.health(), cache.current.health()
    gate: drain.Gate = current_app.extensions["gate"]
    is_draining = gate.is_closed()
    answer = Readiness(
        status=_status(is_draining=is_draining, is_fit=fit == "ok", is_whole="down" not in (redis, cached)),
        dependencies=Dependencies(database="ok" if has_database else "down", fit=fit, redis=redis, cache=cached),
        outbox_seconds=events.seconds,
        outbox_events=events.waiting,
        outbox_failed=events.failed,
    )
    response = jsonify(answer.model_dump())
    response.status_code = HTTPStatus.OK if fit == "ok" and not is_draining else HTTPStatus.SERVICE_UNAVAILABLE
    if is_draining:
        response.headers.update(drain.headers("GET"))
    return response


@dataclass(frozen=True)
class Events:
    """The age of the oldest event, and how many wait or were set aside; None if unknown."""

    seconds: float | None = None
    waiting: int | None = None
    failed: int | None = None


def _ask(session: Session) -> tuple[str, Events]:
    """Return the state of the schema and the events. A slow query of these must not take a host out of service."""
    fit = migrator.misfit(session.connection()) or "ok"
    if fit != "ok":
        return fit, Events()
    backlog: outbox.Backlog = current_app.extensions["backlog"]
    try:
        if session.get_bind().dialect.name == "postgresql":
            session.execute(text(f"SET LOCAL statement_timeout = {LOOK_MILLISECONDS}"))
        return fit, Events(*outbox.waiting(backlog, session), failures.count(session))
    except OperationalError as error:
        if error.connection_invalidated:
            raise
        log.warning("the state of the outbox is unknown", exc_info=error)
        return fit, Events()


def _status(
    *, is_draining: bool, is_fit: bool, is_whole: bool
) -> Literal["draining", "unavailable", "degraded", "ready"]:
    # The dependencies in the same response show whether a draining host would be ready.
    if is_draining:
        return "draining"
    if not is_fit:
        return "unavailable"
    return "ready" if is_whole else "degraded"


@blueprint.get("/version")
@operation(answers={HTTPStatus.OK: Version})
def version() -> Response:
    """Return the running release, and the migrations of the code and of the database."""
    settings: Settings = current_app.extensions["settings"]
    try:
        with deadline.budget(ASK_SECONDS):
            current = db.read(lambda session: migrator.current_revision(session.connection()))
    except (DatabaseUnavailableError, SQLAlchemyError) as error:
        log.warning("the database's revision is unknown", exc_info=error)
        current = None
    answer = Version(
        release=settings.release.release,
        commit=settings.release.commit,
        color=settings.color,
        migration=Migration(code=migrator.head_revision(), database=current),
    )
    return jsonify(answer.model_dump())
