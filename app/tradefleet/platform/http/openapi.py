"""The OpenAPI 3.1 document, made from the routes and their models, at /openapi.json."""

import re
from http import HTTPStatus
from typing import Any

from flask import Blueprint, Flask, Response, current_app, jsonify
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema
from werkzeug.routing import Rule

from tradefleet.platform.http.contract import Operation
from tradefleet.platform.http.guard import public_endpoints
from tradefleet.platform.http.problems import MEDIA_TYPE, ProblemDocument

blueprint = Blueprint("openapi", __name__)

Document = dict[str, Any]
# Responses of the edge instead of the application, to any request; a 503 of either has the same form.
EDGE_PROBLEMS = (400, 403, 413, 414, 421, 429, 502, 503, 504)


@blueprint.get("/openapi.json")
def document() -> Response:
    """Return the document of this application."""
    return jsonify(describe(current_app))


def describe(app: Flask) -> Document:
    """Build the document from every route that has an `operation` as its view."""
    operations = [
        (rule, found)
        for rule in app.url_map.iter_rules()
        if isinstance(found := getattr(app.view_functions[rule.endpoint], "operation", None), Operation)
    ]
    schemas = _schemas([found for _, found in operations])
    paths: dict[str, Document] = {}
    for rule, found in operations:
        path = re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", rule.rule)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            paths.setdefault(path, {})[method.lower()] = _operation(app, rule, found)
    return {
        "openapi": "3.1.0",
        "info": {"title": "TradeFleet", "version": "1"},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def _schemas(operations: list[Operation]) -> Document:
    taken = {found.inputs["body"] for found in operations if "body" in found.inputs}
    given: set[type[BaseModel]] = {ProblemDocument}
    for found in operations:
        given.update(found.answers.values())
    ordered = [(model, "validation") for model in taken] + [(model, "serialization") for model in given]
    ordered.sort(key=lambda pair: pair[0].__name__)  # for the same document every time
    # a list of pairs; pydantic's annotation wants their literals kept
    _, definitions = models_json_schema(ordered, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    schemas: Document = definitions["$defs"]
    return schemas


def _operation(app: Flask, rule: Rule, found: Operation) -> Document:
    view = app.view_functions[rule.endpoint]
    described: Document = {
        "operationId": rule.endpoint.replace(".", "_"),
        "summary": (view.__doc__ or "").partition("\n")[0],
        "parameters": [*_path_parameters(rule, found), *_parameters(found, "query"), *_parameters(found, "headers")],
        "responses": _responses(found),
        "security": [] if rule.endpoint in public_endpoints(app) else [{"key": []}],
    }
    if "body" in found.inputs:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _reference(found.inputs["body"])}},
        }
    return described


def _responses(found: Operation) -> Document:
    responses = {
        str(int(status)): _answer(status, "application/json", model) | _headers(found)
        for status, model in found.answers.items()
    }
    for status in sorted({*found.problems, *EDGE_PROBLEMS}):
        problem = _answer(status, MEDIA_TYPE, ProblemDocument)
        # Both may send a status: a 503 of /readyz is the application's, or the edge's during maintenance.
        responses.setdefault(str(status), problem)["content"].update(problem["content"])
    return responses


def _path_parameters(rule: Rule, found: Operation) -> list[Document]:
    return [
        {"name": name, "in": "path", "required": True, "schema": TypeAdapter(found.path[name]).json_schema()}
        for name in sorted(rule.arguments)
    ]


def _parameters(found: Operation, location: str) -> list[Document]:
    if location not in found.inputs:
        return []
    schema = found.inputs[location].model_json_schema()
    return [
        {
            "name": name,
            "in": location.removesuffix("s"),
            "required": name in schema.get("required", ()),
            "schema": _sendable(field),
        }
        for name, field in schema["properties"].items()
    ]


def _sendable(field: Document) -> Document:
    """Return the schema of a parameter without null, because only its absence can mean that."""
    options: list[Document] = [option for option in field.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) != 1:
        return field
    return options[0] | {name: value for name, value in field.items() if name not in ("anyOf", "default")}


def _answer(status: int, media_type: str, model: type[BaseModel]) -> Document:
    return {
        "description": HTTPStatus(status).phrase,
        "content": {media_type: {"schema": _reference(model)}},
    }


def _headers(found: Operation) -> Document:
    described = {
        name: {"description": said, "schema": {"type": "string"}} for name, said in sorted(found.headers.items())
    }
    return {"headers": described} if described else {}


def _reference(model: type[BaseModel]) -> Document:
    return {"$ref": f"#/components/schemas/{model.__name__}"}
