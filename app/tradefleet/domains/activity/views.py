"""/v1/activity: from HTTP to the service and back."""

from http import HTTPStatus

from flask import Blueprint, Response, jsonify

from tradefleet.domains.activity import services
from tradefleet.domains.activity.schemas import ActivityOut, ActivityPage
from tradefleet.platform.extensions import replicas
from tradefleet.platform.http.contract import operation
from tradefleet.platform.http.guard import current_principal
from tradefleet.platform.paging import PageQuery, encode_cursor
from tradefleet.platform.postgres.replicas import HEADER

blueprint = Blueprint("activity", __name__, url_prefix="/v1")


@blueprint.get("/activity")
@operation(
    answers={HTTPStatus.OK: ActivityPage},
    problems=(401, 404, 422, 503),
    headers={HEADER: "The server that was read: primary, or replica, which may lag behind."},
)
def list_activity(query: PageQuery) -> Response:
    """Return what happened to the caller's orders, the latest first, page by page.

    A worker records it a moment after the response to the order.
    """
    trader_id, after = current_principal().trader_id, query.position()
    found = replicas.read(trader_id, lambda session: services.page(session, trader_id, query.limit, after))
    items, end = found.value
    answer = ActivityPage(
        items=[ActivityOut.model_validate(item) for item in items], next_cursor=encode_cursor(end) if end else None
    )
    response = jsonify(answer.model_dump(mode="json"))
    response.headers[HEADER] = found.source
    return response
