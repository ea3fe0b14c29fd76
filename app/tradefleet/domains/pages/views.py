"""The web page and its static files."""

from flask import Blueprint, Response, make_response, render_template, request, send_from_directory
from werkzeug.exceptions import NotFound

from tradefleet.domains.pages import assets

# The contents of a name never change; the edge sends the same header.
KEEP = "public, max-age=31536000, immutable"

blueprint = Blueprint("pages", __name__, template_folder="templates")


@blueprint.get("/")
def index() -> Response:
    """Return the page. Its address never changes, so browsers revalidate it each time."""
    response = make_response(render_template("index.html", asset=assets.address))
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag()
    response.make_conditional(request)
    return response


@blueprint.get("/static/<path:filename>")
def asset(filename: str) -> Response:
    """Return a file of this release. In a fleet the edge does that, and also has the files of former releases."""
    stored = {served: name for name, served in assets.names().items()}.get(filename)
    if stored is None:
        raise NotFound("The file does not exist.")
    response = send_from_directory(assets.FOLDER, stored)
    response.headers["Cache-Control"] = KEEP
    return response
