"""What the operator's machinery asks: alive, ready, and which version."""

import logging
from http import HTTPStatus

from flask import Blueprint, Response, current_app, jsonify
from sqlalchemy.exc import SQLAlchemyError

from tradefleet import deadline, schema
from tradefleet.contract import operation
from tradefleet.database import DatabaseUnavailableError
from tradefleet.extensions import cache, db, state
from tradefleet.settings import Settings
from tradefleet.system.schemas import Alive, Dependencies, Migration, Readiness, Version

# What these answers wait for the database: whoever asks wants to know now, and Redis is asked in what is left.
ASK_SECONDS = 1.0

blueprint = Blueprint("system", __name__)
log = logging.getLogger(__name__)


@blueprint.get("/healthz")
@operation(answers={HTTPStatus.OK: Alive})
def healthz() -> Response:
    """Say that the process answers; it asks nobody else."""
    return jsonify(Alive(status="ok").model_dump())


@blueprint.get("/readyz")
@operation(answers={HTTPStatus.OK: Readiness, HTTPStatus.SERVICE_UNAVAILABLE: Readiness})
def readyz() -> Response:
    """Name each dependency; only the database is needed to take orders, with a schema that carries this release."""
    has_database = True
    try:
        with deadline.budget(ASK_SECONDS):
            fit = db.read(lambda session: schema.misfit(session.connection())) or "ok"
        if fit != "ok":
            log.warning("not ready: the database's schema %s", fit)
    except (DatabaseUnavailableError, SQLAlchemyError) as error:
        log.warning("not ready: the database does not answer", exc_info=error)
        has_database, fit = False, "unknown"
    redis, cached = state.current.health(), cache.current.health()
    answer = Readiness(
        status="unavailable" if fit != "ok" else "degraded" if "down" in (redis, cached) else "ready",
        dependencies=Dependencies(database="ok" if has_database else "down", fit=fit, redis=redis, cache=cached),
    )
    response = jsonify(answer.model_dump())
    response.status_code = HTTPStatus.OK if fit == "ok" else HTTPStatus.SERVICE_UNAVAILABLE
    return response


@blueprint.get("/version")
@operation(answers={HTTPStatus.OK: Version})
def version() -> Response:
    """Say what runs, and which schema the code knows and the database has."""
    settings: Settings = current_app.extensions["settings"]
    try:
        with deadline.budget(ASK_SECONDS):
            current = db.read(lambda session: schema.current_revision(session.connection()))
    except (DatabaseUnavailableError, SQLAlchemyError) as error:
        log.warning("the database's revision is unknown", exc_info=error)
        current = None
    answer = Version(
        release=settings.release.release,
        commit=settings.release.commit,
        color=settings.color,
        migration=Migration(code=schema.head_revision(), database=current),
    )
    return jsonify(answer.model_dump())
