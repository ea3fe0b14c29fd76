"""Activity: what happened to a trader's orders."""

from tradefleet.domains.activity import models, services, views
from tradefleet.domains.orders.services import ACCEPTED
from tradefleet.platform.application import Application


def register(app: Application) -> None:
    """Declare the table, the view, and the effect of an accepted order."""
    app.add_models(models.Activity)
    app.add_views(views.blueprint)
    app.add_handler(ACCEPTED, services.record)
