"""The application keeps its OpenAPI document's word."""

import threading

from contract import findings
from flask import Flask
from werkzeug.serving import make_server

from .conftest import KEYS


def test_every_answer_is_as_the_document_states(app: Flask) -> None:
    """All checks of schemathesis, a few requests each; the fleet test sends more, through the edge."""
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
