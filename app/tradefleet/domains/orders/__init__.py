"""Placing and finding orders."""

from tradefleet.domains.orders import models, views
from tradefleet.platform.application import Application


def register(app: Application) -> None:
    """Declare the table and the views."""
    app.add_models(models.Order)
    app.add_views(views.blueprint)
