"""/v1/instruments: from HTTP to the service and back."""

from http import HTTPStatus

from flask import Blueprint, Response, jsonify

from tradefleet.domains.instruments import services
from tradefleet.domains.instruments.schemas import InstrumentList, InstrumentOut
from tradefleet.platform.extensions import db
from tradefleet.platform.http.contract import operation

blueprint = Blueprint("instruments", __name__, url_prefix="/v1")


@blueprint.get("/instruments")
@operation(answers={HTTPStatus.OK: InstrumentList}, problems=(503,))
def list_instruments() -> Response:
    """Return the instruments that can be traded. All clients get the same response; the edge caches it briefly."""
    found = db.read(services.listed)
    answer = InstrumentList(items=[InstrumentOut.model_validate(each) for each in found])
    return jsonify(answer.model_dump(mode="json"))
