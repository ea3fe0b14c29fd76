"""/v1/orders: from HTTP to the service and back."""

import uuid
from http import HTTPStatus
from typing import Any

from flask import Blueprint, Response, jsonify, url_for
from pydantic import BaseModel

from tradefleet.domains.orders import metrics, services
from tradefleet.domains.orders.schemas import OrderHeaders, OrderIn, OrderOut, OrderPage
from tradefleet.platform.extensions import db, replicas
from tradefleet.platform.http.contract import operation
from tradefleet.platform.http.guard import current_principal
from tradefleet.platform.http.problems import FieldError, ProblemError
from tradefleet.platform.paging import PageQuery, encode_cursor
from tradefleet.platform.postgres.replicas import HEADER, Answer

blueprint = Blueprint("orders", __name__, url_prefix="/v1")

_READ_HEADERS = {
    HEADER: "The server that was read: primary, or replica, which has all writes of this trader and may lack others."
}


@blueprint.post("/orders")
@operation(answers={HTTPStatus.CREATED: OrderOut}, problems=(400, 401, 413, 415, 422, 503, 504))
def place_order(body: OrderIn, headers: OrderHeaders) -> Response:
    """Place an order, once for each Idempotency-Key."""
    trader_id, new = current_principal().trader_id, body.to_new_order()
    replicas.will_write(trader_id)
    try:
        with metrics.failures(new.type):
            placed = db.transact(
                lambda session: services.place(session, trader_id, headers.idempotency_key, new), idempotent=True
            )
    except services.UnknownSymbolError as error:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "The request is not valid.",
            errors=[FieldError(field="body.symbol", message="there is no such instrument")],
        ) from error
    except services.KeyReusedError as error:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "This Idempotency-Key was used for another order.",
            errors=[FieldError(field="headers.Idempotency-Key", message="was used for another order")],
        ) from error
    metrics.stored(new.type, is_replay=placed.is_replay)
    response = jsonify(OrderOut.of(placed.order).model_dump(mode="json"))
    response.status_code = HTTPStatus.CREATED
    response.headers["Location"] = url_for("orders.get_order", order_id=placed.order.id)
    if placed.is_replay:
        response.headers["Idempotency-Replayed"] = "true"
    return response


@blueprint.get("/orders/<uuid:order_id>")
@operation(answers={HTTPStatus.OK: OrderOut}, problems=(401, 404, 503), headers=_READ_HEADERS)
def get_order(order_id: uuid.UUID) -> Response:
    """Return one of the caller's orders."""
    trader_id = current_principal().trader_id
    try:
        found = replicas.read(trader_id, lambda session: services.find(session, trader_id, order_id))
    except services.OrderNotFoundError as error:
        raise ProblemError(HTTPStatus.NOT_FOUND, "You have no such order.") from error
    return _answer(found, OrderOut.of(found.value))


@blueprint.get("/orders")
@operation(answers={HTTPStatus.OK: OrderPage}, problems=(401, 404, 422, 503), headers=_READ_HEADERS)
def list_orders(query: PageQuery) -> Response:
    """Return the caller's orders, newest first, page by page."""
    trader_id, after = current_principal().trader_id, query.position()
    found = replicas.read(trader_id, lambda session: services.page(session, trader_id, query.limit, after))
    orders, end = found.value
    answer = OrderPage(
        items=[OrderOut.of(order) for order in orders],
        next_cursor=encode_cursor(end) if end else None,
    )
    return _answer(found, answer)


def _answer(found: Answer[Any], body: BaseModel) -> Response:
    response = jsonify(body.model_dump(mode="json"))
    response.headers[HEADER] = found.source
    return response
