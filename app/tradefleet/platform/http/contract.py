"""The inputs and outputs of an operation, declared once, in a view's annotations, for validation and for OpenAPI."""

import json
from collections.abc import Callable, Mapping
from functools import wraps
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, TypeVar, cast, get_type_hints

from flask import Response, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import UnsupportedMediaType

from tradefleet.platform.http.problems import FieldError, ProblemError

# The parameters of a view that come from the request, by their names.
LOCATIONS = ("body", "query", "headers")

View = TypeVar("View", bound=Callable[..., Response])


class Operation:
    """The models of a view: of its inputs by location, of its outputs by status."""

    def __init__(
        self,
        view: Callable[..., Response],
        answers: Mapping[int, type[BaseModel]],
        problems: tuple[int, ...],
        headers: Mapping[str, str],
    ) -> None:
        hints = get_type_hints(view)
        self.inputs: dict[str, type[BaseModel]] = {name: hints[name] for name in LOCATIONS if name in hints}
        # The type of each parameter of the path, which the converter in the route creates.
        self.path: dict[str, Any] = {name: hint for name, hint in hints.items() if name not in (*LOCATIONS, "return")}
        self.answers = answers
        self.problems = problems
        self.headers = headers

    def read_request(self) -> dict[str, BaseModel]:
        """Return the checked inputs by location.

        Raises:
            ProblemError: 400, 415 or 422; a 422 lists every error of the first location with errors.
            werkzeug.exceptions.RequestEntityTooLarge: the body is over the limit.

        """
        readers = {"headers": _read_headers, "query": _read_query, "body": _read_body}
        return {name: _check(name, readers[name](model), model) for name, model in self.inputs.items()}


def operation(
    *,
    answers: Mapping[int, type[BaseModel]],
    problems: tuple[int, ...] = (),
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Callable[[View], View]:
    """Validate requests against the models that annotate the view's `body`, `query` and `headers`.

    `answers`, `problems` and the `headers` of answers, with their descriptions, are for the OpenAPI document only.
    """

    def decorate(view: View) -> View:
        described = Operation(view, answers, problems, headers)

        @wraps(view)
        def checked(**path: Any) -> Response:
            return view(**path, **described.read_request())

        checked.__dict__["operation"] = described
        return cast(View, checked)

    return decorate


def _read_headers(model: type[BaseModel]) -> Any:
    names = [field.alias or name for name, field in model.model_fields.items()]
    return {name: request.headers[name] for name in names if name in request.headers}


def _read_query(model: type[BaseModel]) -> Any:
    return request.args.to_dict()


def _read_body(model: type[BaseModel]) -> Any:
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("Send the body as application/json.")
    try:
        # ValueError covers broken JSON and broken UTF-8; thousands of brackets cause a RecursionError.
        return json.loads(request.get_data())
    except (ValueError, RecursionError) as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "The body is not JSON.") from error


def _check(location: str, values: Any, model: type[BaseModel]) -> BaseModel:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "The request is not valid.",
            errors=[
                FieldError(field=".".join([location, *map(str, item["loc"])]), message=item["msg"])
                for item in error.errors(include_url=False, include_input=False, include_context=False)
            ],
        ) from error
