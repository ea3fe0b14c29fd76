"""Error responses of the application, each an RFC 9457 problem document."""

import logging
from collections.abc import Mapping
from http import HTTPStatus

from flask import Flask, Response, g, jsonify, request
from pydantic import BaseModel, Field
from werkzeug.exceptions import HTTPException

from tradefleet.platform.postgres.database import DatabaseUnavailableError, OutcomeUnknownError

MEDIA_TYPE = "application/problem+json"

log = logging.getLogger(__name__)


class FieldError(BaseModel):
    """An error in one part of a request."""

    field: str = Field(description="Where: body, query or headers, then the path to the value.")
    message: str


class ProblemDocument(BaseModel):
    """An error response, as RFC 9457 describes it."""

    type: str = Field(description="Kind of problem; about:blank if the status is sufficient.")
    title: str
    status: int
    detail: str
    instance: str = Field(default="", description="Path of the request; absent if the edge could not read one.")
    request_id: str
    errors: list[FieldError] | None = None


class ProblemError(Exception):
    """An error response, which views and hooks raise."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        errors: list[FieldError] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Set the status, a sentence for the client, errors by field, and additional headers."""
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})


def _answer(problem: ProblemError) -> Response:
    document = ProblemDocument(
        type="about:blank",
        title=problem.status.phrase,
        status=problem.status,
        detail=problem.detail,
        instance=request.path,
        request_id=g.request_id,
        errors=problem.errors,
    )
    response = jsonify(document.model_dump(mode="json", exclude_none=True))
    response.status_code = problem.status
    response.mimetype = MEDIA_TYPE
    response.headers.update(problem.headers)
    return response


def _from_http(error: HTTPException) -> Response:
    response = _answer(ProblemError(HTTPStatus(error.code or 500), error.description or ""))
    for name, value in error.get_headers(request.environ):  # Allow on a 405
        if name.lower() not in {"content-type", "content-length"}:
            response.headers[name] = value
    return response


def _from_unavailable(error: DatabaseUnavailableError) -> Response:
    log.error("the database is unavailable", exc_info=error)
    return _answer(
        ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "The database is not reachable. Nothing was done; try again.",
            headers={"Retry-After": "1"},
        )
    )


def _from_unknown(error: OutcomeUnknownError) -> Response:
    log.error("the outcome of a commit is unknown", exc_info=error)
    return _answer(
        ProblemError(
            HTTPStatus.GATEWAY_TIMEOUT,
            "The outcome is unknown. Send the same request with the same Idempotency-Key again to learn it.",
            headers={"Retry-After": "1"},
        )
    )


def _from_bug(error: Exception) -> Response:
    log.error("unhandled exception", exc_info=error)
    return _answer(ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, "The application failed; its log has the reason."))


def init_app(app: Flask) -> None:
    """Convert every exception of a view or a hook to a problem document."""
    app.register_error_handler(ProblemError, _answer)
    app.register_error_handler(HTTPException, _from_http)
    app.register_error_handler(DatabaseUnavailableError, _from_unavailable)
    app.register_error_handler(OutcomeUnknownError, _from_unknown)
    app.register_error_handler(Exception, _from_bug)
