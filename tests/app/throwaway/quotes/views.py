"""/v1/quotes: from HTTP to the service and back."""

from http import HTTPStatus

from flask import Blueprint, Response, jsonify
from tradefleet.platform import settings
from tradefleet.platform.extensions import db
from tradefleet.platform.http.contract import operation

from . import services
from .schemas import QuoteList, QuoteOut
from .settings import QuoteSettings

blueprint = Blueprint("quotes", __name__, url_prefix="/v1")


@blueprint.get("/quotes")
@operation(answers={HTTPStatus.OK: QuoteList}, problems=(503,))
def list_quotes() -> Response:
    """Return the number of quotes to any client."""
    limit = settings.current(QuoteSettings).limit
    return jsonify(QuoteList(count=db.read(lambda session: services.count(session, limit))).model_dump())


@blueprint.get("/quotes/<string:symbol>/<int:number>")
@operation(answers={HTTPStatus.OK: QuoteOut}, problems=(401, 404, 503))
def get_quote(symbol: str, number: int) -> Response:
    """Return one quote."""
    return jsonify(QuoteOut(symbol=symbol, number=number).model_dump())
