"""The application conforms to its OpenAPI document."""

import threading
import uuid

from contract import findings
from flask import Flask
from werkzeug.routing import IntegerConverter, UnicodeConverter, UUIDConverter
from werkzeug.serving import make_server

from .conftest import KEYS


def test_every_response_conforms_to_the_document(app: Flask) -> None:
    """All checks of schemathesis run with a few requests each; the fleet test sends more, through the edge."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        quick = ("--phases", "examples,coverage,fuzzing")
        assert findings(url, KEYS["alice"], *quick, seconds=120, examples=4) == ""
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


def test_a_path_parameter_has_the_type_that_its_converter_makes(app: Flask) -> None:
    """The document states the type of the annotation."""
    made = {UUIDConverter: uuid.UUID, IntegerConverter: int, UnicodeConverter: str}
    for rule in app.url_map.iter_rules():
        operation = getattr(app.view_functions[rule.endpoint], "operation", None)
        if operation is not None:
            converters = {name: made[type(converter)] for name, converter in rule._converters.items()}
            assert operation.path == converters, rule.rule
